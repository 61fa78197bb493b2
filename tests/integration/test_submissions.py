"""Test what the trigger of new requests asks Postgres, with read rights alone, and the trigger itself through outages."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from dev.grants import GRANTS, psql
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.requests import submissions
from progress_exhaust.hooks.requests.submissions import SubmissionWatch
from progress_exhaust.triggers import pending_requests
from progress_exhaust.triggers.pending_requests import PendingRequestsTrigger
from tests.fault_proxy import HANG, REFUSE, FaultProxy
from tests.integration.life import (
    CONNECTION,
    CURRENT,
    LEDGER,
    chosen,
    connect,
    empty_database,
    hook_of,
    insert,
    whole_rows,
)

DATABASE = "progress_exhaust_submissions"
ROLE, PASSWORD = "progress_exhaust_reader", "s3cret"
VARIABLE = "AIRFLOW_VAR_PROGRESS_EXHAUST"
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    """Give a database with a table of requests and the ledger. The hooks of the trigger log in with read rights only."""
    uri = empty_database(DATABASE)
    cursor = connect(uri).cursor()
    cursor.execute(CURRENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONNECTION, uri)
        hook_of("any").prepare()
        drop_role(cursor)
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        cursor.execute(read_rights())
        yield cursor
        drop_role(cursor)
    cursor.connection.close()


@pytest.fixture
def queue(database: Any) -> Any:
    database.execute(f"DELETE FROM job_request; DELETE FROM {LEDGER}.claim; DELETE FROM {LEDGER}.batch_run")
    return database


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the hooks log in with read rights only; return the URI."""
    there = urlsplit(os.environ[CONNECTION])
    uri = urlunsplit(there._replace(netloc=f"{ROLE}:{PASSWORD}@{there.netloc.rpartition('@')[2]}"))
    monkeypatch.setenv(CONNECTION, uri)
    return uri


def drop_role(cursor: Any) -> None:
    cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE])
    if cursor.rowcount:
        cursor.execute(f"DROP OWNED BY {ROLE} CASCADE; DROP ROLE {ROLE}")


def read_rights() -> str:
    """Return what docs/grants/postgres.sql grants a reader: everything but writes."""
    statements = re.sub("--.*", "", (GRANTS / "postgres.sql").read_text()).split(";\n")
    reads = [one for one in statements if re.match(r"\s*GRANT (CONNECT|USAGE|SELECT)\b", one)]
    assert len(reads) == 6
    return psql(";\n".join(reads), role=ROLE, DBNAME=DATABASE)


@asynccontextmanager
async def connected(table: str = "job_request", ledger: str = LEDGER) -> AsyncIterator[SubmissionWatch]:
    watch = SubmissionWatch(job_request_table=table, ledger_schema=ledger)
    watch.prepare()
    try:
        await watch.connect()
        yield watch
    finally:
        await watch.close()


def waiting(
    *, starting: bool = False, batch_number: int | None = None, channels: Sequence[str] = (), **names: str
) -> dict[str, bool]:
    """Ask once; return the ids of the requests that wait, and whether a run has passed them over."""

    async def ask() -> dict[str, bool]:
        async with connected(**names) as watch:
            found = await watch.waiting(batch_number=batch_number, channels=channels, starting=starting)
            return {one.request_id: one.passed_over for one in found}

    return asyncio.run(ask())


# What waits


def test_only_submitted_requests_of_this_job_wait(queue: Any) -> None:
    for status in ("SUBMITTED", "PROCESSING", "SUCCESS", "FAILED"):
        insert(queue, status, status=status, iteration=1)
    insert(queue, "other", job_id="userinfo-exhaust")
    assert list(waiting()) == ["SUBMITTED"]


def test_request_that_a_run_holds_does_not_wait(queue: Any) -> None:
    insert(queue, "r1")
    hook_of("run").claim(chosen())
    assert waiting() == {}
    queue.execute("UPDATE job_request SET status = 'SUBMITTED'")  # the requester submits it again meanwhile
    assert waiting() == {}


def test_request_that_a_run_put_back_does_not_wait_until_it_is_submitted_again(queue: Any) -> None:
    key = insert(queue, "r1")
    run = hook_of("run")
    run.claim(chosen())
    run.requeue(*key)
    assert waiting(starting=True) == {}
    queue.execute("UPDATE job_request SET dt_job_submitted = now() AT TIME ZONE 'utc' + interval '1 second'")
    assert waiting(starting=True) == {"r1": False}


def test_request_that_waits_for_its_next_attempt_does_not_fire(queue: Any) -> None:
    key = insert(queue, "r1")
    run = hook_of("run")
    run.claim(chosen())
    run.fail(*key, "Cassandra is down")
    assert waiting() == {}


