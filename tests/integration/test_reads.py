"""What a report reads: the learners of its batch and no others, some at a time, and of them only what it shows."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import redis

from dev.world import Row, World, batch_world, request_row
from progress_exhaust.hooks.user_cache import NO_ONE
from tests.integration.install import REPORT_DAY, USERS_DB, Install, RunResult
from tests.oracle import expected_csv

LEARNERS, OTHERS, KEYS_PER_READ, LEARNERS_PER_PART = 60, 80, 7, 25
FIELDS = {"firstname", "lastname", "state", "district", "rootorgid", "status"}  # never email and phone


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    """Load one batch among others of the same course and of other ones."""
    made = batch_world(LEARNERS, OTHERS, nested=3, assessments=4, leaves=10)
    install.load(made)
    return made


@pytest.fixture(scope="module")
def run(install: Install, world: World) -> tuple[RunResult, list[str]]:
    """Make the report of the batch; return also the commands that Redis got meanwhile."""
    small = {"partitions_per_query": KEYS_PER_READ, "learners_per_chunk": LEARNERS_PER_PART, "read_strategy": "partitions"}
    # What is read in another process cannot be recorded in this one.
    small["processes_per_task"] = 1
    with watched_redis(install) as commands:
        result = install.run_dag(settings=small, record_reads=True)
    assert result.state == "success", result.failed()
    return result, commands


@contextmanager
def watched_redis(install: Install) -> Iterator[list[str]]:
    """Write down each command that the Redis server gets while the block runs."""
    commands: list[str] = []
    port = install.users.connection_pool.connection_kwargs["port"]
    over = "the watched block has ended"

    def watch(monitor: "redis.client.Monitor") -> None:
        for command in monitor.listen():
            if over in command["command"]:
                return
            if command["db"] == USERS_DB:
                commands.append(command["command"])

    with redis.Redis(port=port, socket_timeout=None) as client, client.monitor() as monitor:
        watcher = threading.Thread(target=watch, args=[monitor])
        watcher.start()
        yield commands
        install.users.echo(over)
        watcher.join()


def enrolled(world: World) -> set[str]:
    return {row["userid"] for row in world.enrolments if row["batchid"] == world.batches[0]["batchid"]}


def active(world: World) -> set[str]:
    batch = world.batches[0]["batchid"]
    return {row["userid"] for row in world.enrolments if row["batchid"] == batch and row["active"]}


def reads_of(result: RunResult, table: str) -> list[Row]:
    return [read for read in result.reads if re.search(rf"\.{table}\b", read["query"])]


def reads_of_archived_scores(result: RunResult, world: World) -> list[Row]:
    """Return the reads of a collection's own aggregates: they may have the scores of archived attempts."""
    own = {batch["courseid"] for batch in world.batches}
    reads = reads_of(result, "user_activity_agg")
    return [read for read in reads if own & {value for _, value in read["values"] if isinstance(value, str)}]


def users_in(read: Row) -> list[str]:
    """Return the learners whom a query names, one or several."""
    named = [value for column, value in read["values"] if "user" in column]
    return [user for value in named for user in ([value] if isinstance(value, str) else value)]


def test_only_the_batchs_own_learners_are_asked_for_in_cassandra(run: tuple[RunResult, list[str]], world: World) -> None:
    others = {row["userid"] for row in world.enrolments} - enrolled(world)
    assert len(others) > 50
    asked: set[str] = set()
    for read in run[0].reads:
        text = json.dumps(read["values"])
        assert not [user for user in others if user in text]
        asked |= set(users_in(read))
    # And those who are in the report, each.
    assert asked == active(world)


def test_several_partitions_are_asked_for_at_a_time_and_no_more_than_the_setting(run: tuple[RunResult, list[str]]) -> None:
    assert max(len(users_in(read)) for read in run[0].reads) == KEYS_PER_READ


