"""Runs that meet: whatever they do at the same moment, a request is held by one of them."""

import multiprocessing
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

import pytest

from progress_exhaust.errors import ClaimLostError
from progress_exhaust.hooks.requests.connection import Transaction
from progress_exhaust.hooks.requests.models import Ended
from progress_exhaust.hooks.requests.status import LOST_AFTER_MILLISECONDS, RequestStatusReader
from progress_exhaust.report.request import JobRequest
from tests.integration.life import (
    ELSEWHERE,
    INSTALLATION,
    LEDGER,
    RunHook,
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

WORKERS, ROUNDS, REQUESTS = 8, 10, 1000
WAIT_SECONDS = 180


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    """Yield a cursor on a database that runs' hooks connect to."""
    with database_of_requests("progress_exhaust_races") as cursor:
        yield cursor


@pytest.fixture
def cursor(database: Any) -> Any:
    return emptied(database)


# Processes


def claim_until_none_is_left(number: int, together: Any, answers: Any) -> None:
    """Be one scheduler's worker: claim a bite at a time, in step with the others once a round."""
    try:
        for at in range(ROUNDS):
            hook = hook_of(run_name(at, number))
            selection = chosen(
                most=(REQUESTS, 100, 40)[at % 3],
                abandoned_before=datetime(2022, 10, 1, tzinfo=UTC),
                ended_runs=["ended"],
            )
            together.wait(WAIT_SECONDS)
            hook.prepare()
            held = []
            while hook.count_pending(selection):
                held = hook.claim(selection).requests
            answers.put((number, [request.key for request in held], None))
            together.wait(WAIT_SECONDS)
    except BaseException as error:
        answers.put((number, [], repr(error)))
        raise


def run_name(at: int, number: int) -> str:
    return f"round {at}, run {number}"


PENDING_STATES = {
    "waiting": {"status": "SUBMITTED", "iteration": 0},
    "failed": {"status": "FAILED", "iteration": 2, "err_message": "yesterday's", "dt_job_completed": "2022-09-26 11:00"},
    "ended": {"status": "PROCESSING", "iteration": 1},
    "abandoned": {"status": "PROCESSING", "iteration": None},
}
OTHERS = {
    "other": {"job_id": "userinfo-exhaust", "status": "SUBMITTED"},
    "ended-other": {"job_id": "response-exhaust", "status": "PROCESSING"},
    "no-job": {"job_id": None, "status": "SUBMITTED"},
    "done": {"status": "SUCCESS"},
    "given-up": {"status": "FAILED", "iteration": 3},
}


def fill(cursor: Any) -> dict[tuple[str, str], str]:
    """Lay out a round's requests; return the whole rows of those that no run may change."""
    cursor.execute("TRUNCATE job_request")
    cursor.execute("BEGIN")
    for number in range(REQUESTS):
        state = list(PENDING_STATES)[number % len(PENDING_STATES)]
        insert(cursor, f"{state}-{number}", minutes=number % 60, **PENDING_STATES[state])
    for number, name in enumerate(list(OTHERS) * 20):
        insert(cursor, f"{name}-{number}", minutes=number % 60, **OTHERS[name])
    cursor.execute("COMMIT")
    untouched = {key: text for key, text in whole_rows(cursor).items() if key[1].rpartition("-")[0] in OTHERS}
    assert len(untouched) == 20 * len(OTHERS)
    return untouched


def let_ended_run_hold(cursor: Any) -> None:
    cursor.execute(
        f"INSERT INTO {LEDGER}.claim (tag, request_id, installation, run_id) "
        f"SELECT tag, request_id, '{INSTALLATION}', 'ended' FROM job_request "
        "WHERE request_id LIKE 'ended-%' AND job_id = 'progress-exhaust'"
    )


def test_eight_runs_at_once_claim_each_request_once(database: Any) -> None:
    database.execute(f"DROP SCHEMA IF EXISTS {LEDGER} CASCADE")  # the first round's runs make the ledger, all at once
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(WORKERS + 1), spawn.Queue()
    workers = [
        spawn.Process(target=claim_until_none_is_left, args=(number, together, answers), daemon=True) for number in range(WORKERS)
    ]
    sharers = []
    try:
        for worker in workers:
            worker.start()
        for at in range(ROUNDS):
            untouched = fill(database)
            if at:
                database.execute(f"TRUNCATE {LEDGER}.claim")
                let_ended_run_hold(database)
            together.wait(WAIT_SECONDS)
            claimers: dict[tuple[str, str], list[str]] = {}
            for _ in workers:
                number, keys, error = answers.get(timeout=WAIT_SECONDS)
                assert error is None, error
                for key in keys:
                    claimers.setdefault(key, []).append(run_name(at, number))
            check_round(database, at, claimers, untouched)
            sharers.append(len({runs[0] for runs in claimers.values()}))
            together.wait(WAIT_SECONDS)
        for worker in workers:
            worker.join(WAIT_SECONDS)
            assert worker.exitcode == 0
    finally:
        together.abort()
        for worker in workers:
            worker.kill()
            worker.join()
    assert max(sharers) == WORKERS, f"no race was run: at most {max(sharers)} runs got a share"


def check_round(cursor: Any, at: int, claimers: dict[tuple[str, str], list[str]], untouched: dict[tuple[str, str], str]) -> None:
    twice = {key: runs for key, runs in claimers.items() if len(runs) > 1}
    assert not twice
    in_table = holders(cursor)
    # In the first round no claim holds the ended run's requests: they are abandoned, and claimed too.
    assert len(claimers) == REQUESTS
    assert sorted((*key, runs[0]) for key, runs in claimers.items()) == in_table
    rows = whole_rows(cursor)
    assert {key: rows[key] for key in untouched} == untouched
    cursor.execute(
        "SELECT split_part(request_id, '-', 1), status, iteration, err_message, dt_job_completed IS NULL, count(*) "
        "FROM job_request WHERE (tag, request_id) IN (SELECT tag, request_id FROM progress_exhaust.claim) GROUP BY 1, 2, 3, 4, 5"
    )
    each = REQUESTS // len(PENDING_STATES)
    assert sorted(cursor.fetchall()) == [
        ("abandoned", "PROCESSING", None, None, True, each),
        ("ended", "PROCESSING", 2 if at else 1, None, True, each),  # the lost attempt is counted once
        ("failed", "PROCESSING", 2, None, True, each),
        ("waiting", "PROCESSING", 0, None, True, each),
    ]
    cursor.execute(f"SELECT outcome, failure_counted, count(*) FROM {LEDGER}.claim WHERE run_id = 'ended' GROUP BY 1, 2")
    assert cursor.fetchall() == ([("lost", True, each)] if at else [])


# Two tasks, stopped where they could get into each other's way


class PausedHook(RunHook):
    """Waits inside a transaction: before it takes what it saw free, or before it commits a claim."""

    def __init__(self, run_id: str, *, before_take: Callable[[], Any] = bool, before_commit: Callable[[], Any] = bool) -> None:
        super().__init__(
            run_id=run_id.removeprefix(ELSEWHERE),
            installation=hook_of(run_id).installation,
            job_request_table="job_request",
            ledger_schema=LEDGER,
        )
        self._before_take, self._before_commit = before_take, before_commit

    def _take(self, *arguments: Any, **named: Any) -> None:
        self._before_take()
        super()._take(*arguments, **named)

    def _held(self, *arguments: Any, **named: Any) -> list[JobRequest]:
        self._before_commit()
        return super()._held(*arguments, **named)


def wait_for_a_blocked_backend(cursor: Any) -> None:
    deadline = monotonic() + 10
    while monotonic() < deadline:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        if cursor.fetchone()[0]:
            return
        sleep(0.01)
    raise AssertionError("no backend waits for a lock")


def test_two_cleared_batches_of_a_request_take_it_again_together(cursor: Any) -> None:
    key = insert(cursor, "r1")
    old = hook_of("old")
    old.claim(chosen())
    batches = [batch_of(key, "b1"), batch_of(key, "b2")]
    old.list_batches(batches, [])
    old.fail(*key, "both failed")

    both_saw_it_free = threading.Barrier(2)
    hooks = [PausedHook("old", before_take=lambda: both_saw_it_free.wait(10)) for _ in batches]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(hook.ensure_claim, batch) for hook, batch in zip(hooks, batches, strict=True)]:
            done.result()
    assert holders(cursor) == [(*key, "old")]


