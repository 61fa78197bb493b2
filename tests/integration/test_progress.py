"""How far long work is: in the task's log, and in the ledger."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dev.world import batch_world
from progress_exhaust.hooks.requests.models import PROGRESS_KEYS
from progress_exhaust.operators import stage
from progress_exhaust.operators.extract import OF_ENROLMENTS, ExtractOperator
from progress_exhaust.operators.stage import EXTRACT_FILE, LEARNERS, Progress, Work
from tests.integration.install import Install
from tests.integration.stage_work import stage_work


@pytest.fixture
def work(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    install.load(batch_world(3, 0, nested=1, assessments=1, leaves=3))
    return stage_work(install, tmp_path, monkeypatch, learners_per_part=1)


def test_learners_are_counted_in_the_log_and_in_the_ledger(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress(work, LEARNERS, 1000, share=(0.5, 1))
    progress.add(100)
    assert not caplog.messages  # news comes every few seconds
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    progress.add(300)
    [told] = caplog.messages
    assert told.startswith(f"{work.batch}: 400 of 1,000 learners, ") and " a second, " in told and told.endswith(" s left")
    kept = work.requests.batch_run(work.batch)
    assert kept is not None and (kept.counts["learners_done"], kept.counts["percent"]) == (400, 70)
    *_, rate, left = told.replace(",", "").split(" learners ")[1].split(" a second ")
    assert (kept.counts["learners_per_second"], f"{kept.counts['seconds_left']} s left") == (int(rate), left)


def test_what_an_earlier_attempt_has_done_is_no_speed(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    progress = Progress(work, LEARNERS, 1000, share=(0, 1))
    progress.skip(400)
    progress.add(0)
    assert caplog.messages == [f"{work.batch}: 400 of 1,000 learners, 0 a second"]
    kept = work.requests.batch_run(work.batch)
    assert kept is not None and kept.counts["learners_done"] == 400 and "seconds_left" not in kept.counts


def test_a_stage_that_begins_anew_has_done_nothing_and_taken_no_time(work: Work) -> None:
    before = work.requests.batch_run(work.batch)
    assert before is not None and {"extract", "pivot"} <= before.seconds.keys()
    work.tell({"learners_done": 2, "learners_per_second": 1, "seconds_left": 1})
    work.requests.record(work.batch, stage="extract", state="failed", error="broken off")
    failed = work.requests.batch_run(work.batch)
    assert failed is not None and failed.counts == before.counts | {
        "learners_done": 2,
        "learners_per_second": 1,
        "seconds_left": 1,
    }
    work.requests.record(work.batch, stage="extract", state="running")
    begun = work.requests.batch_run(work.batch)
    assert begun is not None and begun.counts == before.counts
    assert begun.seconds.keys() == before.seconds.keys() - {"extract"}


def test_the_time_left_is_that_of_the_whole_stage(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that is through with half of its ranges in a minute, and is a quarter of the stage, leaves it seven."""
    clock = iter([0, 60])
    monkeypatch.setattr(stage, "monotonic", lambda: next(clock))
    told: list[dict[str, int]] = []
    monkeypatch.setattr(Work, "tell", lambda _work, counts: told.append(dict(counts)))
    Progress(work, "ranges scanned", 10, share=(0, 0.25)).add(5)
    assert told == [{"percent": 12, "seconds_left": 420}]


@pytest.mark.parametrize(
    ("strategy", "table"),
    [("partitions", "enrolments_by_batch"), ("scan", "enrolments_by_batch"), ("scan", "enrolments_by_user")],
)
def test_an_extract_tells_whom_it_reads_and_how_far_it_is(
    work: Work, install: Install, monkeypatch: pytest.MonkeyPatch, strategy: str, table: str
) -> None:
    chosen = {"read_strategy": strategy, "enrolments_table": getattr(install.names, table)}
    work = replace(work, site=replace(work.site, settings=work.site.settings.model_copy(update=chosen)))
    kept: list[Mapping[str, int]] = []

    def tell(work: Work, counts: Mapping[str, int]) -> None:
        written(work, counts)
        found = work.requests.batch_run(work.batch)
        assert found is not None
        kept.append({name: number for name, number in found.counts.items() if name in PROGRESS_KEYS})

    written = Work.tell
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    monkeypatch.setattr(Work, "tell", tell)
    ExtractOperator(task_id="extract", batch={}).make(work)
    assert [news["learners_done"] for news in kept[-3:]] == [1, 2, 3]
    percents = [news["percent"] for news in kept]
    assert percents == sorted(percents) and (percents[-1], kept[-1]["seconds_left"]) == (100, 0)
    scanned = [news["percent"] for news in kept if "learners_done" not in news]
    assert (len(set(scanned)) > 2) == (strategy == "scan")
    counted = next(news["percent"] for news in kept if "seconds_left" not in news)  # once it is known how many there are
    assert counted == (100 * OF_ENROLMENTS if table == "enrolments_by_user" else 0)
    # A retry counts what is there already, before it goes on.
    work.forget(EXTRACT_FILE)
    Path(work.part(2).path).unlink()
    kept.clear()
    ExtractOperator(task_id="extract", batch={}).make(work)
    assert [news.get("learners_done") for news in kept] == [None, 3]


def test_other_work_is_told_of_in_the_log_alone(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    assert list(Progress(work, "parts written", 2).of("ab")) == ["a", "b"]
    first, second = caplog.messages
    assert first.startswith(f"{work.batch}: 1 of 2 parts written, ") and second.startswith(
        f"{work.batch}: 2 of 2 parts written, "
    )
    kept = work.requests.batch_run(work.batch)
    assert kept is not None and "learners_done" not in kept.counts