def test_no_learner_is_asked_for_twice(run: tuple[RunResult, list[str]], world: World) -> None:
    learners = len(active(world))
    for table, times in (("assessment_aggregator", 1), ("user_activity_agg", 3)):  # once a nested collection
        archived = reads_of_archived_scores(run[0], world)
        reads = [read for read in reads_of(run[0], table) if read not in archived]
        assert sum(len(users_in(read)) for read in reads) == times * learners
        # Full groups but for the last one of each part.
        parts = -(-learners // LEARNERS_PER_PART)
        assert len(reads) <= times * (learners // KEYS_PER_READ + parts)


def test_a_few_learners_are_asked_for_archived_scores(run: tuple[RunResult, list[str]], world: World) -> None:
    asked = [user for read in reads_of_archived_scores(run[0], world) for user in users_in(read)]
    assert 0 < len(asked) == len(set(asked)) <= len(active(world))


def test_one_batch_is_read_of_the_enrolments(run: tuple[RunResult, list[str]], world: World) -> None:
    batch = world.batches[0]
    [read] = reads_of(run[0], "report_user_enrolments")
    assert dict(read["values"]) == {"batchid": batch["batchid"], "courseid": batch["courseid"]}
    for table in ("user_activity_agg", "assessment_aggregator"):
        for read in reads_of(run[0], table):
            assert batch["batchid"] in json.dumps(read["values"])


def test_no_statement_reads_whole_rows_or_questions(run: tuple[RunResult, list[str]], install: Install) -> None:
    """By the hook's own account, and by what the server was asked to prepare."""
    prepared = [row[0] for row in install.session.execute("SELECT query_string FROM system.prepared_statements")]
    selects = {query for query in prepared if install.names.courses in query and query.lstrip().upper().startswith("SELECT")}
    asked = {read["query"] for read in run[0].reads}
    ours = {query for query in asked if install.names.courses in query}
    assert len(ours) >= 4 and ours <= selects
    for query in asked | selects:
        assert "*" not in query
        assert "question" not in query
        columns = query.upper().split(" FROM ")[0]
        for heavy in ("RESVALUES", "AGG_DETAILS", "LASTREADCONTENTID", "ADDEDBY"):
            assert heavy not in columns


def test_the_user_cache_is_asked_for_these_learners_and_fields_alone(run: tuple[RunResult, list[str]], world: World) -> None:
    asked: list[str] = []
    for command in run[1]:
        verb, *words = command.split(" ")
        if NO_ONE in command:
            assert verb.upper() in ("HMGET", "EXISTS")
        elif verb.upper() in ("HMGET", "HGETALL", "HGET", "HSCAN"):
            assert set(words[1:]) == FIELDS
            asked.append(words[0].removeprefix("user:"))
        else:
            assert verb.upper() in ("EXISTS", "CLIENT", "HELLO", "SELECT", "PING"), command  # no SCAN, no KEYS
    assert sorted(asked) == sorted(active(world))


def test_a_table_is_scanned_once_for_all_batches_of_the_run(install: Install, world: World) -> None:
    live = {content["identifier"] for content in world.contents}
    batches = [row["batchid"] for row in world.batches if row["courseid"] in live][:3]
    result = install.run_dag(
        {"batch_ids": batches},
        settings={"enrolments_table": install.names.enrolments_by_user, "read_strategy": "scan", "processes_per_task": 1},
        record_reads=True,
    )
    assert result.state == "success", result.failed()
    contexts = [f"cb:{batch}" for batch in batches]
    for table, wanted in (("user_enrolments", batches), ("user_activity_agg", contexts), ("assessment_aggregator", batches)):
        archived = reads_of_archived_scores(result, world)
        reads = [read for read in reads_of(result, table) if read not in archived]
        ranges = Counter(tuple(value for column, value in read["values"] if "token" in column) for read in reads)
        assert set(ranges.values()) == {1}
        ring = sorted(ranges)
        # The whole ring, each token once a scan.
        assert ring[0][0] == -(2**63) and ring[-1][1] == 2**63 - 1
        assert all(left[1] + 1 == right[0] for left, right in pairwise(ring))
        assert not any(users_in(read) for read in reads)
        for read in reads:
            assert [sorted(value) for _, value in read["values"] if isinstance(value, list)] == [sorted(wanted)]


@pytest.mark.parametrize("table", ["enrolments_by_batch", "enrolments_by_user"])
@pytest.mark.parametrize("read_strategy", ["partitions", "scan"])
@pytest.mark.parametrize(("processes", "learners_per_chunk"), [(1, 5000), (2, 7)])
def test_the_csv_is_the_same_however_it_is_read(
    install: Install, world: World, table: str, read_strategy: str, processes: int, learners_per_chunk: int
) -> None:
    """By one process or several, in pages of any size, from tables of either key, by partitions or by a scan."""
    [request], batch = world.requests, world.batches[0]["batchid"]
    install.submit([request])
    result = install.run_dag(
        settings={
            "enrolments_table": getattr(install.names, table),
            "read_strategy": read_strategy,
            "processes_per_task": processes,
            "learners_per_chunk": learners_per_chunk,
        }
    )
    assert result.state == "success", result.failed()
    [key] = install.row(request)["download_urls"]
    assert install.csv(key) == expected_csv(world, request, batch, REPORT_DAY)


def test_batches_of_a_run_share_the_tree_and_two_requests_the_facts_of_one_batch(install: Install, world: World) -> None:
    [request] = world.requests
    now = datetime.now(UTC)
    twice = [
        request_row(request["request_data"], label="twice", channel=request["requested_channel"], by=by, at=now)
        for by in ("first", "second")
    ]
    install.submit(twice)
    result = install.run_dag(settings={"read_strategy": "partitions", "processes_per_task": 1}, record_reads=True)
    assert result.state == "success", result.failed()
    for table in ("content_hierarchy", "report_user_enrolments"):
        assert len(reads_of(result, table)) == 1
    asked = [user for read in reads_of(result, "assessment_aggregator") for user in users_in(read)]
    assert sorted(asked) == sorted(active(world))
    first, second = (install.csv(install.row(request)["download_urls"][0]) for request in twice)
    assert first == second == expected_csv(world, twice[0], world.batches[0]["batchid"], REPORT_DAY)