def test_two_runs_that_take_a_request_again_together_leave_it_to_one(cursor: Any) -> None:
    key = insert(cursor, "r1")
    for run in ("one", "other"):
        hook_of(run).claim(chosen())
        hook_of(run).fail(*key, "failed")
    both_saw_it_free = threading.Barrier(2)
    hooks = [PausedHook(run, before_take=lambda: both_saw_it_free.wait(10)) for run in ("one", "other")]
    with ThreadPoolExecutor(2) as pool:
        errors = [done.exception() for done in [pool.submit(hook.ensure_claim, batch_of(key)) for hook in hooks]]
    ((*_, winner),) = holders(cursor)
    (lost,) = filter(None, errors)
    assert isinstance(lost, ClaimLostError)
    assert f"held by run {winner}" in str(lost)


@pytest.mark.parametrize("end", ["complete", "fail", "give_back", "succeed"])
def test_a_run_does_not_change_a_duplicate_that_another_run_claims_meanwhile(cursor: Any, end: str) -> None:
    """The new claim locks the duplicate's row while the old run ends the request: the old run waits, then sees the loss."""
    first, duplicate = insert(cursor, "first"), insert(cursor, "duplicate")
    old = hook_of("old")
    requests = {request.request_id: request for request in old.claim(chosen()).requests}
    old.list_batches([batch_of(first)], [], duplicates=[(duplicate, "first")])

    inside, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        inside.set()
        assert go_on.wait(10)

    ends: dict[str, Callable[[], Any]] = {
        "complete": lambda: old.complete_batch(batch_of(first), object_key="k.zip", size_bytes=1),
        "fail": lambda: old.fail(*first, "failed"),
        "give_back": lambda: old.requeue(*first),
        "succeed": lambda: old.list_batches([], [], duplicates=[(duplicate, "first")], finished=[requests["first"]]),
    }
    new = PausedHook("new", before_commit=pause)
    with ThreadPoolExecutor(2) as pool:
        takeover = pool.submit(new.claim, chosen(ended_runs=["old"], request_ids=["duplicate"]))
        assert inside.wait(10)
        ending = pool.submit(ends[end])
        wait_for_a_blocked_backend(cursor)
        go_on.set()
        assert [request.key for request in takeover.result().requests] == [duplicate]
        ending.result()
    assert holders(cursor) == [(*duplicate, "new")]
    row = row_of(cursor, "duplicate")
    assert (row["status"], row["iteration"], row["err_message"], row["processed_batches"]) == ("PROCESSING", 1, None, None)
    assert row_of(cursor, "first")["status"] == {"fail": "FAILED", "give_back": "SUBMITTED"}.get(end, "SUCCESS")


