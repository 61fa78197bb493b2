"""Two requests for one batch: what is read for the first serves the second, unless that one's is wanted anew."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from progress_exhaust.operators.stage import EXTRACT_FILE, Work

from dev.world import World, batch_world, request_row
from progress_exhaust.errors import SourceError
from progress_exhaust.operators.extract import ExtractOperator
from tests.integration.install import Install
from tests.integration.stage_work import begun, stage_work

SERVES = "serves this one too"


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
def works(install: Install, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Work, Work]:
    """Return the extract of each request, of which neither is done."""
    first = stage_work(install, tmp_path, monkeypatch, learners_per_chunk=25, processes_per_task=1)
    [other] = [run.batch for run in first.requests.run_batches() if run.batch != first.batch]
    assert len(world.requests) == 2
    return first, begun(replace(first, batch=other, folder=first.site.store().batch_folder(first.site.run_id, other)))


def extract(work: Work) -> dict[str, int]:
    return ExtractOperator(task_id="extract", batch={}).make(work)  # type: ignore[no-any-return]


def test_a_batch_is_read_once_for_all_who_ask_for_it(works: tuple[Work, Work], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, second = works
    counts = extract(first)
    assert SERVES not in caplog.text
    assert extract(second) == counts
    assert f"{first.batch.request_id} {SERVES}" in caplog.text
    assert [second.part(number).read_bytes() for number in range(3)] == [first.part(number).read_bytes() for number in range(3)]


def test_an_extract_that_is_wanted_anew_takes_over_nothing_older(
    works: tuple[Work, Work], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = works
    extract(first)
    extract(second)
    as_of = second.read(EXTRACT_FILE)["as_of"]
    with monkeypatch.context() as broken:
        broken.setattr(ExtractOperator, "_enrolments", _breaks_off)
        with pytest.raises(SourceError):
            extract(second)
    caplog.clear()
    extract(second)
    assert SERVES not in caplog.text
    assert second.read(EXTRACT_FILE)["as_of"] > as_of


def _breaks_off(*_arguments: object) -> None:
    raise SourceError("Cassandra does not answer")
