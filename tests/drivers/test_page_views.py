"""Test what the page shows for rows of the ledger and states of Airflow's runs."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from progress_exhaust.hooks.requests.status import BatchDetails, Night, RequestDetails
from progress_exhaust.page.charts import make_charts
from progress_exhaust.page.formatting import format_duration, format_size
from progress_exhaust.page.request_view import RequestView, Run, make_view

NOW = datetime.now(UTC)  # when the tests were collected; a test that counts seconds takes its own time
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
    return make_view(request(**changes), batches, {RUN: Run(run_state, layout)} if run_state else {}, places)


def test_progress_counts_learners_and_batches() -> None:
    done = batch("b1", state="done", stage="mark_complete", counts={"enrolled": 100, "reported": 90}, seconds={"extract": 2})
    half = batch(
        "b2", changed_at=datetime.now(UTC), counts={"enrolled": 200, "percent": 60, "learners_done": 100, "seconds_left": 36_000}
    )
    one = seen(done, half, batch("b3", stage="list_batches", state="waiting"))
    assert (one.done, one.total, one.percent, one.learners, one.reported) == (1, 3, 52, (200, 300), 90)
    assert one.seconds_left == pytest.approx(36_000, abs=300)


def test_time_left_counts_from_the_last_report_and_is_never_negative() -> None:
    news = {"counts": {"enrolled": 200, "learners_done": 100, "seconds_left": 36_000}}
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert seen(batch("b", changed_at=an_hour_ago, **news)).seconds_left == pytest.approx(32_400, abs=300)
    assert seen(batch("b", changed_at=NOW - timedelta(hours=11), **news)).seconds_left == 0
    assert seen(batch("b", stage="pivot", **news)).seconds_left is None


@pytest.mark.parametrize(("stage", "percent"), [("fetch_hierarchy", 0), ("extract", 95), ("pivot", 95)])
def test_extract_does_not_count_while_an_earlier_stage_runs_again(stage: str, percent: int) -> None:
    one = seen(batch("b", stage=stage, counts={"enrolled": 200}, seconds={"extract": 2}))
    assert (one.percent, one.learners) == (percent, (200 if percent else 0, 200))


def test_reasons_without_learners_are_shown_as_zero_once_they_are_counted() -> None:
    counts = {"enrolled": 3, "reported": 2, "excluded.deleted": 1, "excluded.unknown_org": 0}
    excluded = seen(batch("b1", state="done", counts=counts)).batches[0].excluded
    assert excluded["with a deleted account"] == 1 and excluded["of an unknown organisation"] == 0 and len(excluded) == 6
    assert seen(batch("b1", counts={"enrolled": 3, "excluded.inactive": 1})).batches[0].excluded == {}


def test_notes_report_what_excel_cannot_hold() -> None:
    [csv, cut, whole] = [
        seen(batch("b", state="done", counts=counts)).batches[0].notes
        for counts in ({"csv_instead_of_xlsx": 1, "cut_cells": 0}, {"csv_instead_of_xlsx": 0, "cut_cells": 1200}, {})
    ]
    assert csv == ["a csv, because it has more rows or columns than Excel can open"]
    assert cut == ["1,200 cells are cut to the longest text that Excel can open"]
    assert whole == []


@pytest.mark.parametrize("run_state", ["failed", "success", None])
def test_running_batch_of_an_ended_run_is_interrupted(run_state: str | None) -> None:
    one = seen(batch("b1"), run_state=run_state)
    assert not one.running and one.batches[0].state == "interrupted"
    assert one.note == "the run that held it has ended; the next run claims it"
    assert one.batches[0].stage_to_rerun == ("extract" if run_state else None)  # a deleted run has no tasks


@pytest.mark.parametrize("run_state", ["running", "success", None])
def test_request_of_another_program_is_not_running(run_state: str | None) -> None:
    one = seen(held=False, run_state=run_state)
    assert not one.running and one.note == "no run of this DAG holds it; another program may be processing it"
    assert one.run_id == RUN, "the last one that had it"


def test_request_that_another_installation_holds_names_it() -> None:
    one = seen(
        batch("b1", is_ours=False), run_state=None, is_ours=False, claim_installation="b" * 32,
        claimed_at=datetime(2026, 11, 30, 8, tzinfo=UTC),
    )  # fmt: skip
    assert one.holder == f"another installation bbbbbbbbbbbb, since 2026-11-30 08:00 UTC, run {RUN}"
    assert one.held_elsewhere and one.batches[0].state == "running", "only that Airflow knows whether its run has ended"


@pytest.mark.parametrize("run_state", ["running", "failed"])
def test_standalone_run_holds_its_batches(run_state: str) -> None:
    one = seen(request_id="", run_id=RUN, claim_run_id=None, held=False, run_state=run_state)
    assert (one.running, one.note) == ((True, None) if run_state == "running" else (False, "the run that held it has ended"))


@pytest.mark.parametrize(
    ("stage", "state", "rerun"),
    [
        ("pivot", "failed", "pivot"),
        ("list_batches", "failed", "fetch_hierarchy"),
        ("extract", "running", None),
        ("mark_complete", "done", None),
        ("extract", "rejected", None),
    ],
)
def test_only_a_failed_batch_can_be_rerun(stage: str, state: str, rerun: str | None) -> None:
    assert seen(batch("b1", stage=stage, state=state)).batches[0].stage_to_rerun == rerun


@pytest.mark.parametrize(("status", "there"), [("SUBMITTED", False), ("PROCESSING", False), ("SUCCESS", True), ("FAILED", True)])
def test_only_a_finished_request_can_be_made_again(status: str, there: bool) -> None:
    assert seen(status=status).make_again_params == ({"request_ids": ["R1"], "force": True} if there else None)


def test_standalone_run_is_made_again_with_its_batches_and_layout() -> None:
    batches = batch("b1", state="done"), batch("b2", state="done")
    standalone: dict[str, Any] = {"request_id": "", "run_id": RUN, "claim_run_id": None, "status": "SUCCESS"}
    assert seen(*batches, **standalone).make_again_params == {"batch_ids": ["b1", "b2"]}
    assert seen(*batches, layout="short", **standalone).make_again_params == {"batch_ids": ["b1", "b2"], "layout": "short"}
    assert seen(*batches, run_state=None, **standalone).make_again_params == {"batch_ids": ["b1", "b2"]}


def test_request_without_ledger_counts_its_processed_batches() -> None:
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
def test_batches_of_another_program_count_too(status: str, state: str, done: int) -> None:
    one = seen(batch("b1", state=state), processed=("b0",), status=status)
    assert (one.done, one.total, one.not_in_ledger) == (done, 2, ["b0"])
    assert one.reported == (0 if state == "done" else None)


@pytest.mark.parametrize(
    ("status", "state", "done"), [("PROCESSING", "waiting", 0), ("PROCESSING", "failed", 1), ("SUCCESS", "running", 1)]
)
def test_old_file_does_not_count_while_a_new_one_is_made(status: str, state: str, done: int) -> None:
    one = seen(batch("b1", state=state), processed=("b1",), status=status)
    assert (one.done, one.total, one.not_in_ledger) == (done, 1, [])


def test_description_of_a_chart() -> None:
    nights = [Night(date(2026, 11, day), requests=day, learners=0, seconds=0.0, failures=0) for day in (1, 2, 3)]
    assert [chart.description for chart in make_charts(nights)][:2] == [
        "Requests of the last 3 days: 6 in total, at most 3 on 2026-11-03, 3 today",
        "Learners reported: none in 3 days",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.04, "0 s"), (7.25, "7.2 s"), (61, "61 s"), (600, "10 min"), (7500, "2 h 5 min"), (360_000, "4 d 4 h")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(("size", "words"), [(None, ""), (0, ""), (512, "512 B"), (2_500_000, "2.5 MB"), (7 * 10**9, "7.0 GB")])
def test_sizes(size: int | None, words: str) -> None:
    assert format_size(size) == words


def test_rounding_moves_to_the_next_unit() -> None:
    hours = {59.6 / 60: "1 h", 23.99: "23 h 59 min", 47.995: "2 d", 95.8: "4 d", -1: "0 s"}
    assert {number: format_duration(3600 * number) for number in hours} == hours
    sizes = {999: "999 B", 999_949: "999.9 kB", 999_999: "1.0 MB", 999_960_000: "1.0 GB"}
    assert {number: format_size(number) for number in sizes} == sizes