def test_a_takeover_leaves_what_the_old_run_publishes(cursor: Any) -> None:
    """The new run does not wait: a publication may take minutes. It claims the other pending requests."""
    key = insert(cursor, "r1")
    old, new = hook_of("old"), hook_of("new")
    old.claim(chosen())
    old.list_batches([batch_of(key)], [])
    other = insert(cursor, "r2")
    with old.lock_claim(batch_of(key)):
        assert [request.key for request in new.claim(chosen(ended_runs=["old"])).requests] == [other]
        assert holders(cursor) == [(*key, "old"), (*other, "new")]
        assert row_of(cursor, "r1")["iteration"] == 0
    assert [request.key for request in new.claim(chosen(ended_runs=["old"])).requests] == [key, other]
    with pytest.raises(ClaimLostError, match="held by run new"), old.lock_claim(batch_of(key)):
        pytest.fail("published without the claim")


def test_two_batches_that_end_at_once_make_one_success(cursor: Any) -> None:
    key = insert(cursor, "r1")
    batches = [batch_of(key, f"b{number}") for number in range(8)]
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches(batches, [])
    with ThreadPoolExecutor(8) as pool:
        ends = Counter(
            pool.map(
                lambda one: bool(hook_of("run").complete_batch(one, object_key=f"{one.batch_id}.zip", size_bytes=1)), batches
            )
        )
    assert ends == {True: 1, False: 7}
    row = row_of(cursor, "r1")
    assert row["status"] == "SUCCESS"
    assert sorted(row["download_urls"]) == [f"b{number}.zip" for number in range(8)]
    assert sorted(entry["batchId"] for entry in row["processed_batches"]) == [f"b{number}" for number in range(8)]