@pytest.mark.parametrize("end", ["fail", "succeed"])
def test_ended_request_that_is_submitted_again_waits_whatever_the_clocks_say(queue: Any, end: str) -> None:
    key = insert(queue, "r1")
    run = hook_of("run")
    run.claim(chosen())
    run.fail(*key, "no batch")
    if end == "succeed":
        queue.execute(f"UPDATE {LEDGER}.claim SET outcome = 'SUCCESS'")
    queue.execute("UPDATE job_request SET status = 'SUBMITTED', iteration = 0")
    assert waiting() == {"r1": False}


def test_released_and_lost_requests_wait(queue: Any) -> None:
    for request_id, outcome in (("r1", "released"), ("r2", "lost")):
        insert(queue, request_id)
        hook_of(request_id).claim(chosen(request_ids=[request_id]))
        queue.execute(f"UPDATE {LEDGER}.claim SET outcome = %s, released_at = now() WHERE released_at IS NULL", [outcome])
    queue.execute("UPDATE job_request SET status = 'SUBMITTED'")
    assert set(waiting()) == {"r1", "r2"}


def test_start_shows_what_a_run_passed_over_because_of_a_limit(queue: Any) -> None:
    insert(queue, "old1", minutes=1)
    insert(queue, "old2", minutes=2)
    assert waiting(starting=True) == {"old2": False, "old1": False}, "no run was there"
    hook_of("run").claim(chosen(most=1))
    insert(queue, "new", dt_job_submitted=datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=1))
    assert waiting(starting=True) == {"new": False, "old2": True}
    assert waiting() == {"new": False, "old2": False}  # the trigger knows it since its start


def test_claims_of_another_part_of_the_queue_pass_nothing_over(queue: Any) -> None:
    insert(queue, "theirs", requested_channel="org-2")
    insert(queue, "ours", requested_channel="org-1")
    hook_of("elsewhere:run").claim(chosen(channels=["org-2"]))
    assert waiting(starting=True, channels=["org-1"]) == {"ours": False}


def test_only_this_sites_part_of_the_queue(queue: Any) -> None:
    insert(queue, "r1", batch_number=1, requested_channel="org-1")
    insert(queue, "r2", batch_number=2, requested_channel="org-1")
    insert(queue, "r3", batch_number=1, requested_channel="org-2")
    assert set(waiting(batch_number=1)) == {"r1", "r3"}
    assert set(waiting(channels=["org-1"])) == {"r1", "r2"}
    assert set(waiting(batch_number=1, channels=["org-1", "org-9"])) == {"r1"}
    pending = hook_of("run").pending(chosen(batch_number=1, channels=["org-1"]))
    assert [request.request_id for request in pending] == ["r1"]  # a claim takes the same


@pytest.mark.parametrize("moment", ["infinity", "-infinity", None])
def test_odd_times_do_no_harm(queue: Any, moment: str | None) -> None:
    insert(queue, "r1", dt_job_submitted=moment)
    assert waiting(starting=True) == {"r1": False}
    key = insert(queue, "r2", dt_job_submitted=moment)
    run = hook_of("run")
    run.claim(chosen(request_ids=["r2"]))
    run.requeue(*key)
    assert ("r2" in waiting(starting=True)) == (moment == "infinity")


