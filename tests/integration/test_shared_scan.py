"""The scan that all batches of a run share: how many files it writes, and what a killed one or a newer one changes."""

import logging
from pathlib import Path

import pytest

from dev.world import World, many_batches_world
from progress_exhaust.extract import scan_files, shared_scan
from progress_exhaust.report.request import Batch
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.staging.manifests import ExtractManifest
from tests.integration.extract_context import extract, extract_context, prepared
from tests.integration.install import Install

BATCHES, LEARNERS_EACH = 3, 12
TABLES = {"enrolments", "user_activity_agg", "assessment_aggregator"}


@pytest.fixture
def world(install: Install) -> World:
    made = many_batches_world(BATCHES, LEARNERS_EACH)
    install.load(made)
    return made


@pytest.fixture
def contexts(install: Install, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Batch, BatchContext]:
    """Return the extract of each batch, of which none is done."""
    first = extract_context(
        install,
        tmp_path / "staging",
        monkeypatch,
        enrolments_table=install.names.enrolments_by_user,
        learners_per_chunk=5,
        read_strategy="scan",
        processes_per_task=1,
    )
    found = {run.batch: prepared(first.for_batch(run.batch)) for run in first.ledger.run_batches()}
    for context in found.values():
        context.report_progress({})  # a running batch, which needs the tables
    assert len(found) == BATCHES
    return found


def files(contexts: dict[Batch, BatchContext]) -> list[Path]:
    """Return the files of all scans."""
    store, run_id = next(iter(contexts.values())).site.store(), next(iter(contexts.values())).site.run_id
    folder = Path(store.shared_folder(run_id).path) / "scans"
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def chunks(contexts: dict[Batch, BatchContext]) -> dict[Batch, list[bytes]]:
    """Return the facts chunks of each batch."""
    return {
        batch: [
            context.staging.facts_chunk(number).read_bytes()
            for number in range(context.staging.read(ExtractManifest).chunks)
        ]
        for batch, context in contexts.items()
    }  # fmt: skip


def test_a_scan_writes_one_file_for_all_batches_and_one_decision(
    contexts: dict[Batch, BatchContext], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for context in contexts.values():
        assert extract(context)["enrolled"] > 0
    assert caplog.text.count(f"for {BATCHES} batches of this run") == len(TABLES)
    assert {path.parts[0] for path in files(contexts)} == TABLES
    for table in TABLES:
        assert [path.suffix for path in files(contexts) if path.parts[0] == table] == [".arrow", ".json"]


@pytest.mark.slow
def test_many_small_files_give_the_same_bytes(contexts: dict[Batch, BatchContext], monkeypatch: pytest.MonkeyPatch) -> None:
    for context in contexts.values():
        extract(context)
    of_one_file = chunks(contexts)
    monkeypatch.setattr(scan_files.write_scan_files, "__kwdefaults__", {"bytes_per_file": 1})
    for context in contexts.values():
        extract(context)  # it has finished, and so reads everything again
    assert len(files(contexts)) > 4 * len(TABLES)
    assert chunks(contexts) == of_one_file


def test_a_batch_that_extracts_again_leaves_the_files_of_the_others(contexts: dict[Batch, BatchContext]) -> None:
    one, *others = contexts.values()
    extract(one)
    before = {path: path for path in files(contexts)}
    whole = chunks({one.batch: one})
    extract(one)
    again = files(contexts)
    assert len(again) == 2 * len(before) and set(before) <= set(again)
    assert chunks({one.batch: one}) == whole
    for context in others:
        extract(context)
    assert files(contexts) == again


def test_a_scan_that_is_killed_before_its_decision_is_made_again(
    contexts: dict[Batch, BatchContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, *_ = contexts.values()
    with monkeypatch.context() as killed:
        killed.setattr(shared_scan, "write_atomically", _killed)
        with pytest.raises(SystemExit):
            extract(one)
    [left] = files(contexts)
    assert left.suffix == ".arrow"
    for context in contexts.values():
        extract(context)
    of_a_killed_scan = chunks(contexts)
    for context in contexts.values():
        extract(context)
    assert chunks(contexts) == of_a_killed_scan


def _killed(*_arguments: object) -> None:
    raise SystemExit