# Attempts of one task: Airflow counts one as lost and starts another, but the first still runs


def attempt_of(number: int, run_id: str = "run") -> RunHook:
    hook = hook_of(run_id)
    hook.task_attempt = number
    return hook


def test_only_the_newest_attempt_of_a_stage_may_write(cursor: Any) -> None:
    key = insert(cursor, "r1")
    batch, late, retry = batch_of(key), attempt_of(1), attempt_of(2)
    late.claim(chosen())
    late.list_batches([batch], [])
    late.record(batch, stage="package", state="running")
    with late.lock_claim(batch):
        pass
    retry.record(batch, stage="package", state="running", counts={"package_bytes": 7})
    before = retry.batch_run(batch)
    words = "package: a newer attempt of this task has started"
    with pytest.raises(ClaimLostError, match=words):
        late.record(batch, stage="package", state="failed", error="late")
    with pytest.raises(ClaimLostError, match=words), late.lock_claim(batch):
        pytest.fail("published although a newer attempt has started")
    with pytest.raises(ClaimLostError, match=words), late.lock_task_attempt(batch, "package"):
        pytest.fail("wrote in staging although a newer attempt has started")
    assert retry.batch_run(batch) == before
    # Each stage counts its own attempts. A run that lists its batches again restarts the count.
    late.record(batch, stage="mark_complete", state="running")
    retry.record(batch, stage="mark_complete", state="running")
    with pytest.raises(ClaimLostError, match="mark_complete: a newer attempt"):
        late.complete_batch(batch, object_key="late.zip", size_bytes=1)
    assert row_of(cursor, "r1")["status"] == "PROCESSING"
    late.list_batches([batch], [])
    late.record(batch, stage="package", state="running")


def everything(cursor: Any) -> tuple[Any, ...]:
    """Return every row of the three tables."""
    tables = "job_request", f"{LEDGER}.claim", f"{LEDGER}.batch_run"
    rows = []
    for table in tables:
        cursor.execute(f"SELECT one::text FROM {table} one ORDER BY 1")
        rows.append(cursor.fetchall())
    return tuple(rows)


def test_only_the_newest_attempt_of_the_list_may_write(cursor: Any) -> None:
    """The late one's list has another batch, and it would refuse a request that the retry makes, and end one."""
    keys = [insert(cursor, name) for name in ("made", "refused", "finished")]
    late, retry = attempt_of(1), attempt_of(2)
    held = late.claim(chosen()).requests
    late.list_batches([batch_of(keys[0], "of-the-first-list")], [])
    assert retry.requests_to_list() == held
    with late.lock_list():
        pass
    retry.list_batches([batch_of(key) for key in keys], [])
    first = attempt_of(1)
    first.record(batch_of(keys[0]), stage="extract", state="running")
    before = everything(cursor)
    words = "list_batches: a newer attempt of this task has started"
    verbs: list[Callable[[], Any]] = [
        lambda: late.list_batches([batch_of(keys[0], "late")], []),
        lambda: late.list_batches([], [], duplicates=[(keys[1], "made")]),
        lambda: late.list_batches([], [], rejected=[(keys[1], "No data found")]),
        lambda: late.list_batches([], [], finished=[held[2]]),
        late.requests_to_list,
        lambda: late.lock_list().__enter__(),
    ]
    for verb in verbs:
        with pytest.raises(ClaimLostError, match=words):
            verb()
        assert everything(cursor) == before
    attempt_of(3).list_batches([batch_of(key) for key in keys], [])  # the retry of the retry; an engineer's clear is one
    # A run that was deleted in Airflow and made again counts its attempts from 1.
    late.claim(chosen())
    late.list_batches([batch_of(key) for key in keys], [])