def test_newest_come_first_and_no_more_than_most(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        insert(queue, f"r{number}", minutes=number)
    monkeypatch.setattr(submissions, "MOST", 3)
    assert list(waiting()) == ["r4", "r3", "r2"]


def test_before_the_first_run_there_is_no_ledger(queue: Any) -> None:
    insert(queue, "r1")
    assert waiting(starting=True, ledger="not_there_yet") == {"r1": False}


def test_ledger_that_is_created_meanwhile_is_used(queue: Any) -> None:
    insert(queue, "r1")

    async def ask() -> list[int]:
        async with connected(ledger="made_later") as watch:
            values: dict[str, Any] = {"batch_number": None, "channels": (), "starting": False}
            before = len(await watch.waiting(**values))
            run = hook_of("run", ledger="made_later")
            run.prepare()
            run.claim(chosen())
            queue.execute("UPDATE job_request SET status = 'SUBMITTED'")
            return [before, len(await watch.waiting(**values))]

    assert asyncio.run(ask()) == [1, 0]


def test_table_without_batch_number_works(queue: Any) -> None:
    queue.execute("DROP TABLE IF EXISTS old; CREATE TABLE old AS SELECT * FROM job_request; ALTER TABLE old DROP batch_number")
    insert(queue, "r1", table="old")
    assert waiting(table="old") == {"r1": False}
    assert waiting(table="old", batch_number=1) == {}


# Rights and errors


@pytest.mark.usefixtures("reader")
def test_read_rights_are_enough_and_nothing_is_written(queue: Any) -> None:
    insert(queue, "r1")
    before = whole_rows(queue)
    assert waiting(starting=True) == {"r1": False}
    assert whole_rows(queue) == before


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("missing", ["job_request", f"{LEDGER}.claim"])
def test_missing_right_is_reported(queue: Any, missing: str) -> None:
    queue.execute(f"REVOKE ALL ON {missing} FROM {ROLE}")
    try:
        with pytest.raises(SetupError, match=r"permission denied.*\(for SELECT\); docs/grants/postgres\.sql has") as caught:
            waiting()
        assert PASSWORD not in str(caught.value)
    finally:
        queue.execute(read_rights())


def test_missing_table_is_reported(queue: Any) -> None:
    with pytest.raises(SetupError, match='"nowhere" does not exist; see the setting job_request_table'):
        waiting(table="nowhere")


def test_hung_server_ends_the_question(queue: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "ANSWER_SECONDS", 1)

    async def ask() -> None:
        async with connected() as watch:
            values: dict[str, Any] = {"batch_number": None, "channels": (), "starting": False}
            await watch.waiting(**values)
            proxy.begin(HANG)
            with pytest.raises(SourceError, match="no answer in 1 s"):
                await watch.waiting(**values)
            proxy.end()

    asyncio.run(asyncio.wait_for(ask(), 40))


@pytest.fixture
def proxy(reader: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Give a proxy in front of Postgres, which the hooks use."""
    there = urlsplit(reader)
    made = FaultProxy(there.port or 5432)
    monkeypatch.setenv(CONNECTION, urlunsplit(there._replace(netloc=f"{ROLE}:{PASSWORD}@127.0.0.1:{made.port}")))
    yield made
    made.close()


# The trigger itself


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trigger ask often, and pause for a moment only."""
    monkeypatch.setenv(VARIABLE, json.dumps({"request_poll_seconds": 0.05}))
    monkeypatch.setattr(pending_requests, "LONGEST_PAUSE_SECONDS", 0.2)


@asynccontextmanager
async def running(events: list[Any]) -> AsyncIterator[None]:
    """Run a trigger as the triggerer does, and cancel it at the end of the block."""

    async def consume(trigger: PendingRequestsTrigger) -> None:
        try:
            async for event in trigger.run():
                events.append(event.payload)
        finally:
            await trigger.cleanup()

    task = asyncio.create_task(consume(PendingRequestsTrigger()))
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(number: int, events: list[Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(events) < number:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)  # some more questions
    assert len(events) == number


def sessions(cursor: Any) -> int:
    cursor.execute("SELECT FROM pg_stat_activity WHERE usename = %s", [ROLE])
    return int(cursor.rowcount)


@pytest.mark.usefixtures("reader", "quick")
def test_each_submission_fires_once_and_the_connection_is_closed(queue: Any) -> None:
    async def follow() -> list[Any]:
        events: list[Any] = []
        async with running(events):
            await until(0, events)
            insert(queue, "r1")
            await until(1, events)
            assert sessions(queue) == 1
            claim_as_owner(queue)
            insert(queue, "r2")
            await until(2, events)
        return events

    assert asyncio.run(follow()) == [{"pending": 1}] * 2
    assert sessions(queue) == 0


@pytest.mark.usefixtures("quick")
def test_it_goes_on_after_an_outage(queue: Any, proxy: FaultProxy) -> None:
    async def follow() -> None:
        events: list[Any] = []
        async with running(events):
            await until(0, events)
            proxy.begin(REFUSE)
            insert(queue, "r1")
            await until(0, events)
            proxy.end()
            await until(1, events)

    asyncio.run(follow())


@pytest.mark.usefixtures("reader", "quick")
def test_request_that_is_submitted_and_deleted_between_two_questions_does_no_harm(queue: Any) -> None:
    async def follow() -> None:
        events: list[Any] = []
        async with running(events):
            await until(0, events)
            for _ in range(20):
                insert(queue, "r1")
                queue.execute("DELETE FROM job_request")
            await asyncio.sleep(0.3)
            seen = len(events)
            assert seen <= 1
            insert(queue, "r2")
            await until(seen + 1, events)

    asyncio.run(follow())


@pytest.mark.usefixtures("reader", "quick")
def test_two_of_it_fire_once_each(queue: Any) -> None:
    async def follow() -> None:
        first: list[Any] = []
        second: list[Any] = []
        async with running(first), running(second):
            insert(queue, "r1")
            await until(1, first)
            await until(1, second)

    asyncio.run(follow())


@pytest.mark.usefixtures("reader", "quick")
def test_it_is_cancelled_while_postgres_does_not_answer(queue: Any) -> None:
    async def follow() -> None:
        events: list[Any] = []
        async with asyncio.timeout(PATIENCE_SECONDS), running(events):
            await until(0, events)
            queue.execute("BEGIN; LOCK TABLE job_request")
            await asyncio.sleep(0.5)

    try:
        asyncio.run(follow())
    finally:
        queue.execute("ROLLBACK")
    assert sessions(queue) == 0


def claim_as_owner(cursor: Any) -> None:
    """Claim everything, as a run does."""
    cursor.execute(
        f"INSERT INTO {LEDGER}.claim (tag, request_id, installation, run_id) SELECT tag, request_id, 'a', 'run' FROM job_request"
    )
    cursor.execute("UPDATE job_request SET status = 'PROCESSING'")
