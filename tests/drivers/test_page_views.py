"""Test what the page shows for rows of the ledger and states of Airflow's runs."""

from collections.abc import Mapping
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
    assert (one.done, one.total, one.percent, one.learners, one.reported) == (1, 3, 50, (200, 300), 90)
    assert one.progress.text.startswith("1 of 3 batches · extracting 50 % · about ")
    [_, view, _] = one.batches
    assert view.seconds_left == pytest.approx(36_000 + 90_000 * 17 / 80, abs=300), "with the stages that follow"


def test_time_left_counts_from_the_last_report_and_is_never_negative() -> None:
    news = {"counts": {"enrolled": 200, "learners_done": 100, "seconds_left": 36_000}}
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    in_all = 36_000 * 97 / 80
    assert seen(batch("b", changed_at=an_hour_ago, **news)).seconds_left == pytest.approx(in_all - 3600, abs=300)
    assert seen(batch("b", changed_at=NOW - timedelta(hours=13), **news)).seconds_left == 0


@pytest.mark.parametrize(("stage", "percent"), [("fetch_hierarchy", 0), ("extract", 83), ("pivot", 83)])
def test_extract_does_not_count_while_an_earlier_stage_runs_again(stage: str, percent: int) -> None:
    one = seen(batch("b", stage=stage, counts={"enrolled": 200}, seconds={"extract": 2}))
    assert (one.percent, one.learners) == (percent, (200 if percent else 0, 200))


def with_tasks(*batches: BatchDetails, states: Mapping[int, str]) -> RequestView:
    """Return the view of a request of a running run, with the tasks that have not ended, by map index."""
    places = {(RUN, "tag", "R1", one.batch_id): place for place, one in enumerate(batches)}
    return make_view(request(), batches, {RUN: Run("running")}, places, {(RUN, place): state for place, state in states.items()})


def test_a_batch_without_a_slot_says_so() -> None:
    waiting = batch("b1", stage="list_batches", state="waiting")
    due = batch("b2", stage="fetch_hierarchy", seconds={"fetch_hierarchy": 1})  # its extract waits
    running = batch("b3", seconds={"fetch_hierarchy": 1}, counts={"percent": 50})
    one = with_tasks(waiting, due, running, states={0: "scheduled", 1: "queued", 2: "running"})
    assert one.progress.text == "0 of 3 batches · extracting 15 % · 2 waiting for a slot"
    assert [view.progress_text for view in one.batches] == [
        "0 % · 1 waiting for a slot", "3 % · 1 waiting for a slot", "extracting 43 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task_state", "text"),
    [
        ("up_for_retry", "43 % · 1 to be tried again"),
        ("queued", "43 % · 1 waiting for a slot"),
        ("running", "extracting 43 % · about"),
    ],
)
def test_a_killed_task_does_not_run_until_airflow_starts_it_again(task_state: str, text: str) -> None:
    counts = {"percent": 50, "enrolled": 9, "seconds_left": 600}
    killed = batch("b1", seconds={"fetch_hierarchy": 1}, counts=counts, changed_at=datetime.now(UTC))
    one = with_tasks(killed, states={0: task_state})
    assert one.batches[0].progress_text.startswith(text) and one.progress.text.startswith(f"0 of 1 batch · {text}")
    assert (one.seconds_left is not None) is ("about" in text) is ("about" in one.batches[0].progress_text)


def test_a_failed_batch_is_finished_unless_airflow_tries_it_again() -> None:
    failed, rejected = batch("b1", state="failed", counts={"percent": 50}), batch("b2", state="rejected")
    assert with_tasks(failed, rejected, states={}).progress.text == "0 of 2 batches · finishing 100 %"
    again = with_tasks(failed, rejected, states={0: "up_for_retry"})
    assert again.progress.text == "0 of 2 batches · 71 % · 1 to be tried again" and again.batches[0].is_retried


def test_what_an_earlier_run_has_not_made_is_not_finished() -> None:
    earlier = {"run_id": "an earlier run"}
    both = batch("b1", state="failed", **earlier), batch("b2", state="done", **earlier)
    assert seen(*both, processed=("b2",)).progress.text == "1 of 2 batches · 50 %"
    forced = seen(*both)  # the claim of a run with `force` has forgotten its package
    assert (forced.progress.text, forced.done) == ("0 of 2 batches · 0 %", 0)


