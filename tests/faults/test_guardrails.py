"""A Cassandra with guardrails: it refuses ALLOW FILTERING, many partitions in one query, and large pages."""

from collections.abc import Iterator
from typing import Any

import pytest
from cassandra.cluster import Session

from dev.world import World, batch_world
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from tests.faults.strict_cassandra import strict_install
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_csv

pytestmark = pytest.mark.slow  # it starts a JVM

LEARNERS = 700  # more than a page may have; full queries of the greatest number of partitions
MOST_KEYS, MOST_ROWS = 20, 512
GUARDRAILS = f"""
allow_filtering_enabled: false
partition_keys_in_select_fail_threshold: {MOST_KEYS}
page_size_fail_threshold: {MOST_ROWS}
"""
REFUSED = {
    "filter": "does not filter",
    "keys": "Set partitions_per_query",
    "rows": "Set rows_per_page",
}


@pytest.fixture(scope="module")
def world() -> World:
    return batch_world(LEARNERS, 60, nested=2, assessments=2, leaves=10)


@pytest.fixture(scope="module")
def strict(install: Install, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    with strict_install(install, tmp_path_factory.mktemp("strict"), GUARDRAILS) as made:
        made.load(world)
        yield made


@pytest.fixture
def tables(strict: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[LearnerTablesHook]:
    for name, value in strict.environment().items():
        monkeypatch.setenv(name, value)
    with strict.learner_tables() as hook:
        yield hook


def test_batches_are_found_without_a_filter(tables: LearnerTablesHook, world: World) -> None:
    wanted = [row["batchid"] for row in world.batches[:3]]
    found = sorted(batch_id for _, batch_id, _ in tables.batches(wanted))
    assert found == sorted(wanted)
    courses = sorted({row["courseid"] for row in world.batches})
    assert len(list(tables.batches_of_collections([*courses, *(f"do_{number}" for number in range(60))]))) == len(world.batches)


def test_pages_become_smaller(tables: LearnerTablesHook, world: World) -> None:
    batch = world.batches[0]
    expected = sorted(row["userid"] for row in world.enrolments if row["batchid"] == batch["batchid"])
    assert len(expected) > MOST_ROWS
    assert [one.user_id for one in tables.enrolments_of_batch(batch["courseid"], batch["batchid"])] == expected
    assert tables.count_enrolments([(batch["courseid"], batch["batchid"])]) == len(expected)


def test_queries_name_fewer_partitions(tables: LearnerTablesHook, world: World) -> None:
    batch = world.batches[0]
    users = sorted({row["userid"] for row in world.enrolments if row["batchid"] == batch["batchid"]})
    nested = sorted({row["activity_id"] for row in world.aggregates if row["context_id"] == f"cb:{batch['batchid']}"})
    found = sorted(
        (user, collection)
        for user, collection, *counts in tables.nested_progress(users, nested, batch["batchid"])
        if counts != [None, None]
    )
    mine = [row for row in world.aggregates if row["context_id"] == f"cb:{batch['batchid']}"]
    counted = [row for row in mine if "completedCount" in (row.get("aggregates") or {}) | (row.get("agg") or {})]
    expected = {(row["user_id"], row["activity_id"]) for row in counted}
    assert found == sorted(expected) and found
    attempts = [row for row in world.attempts if row["batch_id"] == batch["batchid"] and row["course_id"] == batch["courseid"]]
    assert len(list(tables.attempts(users, batch["courseid"], batch["batchid"]))) == len(attempts) > 0


@pytest.mark.parametrize("table", ["enrolments_by_batch", "enrolments_by_user"])
@pytest.mark.parametrize(
    ("read_strategy", "processes", "refused"), [("partitions", 1, ("filter", "keys")), ("scan", 2, ("filter", "keys"))]
)
def test_the_csv_is_the_same(
    strict: Install, world: World, table: str, read_strategy: str, processes: int, refused: tuple[str, ...]
) -> None:
    [request], batch = world.requests, world.batches[0]["batchid"]
    strict.submit([request])
    settings = {
        "enrolments_table": getattr(strict.names, table), "read_strategy": read_strategy, "processes_per_task": processes,
        "learners_per_chunk": 300,
    }  # fmt: skip
    result = strict.run_dag(settings=settings)
    assert result.state == "success", result.failed()
    [key] = strict.row(request)["download_urls"]
    assert strict.csv(key) == expected_csv(world, request, batch, REPORT_DAY)
    for kind in refused:
        assert result.says(REFUSED[kind]), kind
    if read_strategy == "scan":
        assert result.says("user_activity_agg: the scan failed, so it is read by partitions", "allow_filtering")


def test_sizes_that_the_server_takes_are_not_refused(strict: Install, world: World) -> None:
    [request] = world.requests
    strict.submit([request])
    result = strict.run_dag(
        settings={"partitions_per_query": MOST_KEYS, "rows_per_page": MOST_ROWS, "read_strategy": "partitions"}
    )
    assert result.state == "success", result.failed()
    assert not result.says(REFUSED["keys"]) and not result.says(REFUSED["rows"])


def test_a_size_is_refused_once(tables: LearnerTablesHook, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server takes is remembered: no later query is larger."""
    batch = world.batches[0]
    key = (batch["courseid"], batch["batchid"])
    users = [row["userid"] for row in world.enrolments if row["batchid"] == batch["batchid"]]
    sizes: list[int] = []
    send = Session.execute_async

    def execute_async(session: Session, statement: Any, *arguments: Any, **more: Any) -> Any:
        sizes.append(statement.fetch_size)
        return send(session, statement, *arguments, **more)

    monkeypatch.setattr(Session, "execute_async", execute_async)
    first, second = [], []
    for counts in (first, second):
        sizes.clear()
        assert len(list(tables.attempts(users, *key))) > 0
        counts.append(len(sizes))
        sizes.clear()
        assert len(list(tables.enrolments_of_batch(*key))) == len(users)
        counts.append(len(sizes))
    # Without those that were refused: each query is a full one, and each page.
    assert second == [len(users) // MOST_KEYS, -(-len(users) // MOST_ROWS)]
    assert first[0] > second[0]
    assert max(sizes) == MOST_ROWS
