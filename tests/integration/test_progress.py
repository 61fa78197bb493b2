"""How far long work is: in the task's log and in the ledger."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dev.world import batch_world
from progress_exhaust.extract.enrolment_reading import SHARE_OF_ENROLMENT_SCAN
from progress_exhaust.hooks.requests.models import PROGRESS_KEYS, BatchState, Stage
from progress_exhaust.stages import progress as progress_module
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.progress import LEARNERS, Progress
from progress_exhaust.staging.manifests import ExtractManifest
from tests.integration.extract_context import extract, extract_context
from tests.integration.install import Install


@pytest.fixture
def context(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchContext:
    install.load(batch_world(3, 0, nested=1, assessments=1, leaves=3))
    return extract_context(install, tmp_path, monkeypatch, learners_per_chunk=1)


def test_learners_are_counted_in_the_log_and_in_the_ledger(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress(context, LEARNERS, 1000, share=(0.5, 1))
    progress.add(100)
    assert not caplog.messages  # a report comes every few seconds
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_REPORTS", 0)
    progress.add(300)
    [reported] = caplog.messages
    assert (
        reported.startswith(f"{context.batch}: 400 of 1,000 learners, ")
        and " a second, " in reported
        and reported.endswith(" s left")
    )
    kept = context.ledger.batch_run(context.batch)
    assert kept is not None and (kept.counts["learners_done"], kept.counts["percent"]) == (400, 70)
    rate = reported.replace(",", "").split(" learners ")[1].partition(" a second ")[0]
    assert kept.counts["learners_per_second"] == int(rate)


def test_the_work_of_an_earlier_attempt_does_not_count_for_the_speed(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_REPORTS", 0)
    progress = Progress(context, LEARNERS, 1000, share=(0, 1))
    progress.skip(400)
    progress.add(0)
    assert caplog.messages == [f"{context.batch}: 400 of 1,000 learners, 0 a second"]
    kept = context.ledger.batch_run(context.batch)
    assert kept is not None and kept.counts["learners_done"] == 400 and "seconds_left" not in kept.counts


def test_a_restarted_stage_has_done_nothing_and_taken_no_time(context: BatchContext) -> None:
    before = context.ledger.batch_run(context.batch)
    assert before is not None and {"extract", "pivot"} <= before.seconds.keys()
    context.report_progress({"learners_done": 2, "learners_per_second": 1, "seconds_left": 1})
    context.ledger.record(context.batch, stage=Stage.EXTRACT, state=BatchState.FAILED, error="interrupted")
    failed = context.ledger.batch_run(context.batch)
    assert failed is not None and failed.counts == before.counts | {
        "learners_done": 2,
        "learners_per_second": 1,
        "seconds_left": 1,
    }
    context.ledger.record(context.batch, stage=Stage.EXTRACT, state=BatchState.RUNNING)
    begun = context.ledger.batch_run(context.batch)
    assert begun is not None and begun.counts == before.counts
    assert begun.seconds.keys() == before.seconds.keys() - {"extract"}


def test_the_time_left_is_that_of_the_whole_stage(context: BatchContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the scan, the stage took half a minute. A scan is a quarter of it, and half of that took half a minute more."""
    context = replace(context, started=0)
    clock = iter([30, 60])
    monkeypatch.setattr(progress_module, "monotonic", lambda: next(clock))
    reported: list[dict[str, int]] = []
    monkeypatch.setattr(BatchContext, "report_progress", lambda _context, counts: reported.append(dict(counts)))
    Progress(context, "ranges scanned", 10, share=(0, 0.25)).add(5)
    assert reported == [{"percent": 12, "seconds_left": 420}]


@pytest.mark.parametrize(
    ("strategy", "table"),
    [("partitions", "enrolments_by_batch"), ("scan", "enrolments_by_batch"), ("scan", "enrolments_by_user")],
)
def test_an_extract_reports_its_learners_and_how_far_it_is(
    context: BatchContext, install: Install, monkeypatch: pytest.MonkeyPatch, strategy: str, table: str
) -> None:
    chosen = {"read_strategy": strategy, "enrolments_table": getattr(install.names, table)}
    context = replace(context, site=replace(context.site, settings=context.site.settings.model_copy(update=chosen)))
    kept: list[Mapping[str, int]] = []

    def report(context: BatchContext, counts: Mapping[str, int]) -> None:
        written(context, counts)
        found = context.ledger.batch_run(context.batch)
        assert found is not None
        kept.append({name: number for name, number in found.counts.items() if name in PROGRESS_KEYS})

    written = BatchContext.report_progress
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_REPORTS", 0)
    monkeypatch.setattr(BatchContext, "report_progress", report)
    extract(context)
    assert [counts["learners_done"] for counts in kept[-3:]] == [1, 2, 3]
    percents = [counts["percent"] for counts in kept]
    assert percents == sorted(percents) and (percents[-1], kept[-1]["seconds_left"]) == (100, 0)
    scanned = [counts["percent"] for counts in kept if "learners_done" not in counts]
    assert (len(set(scanned)) > 2) == (strategy == "scan")
    counted = next(counts["percent"] for counts in kept if "seconds_left" not in counts)  # once it is known how many there are
    assert counted == (100 * SHARE_OF_ENROLMENT_SCAN if table == "enrolments_by_user" else 0)
    # A retry counts what is there already, before it continues.
    context.staging.delete_manifest(ExtractManifest)
    Path(context.staging.facts_chunk(2).path).unlink()
    kept.clear()
    extract(context)
    assert [counts.get("learners_done") for counts in kept] == [None, 3]


def test_other_work_is_reported_in_the_log_only(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_REPORTS", 0)
    assert list(Progress(context, "chunks written", 2).track("ab")) == ["a", "b"]
    first, second = caplog.messages
    assert first.startswith(f"{context.batch}: 1 of 2 chunks written, ") and second.startswith(
        f"{context.batch}: 2 of 2 chunks written, "
    )
    kept = context.ledger.batch_run(context.batch)
    assert kept is not None and "learners_done" not in kept.counts