@pytest.mark.parametrize(
    ("status", "states", "words"),
    [
        ("SUCCESS", ("done", "done", "rejected"), "2 of 3, 1 not possible"),
        ("FAILED", ("failed", "rejected", "done", "running"), "1 of 4, 1 not possible, 2 failed"),
        ("SUCCESS", ("done",), "1 of 1"),
        ("SUBMITTED", (), ""),
    ],
)
def test_outcome_of_a_request(status: str, states: tuple[str, ...], words: str) -> None:
    assert seen(*(batch(f"b{place}", state=state) for place, state in enumerate(states)), status=status).outcome == words


@pytest.mark.parametrize("status", ["FAILED", "SUBMITTED"])
def test_files_of_an_earlier_run_do_not_count_after_a_forced_run_that_failed(status: str) -> None:
    old = batch("b1", state="done", run_id="an earlier run", object_key="k/b1.zip", size_bytes=9, counts={"reported": 5})
    one = seen(old, status=status)
    assert (one.done, one.total, one.outcome, one.files, one.size_bytes, one.reported) == (0, 1, "0 of 1", [], 0, None)
    for counts in ({"processed": ("b1",)}, {"status": "SUCCESS"}):
        one = seen(old, **{"status": status} | counts)
        assert (one.done, one.outcome, one.files, one.size_bytes, one.reported) == (1, "1 of 1", list(one.batches), 9, 5)


def test_a_batch_that_a_finished_request_names_counts_without_a_row_in_the_ledger() -> None:
    spark = seen(processed=("b1",), named=("b1", "b2"), status="FAILED", claim_run_id=None, held=False)
    assert (spark.done, spark.total, spark.outcome) == (1, 2, "1 of 2")
    assert seen(named=("b1", "b2"), status="SUBMITTED").outcome == "", "no run has listed its batches"


def test_title_names_courses_and_batches() -> None:
    names = [("do_1", "Maths", "Group A"), ("do_1", "Maths", "Group B"), ("do_1", "Maths", "Group C"), ("do_2", "Physics", None)]
    batches = [
        batch(f"b{place}", collection_id=collection, collection_name=course, batch_name=name)
        for place, (collection, course, name) in enumerate(names)
    ]
    title = seen(*batches).title
    assert (title.course, title.batches) == ("Maths, Physics", "Group A, Group B and 2 more")
    assert title.collection_ids == ["do_1", "do_2"] and title.batch_ids == ["b0", "b1", "b2", "b3"]
    unlisted = seen(named=("b7", "b8")).title
    assert (unlisted.course, unlisted.batches, unlisted.batch_ids) == ("", "", ["b7", "b8"])


def test_message_of_the_last_attempt_promises_no_other() -> None:
    message = "Batch b1 could not be made this time. The next run tries again, up to three times in all"
    assert seen(error=message, failures=2).error == message
    assert seen(error=message, failures=3).error == "Batch b1 could not be made in three attempts. Submit the request again"


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


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED"])
def test_a_run_without_requests_has_no_result_before_it_ends(status: str) -> None:
    ended: dict[str, Any] = {"request_id": "", "run_id": RUN, "claim_run_id": None, "status": status, "completed_at": NOW}
    one = seen(batch("b1", state="failed"), run_state="running", **ended)
    assert (one.request.status, one.request.completed_at, one.running) == ("PROCESSING", None, True)
    assert one.make_again_params is None
    for run_state in ("failed", None):
        one = seen(batch("b1", state="failed"), run_state=run_state, **ended)
        assert (one.request.status, one.request.completed_at) == (status, NOW) and one.make_again_params


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
    assert seen(*batches, run_state="success", **standalone).make_again_params == {"batch_ids": ["b1", "b2"]}
    with_layout = seen(*batches, run_state="success", layout="short", **standalone)
    assert with_layout.make_again_params == {"batch_ids": ["b1", "b2"], "layout": "short"}
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
    ("status", "state", "done"),
    [("PROCESSING", "waiting", 0), ("PROCESSING", "failed", 0), ("FAILED", "failed", 0), ("SUCCESS", "running", 1)],
)
def test_old_file_does_not_count_if_a_run_has_not_made_the_batch_again(status: str, state: str, done: int) -> None:
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