def test_a_late_list_enters_no_batch_of_a_finished_or_lost_request(cursor: Any) -> None:
    """The retry's list had no batch that could show it; or the run was marked as failed, and another has taken its requests."""
    over, lost = insert(cursor, "over"), insert(cursor, "lost")
    late, new = attempt_of(1, "old"), hook_of("new")
    late.claim(chosen())
    attempt_of(2, "old").list_batches([], [], rejected=[(over, "No data found")])
    new.claim(chosen(ended_runs=["old"], request_ids=["lost"]))
    new.list_batches([batch_of(lost)], [])
    before = everything(cursor)
    for key, words in ((over, "is no longer held by this run"), (lost, "is held by run new")):
        assert late.list_batches([batch_of(key)], []) == (Ended(), {key})
        assert late.list_batches([], [], rejected=[(key, "late")]) == (Ended(), {key})
        with pytest.raises(ClaimLostError, match=words):
            late.fail(*key, "late")
    assert everything(cursor) == before


class Committing(RunHook):
    """Waits, with all that it changed, before it commits."""

    def __init__(self, number: int) -> None:
        super().__init__(
            run_id="run", installation=INSTALLATION, job_request_table="job_request", ledger_schema=LEDGER, task_attempt=number
        )
        self.inside, self.go_on = threading.Event(), threading.Event()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with super()._transaction() as cursor:
            yield cursor
            self.inside.set()
            assert self.go_on.wait(10)


@pytest.mark.parametrize("first", [1, 2])
def test_two_attempts_that_enter_their_lists_at_once(cursor: Any, first: int) -> None:
    """The second waits for the first. The list of the newest attempt remains, in either order."""
    keys = [insert(cursor, f"r{number}") for number in range(5)]
    hook_of("run").claim(chosen())
    lists = {number: [batch_of(key, f"of-try-{number}") for key in keys] for number in (1, 2)}
    hook, other = Committing(first), attempt_of(3 - first)
    with ThreadPoolExecutor(2) as pool:
        entering = pool.submit(hook.list_batches, lists[first], [])
        assert hook.inside.wait(10)
        waiting = pool.submit(other.list_batches, lists[3 - first], [])
        wait_for_a_blocked_backend(cursor)
        hook.go_on.set()
        assert entering.exception() is None
        assert isinstance(waiting.exception(), ClaimLostError if first == 2 else type(None))
    assert {one.batch_id for one in hook_of("run").run_batches()} == {"of-try-2"}


def test_a_retry_waits_while_the_late_try_publishes(cursor: Any) -> None:
    key = insert(cursor, "r1")
    batch, late, retry = batch_of(key), attempt_of(1), attempt_of(2)
    late.claim(chosen())
    late.list_batches([batch], [])
    late.record(batch, stage="package", state="running")
    with ThreadPoolExecutor(1) as pool:
        with late.lock_claim(batch):
            started = pool.submit(retry.record, batch, stage="package", state="running")
            wait_for_a_blocked_backend(cursor)
        started.result()


def test_a_retry_waits_for_a_late_attempt_that_has_waited_for_a_new_list(cursor: Any) -> None:
    """The new list replaces the row that the late attempt wants to lock."""
    key = insert(cursor, "r1")
    batch, late, retry = batch_of(key), attempt_of(1), attempt_of(2)
    late.claim(chosen())
    late.list_batches([batch], [])
    late.record(batch, stage="package", state="running")
    inside, go_on = threading.Event(), threading.Event()

    def publish() -> None:
        with late.lock_claim(batch):
            inside.set()
            assert go_on.wait(10)

    with ThreadPoolExecutor(3) as pool:
        listing = Committing(2)
        entering = pool.submit(listing.list_batches, [batch], [])
        assert listing.inside.wait(10)
        publishing = pool.submit(publish)
        wait_for_a_blocked_backend(cursor)
        listing.go_on.set()
        entering.result()
        assert inside.wait(10)
        retrying = pool.submit(retry.record, batch, stage="package", state="running")
        wait_for_a_blocked_backend(cursor)
        go_on.set()
        publishing.result()
        retrying.result()


