"""Two requests for one batch: the second uses what is extracted for the first, unless its own extract is run again."""

import logging
from pathlib import Path

import pytest

from dev.world import World, batch_world, request_row
from progress_exhaust.errors import SourceError
from progress_exhaust.extract import enrolment_reading
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.staging.manifests import ExtractManifest
from tests.integration.extract_context import extract, extract_context, prepared
from tests.integration.install import Install

Contexts = tuple[BatchContext, BatchContext]
COPIED = "uses what was extracted for request"


@pytest.fixture
def world(install: Install) -> World:
    """Load one batch that two people of an org asked for."""
    made = batch_world(60, 10, nested=1, assessments=2, leaves=5)
    [first] = made.requests
    at = first["dt_job_submitted"]
    made.requests.append(
        request_row(first["request_data"], label="another", channel=first["requested_channel"], by="another", at=at)
    )
    install.load(made)
    return made


@pytest.fixture
def contexts(install: Install, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contexts:
    """Return the extract of each request, of which neither is done."""
    first = extract_context(install, tmp_path, monkeypatch, learners_per_part=25, processes_per_task=1)
    [other] = [run.batch for run in first.ledger.run_batches() if run.batch != first.batch]
    assert len(world.requests) == 2
    return first, prepared(first.for_batch(other))


def test_a_batch_is_read_once_for_all_who_ask_for_it(contexts: Contexts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, second = contexts
    counts = extract(first)
    assert COPIED not in caplog.text
    assert extract(second) == counts
    assert f"{COPIED} {first.batch.request_id}" in caplog.text
    for number in range(3):
        assert second.staging.facts_chunk(number).read_bytes() == first.staging.facts_chunk(number).read_bytes()


def test_an_extract_that_is_run_again_copies_nothing_older(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = contexts
    extract(first)
    extract(second)
    as_of = second.staging.read(ExtractManifest).as_of
    with monkeypatch.context() as broken:
        broken.setattr(enrolment_reading, "open_enrolments", _fails)
        with pytest.raises(SourceError):
            extract(second)
    caplog.clear()
    extract(second)
    assert COPIED not in caplog.text
    assert second.staging.read(ExtractManifest).as_of > as_of


def _fails(*_arguments: object) -> None:
    raise SourceError("Cassandra does not answer")
