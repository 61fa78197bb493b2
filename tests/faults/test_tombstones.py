"""A table with so many deleted rows that Cassandra fails a read of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from dev.load import insert
from dev.world import ORG, Row, World, batch_row, batch_world
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from tests.faults.strict_cassandra import strict_install
from tests.integration.fixtures import emptied
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_csv

pytestmark = pytest.mark.slow  # it starts a JVM

THRESHOLD, LEARNERS = 1000, 400
DELETED_PER_LEARNER = 4
TABLE = "sunbird_courses.report_user_enrolments"


@pytest.fixture(scope="module")
def world() -> World:
    return batch_world(LEARNERS, 60, nested=2, assessments=2, leaves=10)


@pytest.fixture(scope="module")
def deleted(install: Install, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Give a site where learners left the batch: between any two rows there are some that were deleted."""
    strict = f"tombstone_warn_threshold: {THRESHOLD // 2}\ntombstone_failure_threshold: {THRESHOLD}"
    with strict_install(install, tmp_path_factory.mktemp("strict"), strict) as made:
        made.load(world)
        batch = world.batches[0]
        users = [row["userid"] for row in world.enrolments if row["batchid"] == batch["batchid"]]
        left = [f"{user}-{number}" for user in users for number in range(DELETED_PER_LEARNER)]
        delete_enrolments(made, batch["courseid"], batch["batchid"], left)
        # A batch that all learners left, except the last one.
        insert(made.session, f"{made.names.courses}.course_batch", [batch_row(batch["courseid"], "0199left", "Left", ORG)])
        delete_enrolments(made, batch["courseid"], "0199left", [f"0-{number:05}" for number in range(2 * THRESHOLD)])
        last = {"userid": users[-1], "courseid": batch["courseid"], "batchid": "0199left", "active": True}
        insert(made.session, TABLE, [last | {"enrolleddate": "2020-08-25"}])
        # What the platform deleted of another learner's progress: one range of the ring has all of it.
        remove = made.session.prepare(
            f"DELETE FROM {made.names.courses}.user_activity_agg "
            "WHERE activity_type = 'Course' AND activity_id = ? AND user_id = ? AND context_id = ?"
        )
        for number in range(3 * THRESHOLD):
            made.session.execute(remove, ("do_other", "another", f"cb:{number}"))
        yield made


def delete_enrolments(site: Install, course: str, batch: str, users: list[str]) -> None:
    remove = site.session.prepare(f"DELETE FROM {TABLE} WHERE batchid = ? AND courseid = ? AND userid = ?")
    for future in [site.session.execute_async(remove, (batch, course, user)) for user in users]:
        future.result()


@pytest.fixture(params=[4, 5])
def uri(deleted: Install, request: pytest.FixtureRequest) -> str:
    """Return the connection with a protocol version: only 5 has the reason of a failure as a number."""
    extra = quote(json.dumps({"protocol_version": request.param}))
    return f"{deleted.connections()['CASSANDRA'].partition('?')[0]}?__extra__={extra}"


@pytest.fixture
def tables(deleted: Install, uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LearnerTablesHook]:
    for name, value in deleted.environment(connections={"CASSANDRA": uri}).items():
        monkeypatch.setenv(name, value)
    with deleted.learner_tables() as hook:
        yield hook


def test_smaller_pages_read_it_all(tables: LearnerTablesHook, world: World) -> None:
    batch = world.batches[0]
    expected = sorted(row["userid"] for row in world.enrolments if row["batchid"] == batch["batchid"])
    assert [one.user_id for one in tables.enrolments_of_batch(batch["courseid"], batch["batchid"])] == expected


def test_what_cannot_be_read_names_table_batch_and_remedy(tables: LearnerTablesHook, world: World) -> None:
    with pytest.raises(SetupError) as error:
        list(tables.enrolments_of_batch(world.batches[0]["courseid"], "0199left"))
    for words in (
        TABLE, "batch 0199left", "too many tombstones", "gc_grace_seconds", "nodetool compact", "tombstone_failure_threshold",
    ):  # fmt: skip
        assert words in str(error.value)


def test_a_report_is_made(deleted: Install, world: World, tmp_path: Path) -> None:
    emptied(deleted, tmp_path).submit(world.requests)
    result = deleted.run_dag(settings={"read_strategy": "partitions"})
    assert result.state == "success", result.failed()
    [key] = deleted.row(world.requests[0])["download_urls"]
    assert deleted.csv(key) == expected_csv(world, world.requests[0], world.batches[0]["batchid"], REPORT_DAY)


def test_a_scan_reads_it_all_with_smaller_pages(deleted: Install, world: World, tmp_path: Path) -> None:
    emptied(deleted, tmp_path).submit(world.requests)
    result = deleted.run_dag(settings={"read_strategy": "scan", "processes_per_task": 2})
    assert result.state == "success", result.failed()
    [key] = deleted.row(world.requests[0])["download_urls"]
    assert deleted.csv(key) == expected_csv(world, world.requests[0], world.batches[0]["batchid"], REPORT_DAY)


def test_a_batch_that_cannot_be_read_fails_without_a_retry(deleted: Install, world: World, tmp_path: Path) -> None:
    request: Row = world.requests[0] | {"request_id": "LEFT", "request_data": {"batchId": "0199left"}}
    emptied(deleted, tmp_path).submit([request])
    result = deleted.run_dag(retries=2)
    assert result.failed() == ["batch.extract"]
    assert [task["tries"] for task in result.tasks if task["task_id"] == "batch.extract"] == [1]
    assert result.says(TABLE, "batch 0199left", "too many tombstones")
