"""Claims that are released by another run, or by a person: of ended runs, of deleted rows, and of another installation."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from progress_exhaust.errors import ClaimLostError, ConflictError, RequestCancelledError, RequestDeletedError
from progress_exhaust.hooks.requests.outcomes import TRIED_AGAIN
from progress_exhaust.hooks.requests.releases import CANCELLED
from progress_exhaust.sql import releases as sql
from tests.integration.life import (
    DAY,
    ELSEWHERE,
    LEDGER,
    batch_of,
    chosen,
    database_of_requests,
    emptied,
    holders,
    hook_of,
    insert,
    row_of,
    whole_rows,
)

OLD, NEW = "run", f"{ELSEWHERE}run"  # equal run ids


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    with database_of_requests("progress_exhaust_releases") as cursor:
        yield cursor


@pytest.fixture
def cursor(database: Any) -> Any:
    return emptied(database)


# Two installations


def test_equal_run_ids_of_two_installations_settle_their_own_claims(cursor: Any) -> None:
    ours, others = insert(cursor, "r1"), insert(cursor, "r2", minutes=1)
    hook_of(OLD).claim(chosen(request_ids=["r1"]))
    hook_of(NEW).claim(chosen())
    assert holders(cursor) == [(*ours, OLD), (*others, NEW)]
    assert [request.key for request in hook_of(OLD).held_without_duplicates()] == [ours]
    for run, key in ((OLD, others), (NEW, ours)):
        with pytest.raises(ClaimLostError, match=r"held by run run of another installation [ab]{12}, since \d{4}-"):
            hook_of(run).fail(*key, "not mine")
    hook_of(OLD).list_batches([batch_of(ours)], [])
    hook_of(NEW).list_batches([batch_of(others)], [])
    assert [run.request_id for run in hook_of(NEW).run_batches()] == ["r2"]
    assert hook_of(NEW).complete_batch(batch_of(others), object_key="k.zip", size_bytes=1) == {"SUCCESS": 1}
    assert row_of(cursor, "r1")["status"] == "PROCESSING"
    assert hook_of(OLD).outcomes() == {"held": 1, "duplicate": 0}


def test_a_run_of_another_installation_is_never_an_ended_one(cursor: Any) -> None:
    key = insert(cursor, "r1")
    hook_of(OLD).claim(chosen())
    elsewhere = hook_of(f"{ELSEWHERE}next")
    assert elsewhere.holding_runs() == []
    selection = chosen(ended_runs=["run"])
    assert elsewhere.count_pending(selection) == 0
    assert elsewhere.claim(selection).requests == []
    assert elsewhere.release_orphaned(selection) == ([], {"FAILED": 0})
    assert holders(cursor) == [(*key, OLD)]
    assert row_of(cursor, "r1")["iteration"] == 0


def test_two_installations_claim_each_request_once(cursor: Any) -> None:
    keys = [insert(cursor, f"r{number:03}", minutes=number) for number in range(200)]
    with ThreadPoolExecutor(2) as pool:
        claimed = list(pool.map(lambda run: hook_of(run).claim(chosen(most=150)).requests, [OLD, NEW]))
    hook_of(OLD).claim(chosen())
    told = [request.key for requests in claimed for request in requests]
    assert len(told) == len(set(told))
    assert [(tag, request_id) for tag, request_id, _ in holders(cursor)] == sorted(keys)


def test_a_person_releases_what_another_installation_holds(cursor: Any) -> None:
    key = insert(cursor, "r1")
    late = hook_of(OLD)
    late.claim(chosen())
    late.list_batches([batch_of(key)], [])
    [holder] = hook_of(NEW).holders(["r1"])
    assert not holder.is_ours and holder.run_id == "run"
    with late.lock_claim(batch_of(key)):
        assert not hook_of(NEW).release(holder), "it publishes a file at this moment"
    assert hook_of(NEW).release(holder)
    assert not hook_of(NEW).release(holder), "it is released already"
    row = row_of(cursor, "r1")
    assert (row["status"], row["iteration"]) == ("SUBMITTED", 0)
    cursor.execute(f"SELECT outcome, failure_counted FROM {LEDGER}.claim")
    assert cursor.fetchall() == [("released", False)]
    for write in (
        lambda: late.ensure_claim(batch_of(key)),
        lambda: late.complete_batch(batch_of(key), object_key="k.zip", size_bytes=1),
        lambda: late.fail(*key, "late"),
    ):
        with pytest.raises(ClaimLostError, match="no longer held by this run"):
            write()
    assert [request.key for request in hook_of(NEW).claim(chosen()).requests] == [key]
    with pytest.raises(ClaimLostError, match="held by run run of another installation"):
        late.ensure_claim(batch_of(key))


# Cancelled by a person


def test_a_cancelled_request_that_waits_is_failed_for_good(cursor: Any) -> None:
    key, others = insert(cursor, "r1", iteration=1), insert(cursor, "r2", job_id="userinfo-exhaust")
    hook_of("").cancel(key)
    row = row_of(cursor, "r1")
    assert (row["status"], row["iteration"], row["err_message"]) == ("FAILED", 1, CANCELLED)
    assert row["dt_job_completed"] is not None
    run = hook_of("run")
    assert run.count_pending(chosen()) == run.count_pending(chosen(request_ids=["r1"])) == 0
    insert(cursor, "r3", status="PROCESSING")  # another program may process it
    for request in (key, others, ("label:3", "r3"), ("no", "such")):
        with pytest.raises(ConflictError, match="has ended, or another program"):
            hook_of("").cancel(request)
    assert [request.key for request in run.claim(chosen(request_ids=["r1"], force=True)).requests] == [key]


def test_a_request_that_is_submitted_again_after_a_cancel_has_the_attempts_that_it_had(cursor: Any) -> None:
    key = insert(cursor, "r1", iteration=1)
    hook_of("").cancel(key)
    cursor.execute("UPDATE job_request SET status = 'SUBMITTED' WHERE request_id = 'r1'")
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key)], [], batch_ids={key: ["b1"]})
    run.record(batch_of(key), stage="extract", state="failed", error="timeout")
    ending, _ = run.settle(*key)
    assert TRIED_AGAIN in (ending.message or "")
    assert row_of(cursor, "r1")["iteration"] == 2
    assert hook_of("next").count_pending(chosen()) == 1


def test_a_request_that_a_limit_put_back_and_a_person_cancelled_has_no_batch_that_waits(cursor: Any) -> None:
    key = insert(cursor, "r1")
    for name in ("run-1", "run-2"):
        run = hook_of(name)
        run.claim(chosen())
        run.list_batches([], [batch_of(key)], batch_ids={key: ["b1"]})
        assert run.settle(*key)[0].outcome == "SUBMITTED"
    hook_of("").cancel(key)
    cursor.execute(f"SELECT run_id, outcome, permanent FROM {LEDGER}.claim ORDER BY run_id")
    assert cursor.fetchall() == [("run-1", "SUBMITTED", False), ("run-2", "cancelled", True)]
    cursor.execute(f"SELECT state, error FROM {LEDGER}.batch_run WHERE run_id = 'run-2'")
    assert cursor.fetchall() == [("rejected", CANCELLED)]
    for name in ("run-1", "run-2"):
        cleared = hook_of(name)
        assert not cleared.has_unfinished() and cleared.requests_to_list() == []
        with pytest.raises(RequestCancelledError):
            cleared.ensure_claim(batch_of(key))


def test_a_cancelled_request_whose_last_claim_was_a_success_is_not_tried_again(cursor: Any) -> None:
    key = insert(cursor, "r1")
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key)], [], batch_ids={key: ["b1"]})
    run.complete_batch(batch_of(key), object_key="b1.zip", size_bytes=1)
    cursor.execute("UPDATE job_request SET status = 'SUBMITTED' WHERE request_id = 'r1'")  # its file was deleted
    for _ in range(2):
        hook_of("").cancel(key)
        assert hook_of("next").count_pending(chosen()) == 0
        cursor.execute(f"SELECT run_id, outcome FROM {LEDGER}.claim ORDER BY run_id")
        assert cursor.fetchall() == [("", "cancelled"), ("run", "SUCCESS")]
        cursor.execute("UPDATE job_request SET status = 'SUBMITTED' WHERE request_id = 'r1'")


def test_a_cancelled_batch_counts_no_bytes_for_its_org(cursor: Any) -> None:
    key, other = insert(cursor, "r1"), insert(cursor, "r2", minutes=1)
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key), batch_of(other)], [])
    assert run.reserve_bytes(batch_of(key), 90, 100, DAY) is None
    assert run.reserve_bytes(batch_of(other), 90, 100, DAY) == 90
    hook_of("").cancel(key)
    assert run.reserve_bytes(batch_of(other), 90, 100, DAY) is None


def test_a_cancelled_request_is_lost_to_its_run_which_publishes_nothing_more(
    cursor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "LIMIT_WAIT", "SET LOCAL lock_timeout = '50ms'")
    key, shared = insert(cursor, "r1"), insert(cursor, "r2", minutes=1)
    run, person = hook_of("run"), hook_of("")
    run.claim(chosen())
    made, late = batch_of(key, "b1"), batch_of(key, "b2")
    run.list_batches([made, late], [], duplicates=[(shared, "r1")], batch_ids={key: ["b1", "b2"]})
    run.complete_batch(made, object_key="b1.zip", size_bytes=1, sha256="0a", protection_level="PLAIN_DATASET")
    run.record(late, stage="package", state="running")
    with pytest.raises(ConflictError, match="held by run run of another installation"):
        hook_of(ELSEWHERE).cancel(key)
    with run.lock_claim(late), pytest.raises(ConflictError, match="writes a file of request r1 at this moment"):
        person.cancel(key)
    assert holders(cursor) == [(*key, "run"), (*shared, "run")]
    person.cancel(key)
    row = row_of(cursor, "r1")
    assert (row["status"], row["iteration"], row["err_message"]) == ("FAILED", 0, CANCELLED)
    assert (row["download_urls"], [one["batchId"] for one in row["processed_batches"]]) == (["b1.zip"], ["b1"])
    before = whole_rows(cursor)
    for write in (
        lambda: run.record(late, stage="package", state="running", size_bytes=7),
        lambda: run.lock_task_attempt(late, "package").__enter__(),
        lambda: run.lock_claim(late).__enter__(),
        lambda: run.ensure_claim(late),
        lambda: run.complete_batch(late, object_key="b2.zip", size_bytes=1),
        lambda: run.settle(*key),
    ):
        with pytest.raises(RequestCancelledError, match="cancelled request r1, so it is no longer held by this run"):
            write()
    cursor.execute(f"SELECT batch_id, state, error, sha256, protection_level FROM {LEDGER}.batch_run ORDER BY batch_id")
    assert cursor.fetchall() == [("b1", "done", None, "0a", "PLAIN_DATASET"), ("b2", "rejected", CANCELLED, None, None)]
    # Its run goes on with the others, and ends: the duplicate waits for the next run.
    assert run.reclaim_unfinished() == [] and run.release_deleted() == []
    assert run.held_without_duplicates() == [] and holders(cursor) == []
    row = row_of(cursor, "r2")
    assert (row["status"], row["iteration"], row["err_message"]) == ("SUBMITTED", 0, None)
    assert whole_rows(cursor) == before
    assert [request.key for request in hook_of("next").claim(chosen()).requests] == [shared]


# Ended runs


@pytest.mark.parametrize(
    ("change", "status", "iteration"),
    [
        ("DELETE FROM job_request WHERE request_id = 'r1'", None, None),
        ("UPDATE job_request SET requested_channel = 'org-2' WHERE request_id = 'r1'", "SUBMITTED", 1),
        ("UPDATE job_request SET requested_channel = NULL WHERE request_id = 'r1'", "SUBMITTED", 1),
        ("UPDATE job_request SET requested_channel = 'org-2', iteration = 2 WHERE request_id = 'r1'", "FAILED", 3),
        ("UPDATE job_request SET status = 'SUCCESS' WHERE request_id = 'r1'", "SUCCESS", 0),
    ],
)
def test_an_ended_runs_claim_that_no_run_can_take_is_released_once(
    cursor: Any, change: str, status: str | None, iteration: int | None
) -> None:
    key = insert(cursor, "r1")
    hook_of("old").claim(chosen())
    cursor.execute(change)
    new = hook_of("new")
    selection = chosen(ended_runs=["old"], channels=["org-1"])
    lost, ended = new.release_orphaned(selection)
    assert [(one.run_id, one.tag, one.request_id) for one in lost] == [("old", *key)]
    assert ended["FAILED"] == (status == "FAILED")
    assert (holders(cursor), new.holding_runs()) == ([], [])
    cursor.execute(f"SELECT outcome FROM {LEDGER}.claim")
    assert cursor.fetchall() == [("lost",)]
    if status:
        row = row_of(cursor, "r1")
        assert (row["status"], row["iteration"]) == (status, iteration)
    assert new.release_orphaned(selection) == ([], {"FAILED": 0})


def test_what_a_later_run_will_take_is_not_released(cursor: Any) -> None:
    key = insert(cursor, "r1")
    hook_of("old").claim(chosen())
    selection = chosen(ended_runs=["old"], request_ids=["another"], most=1)
    assert hook_of("new").release_orphaned(selection) == ([], {"FAILED": 0})
    assert holders(cursor) == [(*key, "old")]


def test_a_claim_reports_whose_staging_it_replaces(cursor: Any) -> None:
    keys = [insert(cursor, f"r{number}", minutes=number) for number in range(2)]
    hook_of("old").claim(chosen())
    claimed = hook_of("new").claim(chosen(ended_runs=["old"], request_ids=["r0"]))
    assert [(one.run_id, one.tag, one.request_id) for one in claimed.lost] == [("old", *keys[0])]
    assert hook_of("new").holding_runs() == ["old"]


# Deleted rows


def test_the_claim_of_a_deleted_row_is_released_and_never_taken_again(cursor: Any) -> None:
    key, shared = insert(cursor, "r1"), insert(cursor, "r2", minutes=1)
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key)], [], duplicates=[(shared, "r1")])
    cursor.execute("DELETE FROM job_request WHERE request_id = 'r1'")
    for write in (
        lambda: run.ensure_claim(batch_of(key)),
        lambda: run.lock_claim(batch_of(key)).__enter__(),
        lambda: run.complete_batch(batch_of(key), object_key="k.zip", size_bytes=1),
    ):
        with pytest.raises(RequestDeletedError, match="r1 no longer exists"):
            write()
    assert run.release_deleted() == [key]
    assert run.release_deleted() == []
    # No request makes the files that the duplicate shares: the run settles it by itself.
    assert [request.key for request in run.held_without_duplicates()] == [shared]
    run.reclaim_unfinished()
    assert holders(cursor) == [(*shared, "run")]


@pytest.mark.parametrize("lost", ["deleted", "released"])
def test_a_list_enters_nothing_for_a_request_that_is_no_longer_held_and_all_for_the_others(cursor: Any, lost: str) -> None:
    keys = [insert(cursor, f"r{number}", minutes=number) for number in range(6)]
    gone, shared, rejected, unlisted, finished, kept = keys
    run = hook_of("run")
    requests = {request.key: request for request in run.claim(chosen()).requests}
    for request_id in ("r0", "r2", "r3", "r4"):
        if lost == "deleted":
            cursor.execute("DELETE FROM job_request WHERE request_id = %s", [request_id])
        else:
            assert run.release(run.holders([request_id])[0])
    ended, dropped = run.list_batches(
        [batch_of(gone), batch_of(kept)],
        [],
        duplicates=[(shared, "r0")],
        rejected=[(rejected, "wrong")],
        failed=[(unlisted, False)],
        finished=[requests[finished]],
    )
    assert dropped == {gone, rejected, unlisted, finished} and not ended
    assert [one.batch for one in run.run_batches()] == [batch_of(kept)]
    assert [request.key for request in run.held_without_duplicates()] == [shared, kept]


def test_a_rejected_row_offers_no_file_of_the_other_row_with_its_request_id(cursor: Any) -> None:
    """An earlier version may have entered the same file in both rows."""
    entry = json.dumps([{"batchId": "b1", "filePath": "progress-exhaust/r1/b1_progress_20220926.zip"}])
    insert(cursor, "r1", tag="org 1", status="SUCCESS", download_urls=["progress-exhaust/r1/b1_progress_20220926.zip"])
    key = insert(cursor, "r1", tag="org 2", minutes=1, status="FAILED", iteration=1, processed_batches=entry)
    run = hook_of("run")
    claimed = run.claim(chosen()).requests
    assert run.with_older_request(claimed) == {key}
    run.list_batches([], [], same_request_id=[(key, "the same id")])
    cursor.execute("SELECT status, download_urls, processed_batches FROM job_request WHERE tag = 'org 2'")
    assert cursor.fetchall() == [("FAILED", None, None)]


def test_a_rejected_row_does_not_take_the_request_id_when_the_other_is_submitted_again(cursor: Any) -> None:
    first = insert(cursor, "r1", tag="org 1")
    second = insert(cursor, "r1", tag="org 2", minutes=1)
    run = hook_of("run")
    assert run.with_older_request(run.claim(chosen()).requests) == {second}
    run.list_batches([batch_of(first)], [], same_request_id=[(second, "the same id")])
    run.fail(*first, "broken")
    cursor.execute(
        "UPDATE job_request SET status = 'SUBMITTED', dt_job_submitted = dt_job_submitted + interval '1 day' WHERE tag = 'org 1'"
    )
    later = hook_of("later")
    assert later.with_older_request(later.claim(chosen()).requests) == set()


# Force, and limits


def test_a_forced_request_is_done_only_by_what_is_made_from_now_on(cursor: Any) -> None:
    entries = [{"batchId": one, "filePath": f"{one}_progress_{DAY:%Y%m%d}.zip"} for one in ("b1", "b2")]
    key = insert(cursor, "r1", status="SUCCESS", processed_batches=json.dumps(entries), download_urls=["b1.zip", "b2.zip"])
    forced = hook_of("forced")
    [request] = forced.claim(chosen(force=True, request_ids=["r1"])).requests
    assert request.finished() == {}
    forced.list_batches([batch_of(key, "b1"), batch_of(key, "b2")], [])
    forced.complete_batch(batch_of(key, "b1"), object_key="new/b1.zip", size_bytes=1)
    forced.fail(*key, "b2 failed")
    [request] = hook_of("next").claim(chosen()).requests
    assert set(request.finished()) == {"b1"}


def test_a_rerun_of_one_batch_of_a_forced_run_keeps_the_other(cursor: Any) -> None:
    key = insert(cursor, "r1", status="SUCCESS")
    forced = hook_of("forced")
    forced.claim(chosen(force=True, request_ids=["r1"]))
    forced.list_batches([batch_of(key, "b1"), batch_of(key, "b2")], [])
    forced.complete_batch(batch_of(key, "b1"), object_key="new/b1.zip", size_bytes=1)
    forced.fail(*key, "b2 failed")
    forced.ensure_claim(batch_of(key, "b2"))
    forced.complete_batch(batch_of(key, "b2"), object_key="new/b2.zip", size_bytes=1)
    assert row_of(cursor, "r1")["download_urls"] == ["new/b1.zip", "new/b2.zip"]


def test_packages_that_are_published_at_once_count_each_other(cursor: Any) -> None:
    key = insert(cursor, "r1")
    batches = [batch_of(key, f"b{number}") for number in range(8)]
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches(batches, [])
    for batch in batches:
        run.record(batch, stage="package", state="running")
    with ThreadPoolExecutor(8) as pool:
        over = list(pool.map(lambda one: hook_of("run").reserve_bytes(one, 40, 100, DAY), batches))
    assert sorted(over, key=str) == [80] * 6 + [None, None]
    room = next(batch for batch, published in zip(batches, over, strict=True) if published is None)
    hook_of("run").free_bytes(room)  # it could not be published
    wait = next(batch for batch, published in zip(batches, over, strict=True) if published)
    assert hook_of("run").reserve_bytes(wait, 40, 100, DAY) is None
    assert hook_of("run").reserve_bytes(wait, 60, 100, DAY) is None, "a retry does not count its own bytes"


def test_the_first_package_of_an_org_is_never_over_the_limit(cursor: Any) -> None:
    key = insert(cursor, "r1")
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key)], [])
    assert run.reserve_bytes(batch_of(key), 1000, 1, DAY) is None
