"""The numbers of the page's nights, and its list of many requests, by rows that are written for it."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from progress_exhaust.hooks.requests.status import Filter, Night, Order, RequestStatusReader, Sort
from progress_exhaust.page.request_view import make_view
from tests.integration.install import Install, Row

# Half hours from UTC, and never both of them close to midnight: the day is the same for the whole test.
ZONES = ("Asia/Kolkata", "America/St_Johns")
CLAIM = "INSERT INTO progress_exhaust.claim (tag, request_id, run_id, claimed_at, outcome) VALUES ('t', %s, 'run', %s, %s)"
BATCH = (
    "INSERT INTO progress_exhaust.batch_run (tag, request_id, batch_id, run_id, collection_id, channel, listed_at, state, "
    "counts, seconds) VALUES ('t', 'R', %s, 'run', 'do_1', 'org', %s, %s, %s, %s)"
)


@pytest.fixture
def hook(queue: Install, monkeypatch: pytest.MonkeyPatch) -> RequestStatusReader:
    """Give the hook with the rights of one who looks."""
    queue.grant("operators.sql")
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS", queue.connections()["REQUESTS"])
    return RequestStatusReader(job_request_table="job_request", ledger_schema="progress_exhaust")


def test_each_night_has_its_own_numbers_from_midnight_to_midnight_of_the_zone(queue: Install, hook: RequestStatusReader) -> None:
    zone = next(zone for zone in ZONES if 1 <= datetime.now(ZoneInfo(zone)).hour < 23)
    today = datetime.now(ZoneInfo(zone)).date()
    first, some, later = today - timedelta(days=29), today - timedelta(days=12), today - timedelta(days=11)

    def at(day: date, hours: float = 0) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC) + timedelta(hours=hours)

    moment = timedelta(microseconds=1)
    claims = [
        (at(first) - moment, "FAILED"),  # too long ago
        (at(first), "SUCCESS"),
        (at(some), "SUCCESS"), (at(some, 3), "FAILED"), (at(some, 9), "lost"), (at(later) - moment, "SUBMITTED"),
        (at(later), "SUCCESS"),
        (at(today), None),  # still at it
    ]  # fmt: skip
    for number, (claimed_at, outcome) in enumerate(claims):
        queue.sql(CLAIM, [f"R{number}", claimed_at, outcome])
    batches: list[tuple[datetime, str, Any, Any]] = [
        (at(first) - moment, "done", {"reported": 1000}, {"extract": 1000}),
        (at(some), "done", {"reported": 30, "enrolled": 99}, {"extract": 1.5, "pivot": 0.25}),
        (at(some, 9), "failed", {"enrolled": 70, "learners_done": 50}, {"fetch_hierarchy": 2}),
        (at(later) - moment, "done", {"reported": 12}, {"package": 0.25}),
        (at(later), "done", {"reported": 5}, {}),
        (at(today), "waiting", {}, {}),
    ]
    for number, (listed_at, state, counts, seconds) in enumerate(batches):
        queue.sql(BATCH, [f"b{number}", listed_at, state, json.dumps(counts), json.dumps(seconds)])

    nights = hook.nights(30, zone)
    assert [night.day for night in nights] == [first + timedelta(days=number) for number in range(30)]
    assert [night for night in nights if night != Night(night.day, 0, 0, 0, 0)] == [
        Night(first, requests=1, learners=0, seconds=0, failures=0),
        Night(some, requests=4, learners=42, seconds=4, failures=2),
        Night(later, requests=1, learners=5, seconds=0, failures=0),
        Night(today, requests=1, learners=0, seconds=0, failures=0),
    ]


def test_ten_thousand_requests_page_through_and_none_is_lost_or_there_twice(queue: Install, hook: RequestStatusReader) -> None:
    """Many are of the same moment or of none, and some of the same id: the order may leave nothing open."""
    queue.sql(
        "INSERT INTO job_request (tag, request_id, job_id, status, dt_job_submitted) "
        "SELECT 't' || number, 'R' || number % 3, 'progress-exhaust', 'SUBMITTED', "
        "  CASE WHEN number % 7 > 0 THEN timestamp '2026-01-01' + number / 1000 * interval '1 hour' END "
        "FROM generate_series(1, 9990) AS number"
    )
    queue.sql(
        "INSERT INTO progress_exhaust.batch_run (tag, request_id, batch_id, run_id, collection_id, channel, state, listed_at) "
        "SELECT '', '', 'b', 'run' || number, 'do_1', '', 'done', '2026-01-01 04:00+00' FROM generate_series(1, 10) AS number"
    )
    seen = []
    for skip in range(0, 10_000, 250):
        page, total = hook.requests(Filter(), most=250, skip=skip)
        assert (len(page), total) == (250, 10_000)
        seen += page
    assert len({one.key for one in seen}) == 10_000
    submitted = [one.submitted_at for one in seen if one.submitted_at]
    assert submitted == sorted(submitted, reverse=True)
    assert not any(one.submitted_at for one in seen[len(submitted) :]), "those of no known moment come last"
    assert hook.requests(Filter(), most=250, skip=10_000)[0] == []


LISTED = (
    "INSERT INTO progress_exhaust.batch_run (tag, request_id, batch_id, run_id, collection_id, channel, state, collection_name, "
    "batch_name) VALUES ('t', 'AB1', '0133Abc', 'run', 'do_1', 'Org-1', 'done', 'Early Numeracy', %s)"
)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        *(({"text": text}, "AB1") for text in ("ab1", "0133aBC", "early", "NUMER", "do_1", "été", "org-1")),
        *(({"text": text}, "cd2") for text in ("no-SUCH", "Cd2", "course 7", "org-2", "retir")),
        *(({"text": text}, None) for text in ("batchF", "cy", "b1", "%", "_", "'", '"', "\\\\", 'one"')),
        *(({"batch": batch}, "AB1") for batch in ("0133A", "été")),
        *(({"batch": batch}, "cd2") for batch in ("NO-such", 'say "hi')),
        *(({"batch": batch}, "ef3") for batch in ("0199", "0201", "0202", "esc")),
        *(({"batch": batch}, None) for batch in ("do_", "Live")),
        *(({"collection": course}, "ef3") for course in ("do_99", "do_77")),
        *(({"collection": course}, None) for course in ("0199", "Live")),
        ({"collection": "numeracy"}, "AB1"),
        ({"channel": "ORG-1"}, "AB1"),
        ({"request": "aB"}, "AB1"),
        ({"status": "FAILED"}, "cd2"),
        ({"submitted_from": "2026-11-02 18:30:00"}, "cd2"),
        ({"submitted_before": "2026-11-02 18:30:00"}, "AB1"),
        ({"submitted_from": "2026-11-01 00:00:00", "submitted_before": "2026-11-01 00:00:00"}, None),
    ],
)
def test_filters_find_what_starts_like_this(
    queue: Install, hook: RequestStatusReader, search: dict[str, str], found: str | None
) -> None:
    insert = (
        "INSERT INTO job_request (tag, request_id, job_id, status, requested_channel, request_data, dt_job_submitted, "
        "err_message) VALUES ('t', %s, 'progress-exhaust', %s, %s, %s, %s, %s)"
    )
    queue.sql(insert, ["AB1", "SUCCESS", "Org-1", '{"batchFilter": ["0133Abc"]}', "2026-11-02 18:29", None])
    named = json.dumps({"batchFilter": ["no-such-1", 'say "hi"', "course 7"]})
    queue.sql(insert, ["cd2", "FAILED", "org-2", named, "2026-11-02 18:30", "The course is Retired"])
    filters = {"status": ["Live"], "identifier": ["do_99", "do_77"]}
    every = {"batchId": "0199x", "batchFilter": ['0201]"x', "0202x", "esc\\"], "searchFilter": {"request": {"filters": filters}}}
    queue.sql(insert, ["ef3", "SUBMITTED", "org-3", json.dumps(every), None, None])
    queue.sql(LISTED, ["Groupe été"])
    requests, total = hook.requests(Filter(**search), most=10, skip=0)
    assert [one.request_id for one in requests] == ([found] if found else []) and total == len(requests)
    if found == "cd2":
        assert requests[0].named == ("no-such-1", 'say "hi"', "course 7")
    if found == "AB1":
        [batch] = hook.batches(requests)[requests[0].key]
        assert (batch.collection_name, batch.batch_name) == ("Early Numeracy", "Groupe été")


def test_order_of_the_list(queue: Install, hook: RequestStatusReader) -> None:
    for name, status, channel, submitted, completed in (
        ("a", "SUCCESS", "z", "2026-11-01", "2026-11-09"),
        ("b", "FAILED", "x", "2026-11-02", "2026-11-08"),
        ("c", "SUBMITTED", "y", "2026-11-03", None),
    ):
        queue.sql(
            "INSERT INTO job_request (tag, request_id, job_id, status, requested_channel, dt_job_submitted, dt_job_completed) "
            "VALUES ('t', %s, 'progress-exhaust', %s, %s, %s, %s)", [name, status, channel, submitted, completed]
        )  # fmt: skip
    orders = {
        Order(): "cba", Order(ascending=True): "abc", Order(Sort.FINISHED): "abc", Order(Sort.FINISHED, ascending=True): "bac",
        Order(Sort.STATUS): "acb", Order(Sort.ORG, ascending=True): "bca",
    }  # fmt: skip
    for order, ids in orders.items():
        assert "".join(one.request_id for one in hook.requests(Filter(), most=10, skip=0, order=order)[0]) == ids, order


def test_who_holds_a_request_that_was_asked_for_again(queue: Install, asked: Row, hook: RequestStatusReader) -> None:
    run = queue.run_dag().run_id
    queue.sql("UPDATE job_request SET status = 'PROCESSING'")  # by another program
    [one], _ = hook.requests(Filter(), most=1, skip=0)
    assert (one.claim_run_id, one.held) == (run, False)
    queue.sql("UPDATE progress_exhaust.claim SET released_at = NULL")
    [one], _ = hook.requests(Filter(), most=1, skip=0)
    assert (one.claim_run_id, one.held) == (run, True)
    queue.sql("DELETE FROM progress_exhaust.claim")
    assert hook.request(*one.key).held is False  # type: ignore[union-attr]


def test_a_batch_that_the_request_no_longer_has_does_not_count(queue: Install, hook: RequestStatusReader) -> None:
    made = json.dumps([{"batchId": one, "filePath": f"k/{one}.zip"} for one in ("b1", "deleted")])
    queue.sql(
        "INSERT INTO job_request (tag, request_id, job_id, status, processed_batches) "
        "VALUES ('t', 'R', 'progress-exhaust', 'FAILED', %s)", [made]
    )  # fmt: skip
    for batch_id, state in (("b1", "done"), ("deleted", "done"), ("no longer", "failed")):
        queue.sql(BATCH, [batch_id, "2026-11-01", state, "{}", "{}"])
    claim = (
        "INSERT INTO progress_exhaust.claim (tag, request_id, run_id, claimed_at, released_at, batch_ids) "
        "VALUES ('t', 'R', %s, %s, now(), %s)"
    )
    for run_id, batch_ids, outcome in (
        ("old", ["b1", "deleted", "no longer"], "2 of 3, 1 failed"),
        ("new", ["b1"], "1 of 1"),
        ("not listed yet", None, "2 of 3, 1 failed"),
    ):
        queue.sql("UPDATE progress_exhaust.claim SET claimed_at = claimed_at - interval '1 day'")
        queue.sql(claim, [run_id, "2026-11-02", batch_ids])
        [one], _ = hook.requests(Filter(), most=9, skip=0)
        assert make_view(one, hook.batches([one])[one.key], {}, {}).outcome == outcome, run_id


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "12026-01-01"])
def test_a_moment_that_no_clock_shows_hides_nothing(queue: Install, asked: Row, hook: RequestStatusReader, moment: str) -> None:
    queue.sql("UPDATE job_request SET dt_job_submitted = %s", [moment])
    assert queue.run_dag().state == "success"
    queue.sql("UPDATE job_request SET dt_job_completed = %s", [moment])
    [one], _ = hook.requests(Filter(), most=1, skip=0)
    assert (one.status, one.submitted_at, one.completed_at) == ("SUCCESS", None, None)
    assert hook.tally()