def test_a_late_list_that_has_waited_for_a_new_one_writes_nothing(cursor: Any) -> None:
    key = insert(cursor, "r1")
    late = attempt_of(1)
    late.claim(chosen())
    late.list_batches([batch_of(key)], [])
    with ThreadPoolExecutor(2) as pool:
        listing = Committing(2)
        entering = pool.submit(listing.list_batches, [batch_of(key)], [])
        assert listing.inside.wait(10)
        writing = pool.submit(late.lock_list().__enter__)
        wait_for_a_blocked_backend(cursor)
        listing.go_on.set()
        entering.result()
        assert isinstance(writing.exception(), ClaimLostError)


def test_a_cleared_stage_takes_no_request_again_that_a_later_run_has_made(cursor: Any) -> None:
    key = insert(cursor, "r1")
    batch, old, new = batch_of(key), hook_of("old"), hook_of("new")
    old.claim(chosen())
    old.list_batches([batch], [])
    old.fail(*key, "failed")
    new.claim(chosen())
    new.list_batches([batch], [])
    assert new.complete_batch(batch, object_key="k.zip", size_bytes=1)
    made = row_of(cursor, "r1")
    with pytest.raises(ClaimLostError, match="no longer held by this run, and run new has completed it"):
        old.ensure_claim(batch)
    assert row_of(cursor, "r1") == made
    new.ensure_claim(batch)  # the run that made it may replace its file
    assert holders(cursor) == [(*key, "new")]


# Sessions of a lost machine: its locks are not kept, and no task waits for its answer


def test_the_server_looks_whether_a_transactions_client_is_still_there(cursor: Any) -> None:
    """As the server's own socket and session have it."""
    wanted = {
        "client_connection_check_interval": "10s",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "idle_in_transaction_session_timeout": "30s",
    }
    with hook_of("run")._transaction() as session:
        assert settings_of(session, wanted) == wanted
    batch = batch_of(insert(cursor, "r1"))
    with hook_of("run")._locked_attempt(batch, "package") as session:
        assert settings_of(session, wanted) == wanted | {"idle_in_transaction_session_timeout": "1h"}
    with hook_of("run")._locked_attempt(batch, "package", 7200) as session:
        assert settings_of(session, wanted) == wanted | {"idle_in_transaction_session_timeout": "2h"}


def settings_of(session: Transaction, names: Iterable[str]) -> dict[str, str]:
    statement = "SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name"
    return dict(session.fetch_all(statement, {"names": list(names)}))


def test_the_page_does_not_wait_for_a_lost_server(cursor: Any) -> None:
    with (
        RequestStatusReader(job_request_table="job_request", ledger_schema=LEDGER)._transaction() as session,
        socket.socket(fileno=os.dup(session.cursor.connection.fileno())) as held,
    ):
        assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == LOST_AFTER_MILLISECONDS


def test_a_chain_of_runs_takes_again_only_what_a_limit_has_deferred(cursor: Any) -> None:
    """It would use up the three attempts of a request within minutes."""
    failed, put_back, deferred, untouched = (insert(cursor, name) for name in ("failed", "put-back", "deferred", "untouched"))
    first = hook_of("manual__1")
    first.claim(chosen(request_ids=["failed", "put-back", "deferred"]))
    first.list_batches([], [batch_of(deferred)])
    first.fail(*failed, "The content search is down")
    first.requeue(*put_back)
    first.requeue(*deferred)

    def pending(run: str, **changes: Any) -> set[str]:
        return {request.request_id for request in hook_of(run).pending(chosen(**changes))}

    assert pending("next__2__manual__1", first_run="manual__1") == {"deferred", "untouched"}
    assert pending("next__2__manual__2", first_run="manual__2") == pending("manual__3") == {
        "failed", "put-back", "deferred", untouched[1],
    }  # fmt: skip
    second = hook_of("next__2__manual__1")
    second.claim(chosen(first_run="manual__1"))
    second.requeue(*deferred)
    second.requeue(*untouched)
    assert pending("next__3__manual__1", first_run="manual__1") == set()
