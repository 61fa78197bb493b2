"""Many requests of many orgs: who gets a place in a run, and what counts for the limits of an org."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from dev.world import many_batches_world
from tests.integration.install import Install
from tests.integration.life import DAY, batch_of, chosen, connect, database_of_requests, emptied, hook_of, insert

CONNECTIONS_PER_BATCH = 10  # of its five tasks


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    with database_of_requests("backlogs") as cursor:
        yield cursor


@pytest.fixture
def cursor(database: Any) -> Any:
    return emptied(database)


def claimed(run: str, **changes: Any) -> set[str]:
    return {request.request_id for request in hook_of(run).claim(chosen(**changes)).requests}


def test_thousand_requests_of_one_org_do_not_delay_the_request_of_another(cursor: Any) -> None:
    for number in range(1000):
        insert(cursor, f"many-{number:04}", minutes=number)
    insert(cursor, "other-1", minutes=2000, requested_channel="org-2")
    insert(cursor, "other-2", minutes=2001, requested_channel="org-2")
    insert(cursor, "none", minutes=2002, requested_channel=None)
    preview = [request.request_id for request in hook_of("run").pending(chosen(most=5))]
    assert preview == ["many-0000", "other-1", "none", "many-0001", "other-2"]
    assert claimed("run", most=5) == set(preview)
    assert claimed("next", most=2) == {"many-0002", "many-0003"}
    assert hook_of("next").count_pending(chosen(most=2)) == 1000 - 4


def test_requests_that_failed_do_not_delay_new_ones_of_their_org(cursor: Any) -> None:
    for number in range(3):
        insert(cursor, f"failed-{number}", minutes=number, status="FAILED", iteration=0)
    insert(cursor, "new", minutes=9)
    insert(cursor, "other", minutes=8, requested_channel="org-2")
    assert claimed("run", most=2) == {"new", "other"}
    assert claimed("next", most=2) == {"failed-0", "failed-1"}


def test_claim_takes_the_next_requests_where_another_one_locks_the_first(cursor: Any) -> None:
    for number in range(4):
        insert(cursor, f"r{number}", minutes=number)
    with hook_of("other")._transaction() as transaction:
        transaction.cursor.execute("SELECT FROM job_request WHERE request_id IN ('r0', 'r2') FOR UPDATE")
        assert claimed("run", most=2) == {"r1", "r3"}


def make(run: str, key: tuple[str, str], batch_id: str, day: Any = DAY, size_bytes: int = 10) -> None:
    batch = batch_of(key, batch_id)
    hook_of(run).complete_batch(batch, object_key=batch.object_key(day), size_bytes=size_bytes)


def test_what_an_org_gets_in_a_day_counts_over_all_runs_of_the_day(cursor: Any) -> None:
    key, waiting = insert(cursor, "r1"), insert(cursor, "r2")
    first, second, third = hook_of("first"), hook_of("second"), hook_of("third")
    first.claim(chosen(request_ids=["r1"]))
    first.list_batches([batch_of(key, "b1"), batch_of(key, "b2")], [batch_of(key, "b3")])
    make("first", key, "b1")
    assert second.batches_of_day(["org-1", "org-2"], DAY) == {"org-1": {("r1", "b1"), ("r1", "b2")}}, "one is being made"
    assert first.batches_of_day(["org-1"], DAY) == {"org-1": {("r1", "b1")}}, "a run lists its own batches"
    assert first.batches_of_day(["org-1"], DAY + timedelta(days=1)) == {}
    first.requeue(*key)
    assert second.batches_of_day(["org-1"], DAY) == {"org-1": {("r1", "b1")}}, "what a run gave up is not being made"
    second.claim(chosen(request_ids=["r2"]))
    second.list_batches([batch_of(waiting, "b1"), batch_of(waiting, "b2")], [])
    batch = batch_of(waiting, "b1")
    assert second.reserve_bytes(batch, 91, 100, DAY) == 10
    assert second.reserve_bytes(batch, 91, 100, DAY + timedelta(days=1)) is None
    assert third.reserve_bytes(batch_of(key, "b1"), 91, 100, DAY) is None, "the same file again"


def test_same_batch_in_other_requests_of_the_run(cursor: Any) -> None:
    keys = [insert(cursor, f"r{number}", requested_by=str(number)) for number in range(3)]
    run = hook_of("run")
    run.claim(chosen())
    run.list_batches([batch_of(key, one) for key in keys for one in ("b1", "b2")], [])
    assert [one.batch for one in run.same_batch_in_other_requests(batch_of(keys[0]))] == [batch_of(keys[1]), batch_of(keys[2])]
    assert hook_of("another").same_batch_in_other_requests(batch_of(keys[0])) == []


def sessions(install: Install) -> int:
    """Return how many sessions the database of the requests has had, once the statistics have those of a run."""
    server, _, database = install.postgres.rpartition("/")
    with closing(connect(f"{server}/postgres")) as connection, connection.cursor() as cursor:  # this one does not count
        numbers = [-1]
        while len(numbers) < 3 or len(set(numbers[-3:])) > 1:
            time.sleep(0.5)
            cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = %s", [database])
            numbers.append(*cursor.fetchone())
    return numbers[-1]


def test_connections_to_postgres_per_batch(install: Install, queue: Install) -> None:
    used = {}
    for batches in (2, 8):
        queue.make_tables()
        world = many_batches_world(batches, 5, per_request=1)
        queue.load(world)
        before = sessions(queue)
        assert queue.run_dag().state == "success"
        used[batches] = sessions(queue) - before
        assert all(row["status"] == "SUCCESS" for row in queue.rows().values())
    assert 0 < (used[8] - used[2]) / 6 <= CONNECTIONS_PER_BATCH, used
