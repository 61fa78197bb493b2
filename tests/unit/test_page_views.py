"""What the page makes of the ledger's rows and the states of Airflow's runs."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from progress_exhaust import command
from progress_exhaust.hooks.requests.status import BatchDetails, Night, RequestDetails
from progress_exhaust.page.views import RequestView, Run, charts, in_bytes, in_time, view

NOW = datetime.now(UTC)  # of the collection: what counts seconds takes a time of its own
RUN = "scheduled__2026-11-24T08:00:00+00:00"


def request(**changes: Any) -> RequestDetails:
    values = {
        "tag": "tag", "request_id": "R1", "run_id": "", "status": "PROCESSING", "channel": "org",
        "submitted_at": NOW - timedelta(hours=3),
        "completed_at": None, "failures": 0, "error": None, "processed": (), "claim_run_id": RUN, "held": True,
        "duplicate_of": "",
    }  # fmt: skip
    return RequestDetails(**values | changes)


def batch(batch_id: str, **changes: Any) -> BatchDetails:
    values = {
        "batch_id": batch_id, "run_id": RUN, "collection_id": "do_1",
        "stage": "extract", "state": "running", "counts": {}, "seconds": {},
        "size_bytes": None, "object_key": None, "error": None, "listed_at": NOW, "changed_at": NOW,
    }  # fmt: skip
    return BatchDetails(**values | changes)


def seen(*batches: BatchDetails, run_state: str | None = "running", layout: str | None = None, **changes: Any) -> RequestView:
    places = {(RUN, "tag", "R1", one.batch_id): place for place, one in enumerate(batches)}
    return view(request(**changes), batches, {RUN: Run(run_state, layout)} if run_state else {}, places)


def test_the_bar_goes_by_learners_and_by_batches() -> None:
    done = batch("b1", state="done", stage="mark_complete", counts={"enrolled": 100, "reported": 90}, seconds={"extract": 2})
    half = batch(
        "b2", changed_at=datetime.now(UTC), counts={"enrolled": 200, "percent": 60, "learners_done": 100, "seconds_left": 36_000}
    )
    one = seen(done, half, batch("b3", stage="list_batches", state="waiting"))
    assert (one.done, one.total, one.percent, one.learners, one.reported) == (1, 3, 52, (200, 300), 90)
    assert one.seconds_left == pytest.approx(36_000, abs=300)


def test_the_time_left_is_that_since_the_last_news_and_never_negative() -> None:
    news = {"counts": {"enrolled": 200, "learners_done": 100, "seconds_left": 36_000}}
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert seen(batch("b", changed_at=an_hour_ago, **news)).seconds_left == pytest.approx(32_400, abs=300)
    assert seen(batch("b", changed_at=NOW - timedelta(hours=11), **news)).seconds_left == 0
    assert seen(batch("b", stage="pivot", **news)).seconds_left is None


@pytest.mark.parametrize(("stage", "percent"), [("fetch_hierarchy", 0), ("extract", 95), ("pivot", 95)])
def test_an_extract_that_an_earlier_stage_comes_before_again_counts_no_more(stage: str, percent: int) -> None:
    one = seen(batch("b", stage=stage, counts={"enrolled": 200}, seconds={"extract": 2}))
    assert (one.percent, one.learners) == (percent, (200 if percent else 0, 200))


def test_what_excel_could_not_hold_is_told_of_the_file() -> None:
    [csv, cut, whole] = [
        seen(batch("b", state="done", counts=counts)).batches[0].notes
        for counts in ({"csv_instead_of_xlsx": 1, "cut_cells": 0}, {"csv_instead_of_xlsx": 0, "cut_cells": 1200}, {})
    ]
    assert csv == ["a csv, for it has more rows or columns than Excel opens"]
    assert cut == ["1,200 cells are cut to the longest text that Excel opens"]
    assert whole == []


@pytest.mark.parametrize("run_state", ["failed", "success", None])
def test_what_is_at_work_in_a_run_that_is_over_is_broken_off(run_state: str | None) -> None:
    one = seen(batch("b1"), run_state=run_state)
    assert not one.running and one.batches[0].state == "broken_off"
    assert one.note == "the run that held it is over; the next run takes it over"
    assert one.batches[0].rerun_task == (["batch.extract", 0] if run_state else None)  # a run that is gone has no tasks


@pytest.mark.parametrize("run_state", ["running", "success", None])
def test_what_another_program_holds_is_not_ours_although_a_run_had_it_once(run_state: str | None) -> None:
    one = seen(held=False, run_state=run_state)
    assert not one.running and one.note == "no run of this DAG holds it: another program, or nobody"
    assert one.run_id == RUN, "the last one that had it"


@pytest.mark.parametrize("run_state", ["running", "failed"])
def test_a_standalone_run_holds_its_own(run_state: str) -> None:
    one = seen(request_id="", run_id=RUN, claim_run_id=None, held=False, run_state=run_state)
    assert (one.running, one.note) == ((True, None) if run_state == "running" else (False, "the run that held it is over"))


@pytest.mark.parametrize(
    ("stage", "state", "task"),
    [
        ("pivot", "failed", ["batch.pivot", 0]),
        ("list_batches", "failed", ["batch.fetch_hierarchy", 0]),
        ("extract", "running", None),
        ("mark_complete", "done", None),
        ("extract", "rejected", None),
    ],
)
def test_only_a_failed_batch_is_rerun_from_its_stage(stage: str, state: str, task: list[Any] | None) -> None:
    assert seen(batch("b1", stage=stage, state=state)).batches[0].rerun_task == task


@pytest.mark.parametrize(("status", "there"), [("SUBMITTED", False), ("PROCESSING", False), ("SUCCESS", True), ("FAILED", True)])
def test_only_what_is_over_is_made_again(status: str, there: bool) -> None:
    assert seen(status=status).again == ({"request_ids": ["R1"], "force": True} if there else None)


def test_a_standalone_run_is_made_again_by_its_batches_in_its_layout() -> None:
    batches = batch("b1", state="done"), batch("b2", state="done")
    standalone: dict[str, Any] = {"request_id": "", "run_id": RUN, "claim_run_id": None, "status": "SUCCESS"}
    assert seen(*batches, **standalone).again == {"batch_ids": ["b1", "b2"]}
    assert seen(*batches, layout="short", **standalone).again == {"batch_ids": ["b1", "b2"], "layout": "short"}
    assert seen(*batches, run_state=None, **standalone).again == {"batch_ids": ["b1", "b2"]}


def test_a_request_of_before_the_ledger_counts_its_own_batches() -> None:
    one = seen(processed=("b1", "b2"), claim_run_id=None, status="SUCCESS")
    assert (one.done, one.total, one.note) == (2, 2, None)


@pytest.mark.parametrize(
    ("status", "state", "done"),
    [
        ("SUCCESS", "done", 2),
        ("PROCESSING", "running", 1),
        ("FAILED", "failed", 1),
    ],
)
def test_batches_of_the_ledger_and_of_another_program_count_together(status: str, state: str, done: int) -> None:
    one = seen(batch("b1", state=state), processed=("b0",), status=status)
    assert (one.done, one.total, one.made_elsewhere) == (done, 2, ["b0"])
    assert one.reported == (0 if state == "done" else None)
    assert command._done(one.request, [view.batch for view in one.batches]) == f"{done} of 2"


@pytest.mark.parametrize(
    ("status", "state", "done"), [("PROCESSING", "waiting", 0), ("PROCESSING", "failed", 1), ("SUCCESS", "running", 1)]
)
def test_a_batch_that_is_being_made_again_is_not_done_by_its_old_file(status: str, state: str, done: int) -> None:
    one = seen(batch("b1", state=state), processed=("b1",), status=status)
    assert (one.done, one.total, one.made_elsewhere) == (done, 1, [])


def test_a_chart_in_words() -> None:
    nights = [Night(date(2026, 11, day), requests=day, learners=0, seconds=0.0, failures=0) for day in (1, 2, 3)]
    assert [chart.words for chart in charts(nights)][:2] == [
        "Requests of the last 3 days: 6 in all, at most 3 on 2026-11-03, 3 today",
        "Learners reported: none in 3 days",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.04, "0 s"), (7.25, "7.2 s"), (61, "61 s"), (600, "10 min"), (7500, "2 h 5 min"), (360_000, "4 d 4 h")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert in_time(seconds) == words


@pytest.mark.parametrize(("size", "words"), [(None, ""), (0, ""), (512, "512 B"), (2_500_000, "2.5 MB"), (7 * 10**9, "7.0 GB")])
def test_sizes(size: int | None, words: str) -> None:
    assert in_bytes(size) == words


def test_what_is_rounded_says_no_more_than_its_unit() -> None:
    hours = {59.6 / 60: "1 h", 23.99: "23 h 59 min", 47.995: "2 d", 95.8: "4 d", -1: "0 s"}
    assert {number: in_time(3600 * number) for number in hours} == hours
    sizes = {999: "999 B", 999_949: "999.9 kB", 999_999: "1.0 MB", 999_960_000: "1.0 GB"}
    assert {number: in_bytes(number) for number in sizes} == sizes
