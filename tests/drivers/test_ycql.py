"""What YugabyteDB answers otherwise than Cassandra, against a small server that gives its answers: no YugabyteDB was run."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from cassandra import InvalidRequest

from progress_exhaust import compat
from progress_exhaust.errors import SetupError
from progress_exhaust.extract.read_strategy import should_scan
from progress_exhaust.hooks.cassandra.models import Table, TableSize, TokenRange, tables_of
from progress_exhaust.hooks.cassandra.shapes import KeyedBy
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.hooks.cassandra.token_ranges import RANGES_WITHOUT_ESTIMATE, cut_ring
from progress_exhaust.sql import learner_tables as cql
from tests.ycql_server import SMALLEST_TOKEN, UNPREPARED, Row, YcqlServer, running
from tests.ycql_server import Table as YcqlTable

NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
COURSE, BATCH = "do_1", "01"
LEARNERS = [f"user-{number:03}" for number in range(50)]


def tables() -> dict[str, YcqlTable]:
    """Return the tables of Sunbird Spark 1.1, with one batch and another one of the same course."""
    keys = [(user_id, batch_id) for user_id in LEARNERS for batch_id in (BATCH, "02")]
    return {
        "k.user_enrolments": YcqlTable(
            {name: kind.replace("frozen<map<text, text>>", "text") for name, kind in cql.ENROLMENT_COLUMNS.items()},
            ["userid"], ["courseid", "batchid"], ["courseid, userid, batchid"],
            [{"userid": user_id, "courseid": COURSE, "batchid": batch_id, "active": True} for user_id, batch_id in keys],
            token_of_user,
        ),
        "k.user_activity_agg": YcqlTable(
            cql.AGGREGATE_COLUMNS, ["activity_type", "activity_id", "user_id"], ["context_id"],
            rows=[
                {
                    "activity_type": "Course", "activity_id": "do_nested", "user_id": user_id, "context_id": f"cb:{batch_id}",
                    "aggregates": {"completedCount": 3.0},
                }
                for user_id, batch_id in keys
            ],
        ),
        "k.assessment_aggregator": YcqlTable(
            {{"course_id": "collection_id", "batch_id": "context_id"}.get(name, name): kind for name, kind in
             cql.ATTEMPT_COLUMNS.items()},
            ["collection_id"], ["context_id", "user_id", "content_id", "attempt_id"],
            rows=[
                {
                    "collection_id": COURSE, "context_id": batch_id, "user_id": user_id, "content_id": "do_quiz",
                    "attempt_id": "1", "total_score": 7.0,
                }
                for user_id, batch_id in keys
            ],
        ),
    }  # fmt: skip


def token_of_user(row: Row) -> int:
    """Return a token as YCQL does: the first 16 bits are a hash, and the others are 0. The first learner has the smallest."""
    return SMALLEST_TOKEN + (int(row["userid"][-3:]) * 1285 << 48)  # that of 17 is where the ring is cut into three


@pytest.fixture
def server() -> Iterator[YcqlServer]:
    with running(YcqlServer(tables(), NODES)) as started:
        yield started


@pytest.fixture
def hook(server: YcqlServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[LearnerTablesHook]:
    with connected(server, monkeypatch) as made:
        yield made


def connected(server: YcqlServer, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> LearnerTablesHook:
    monkeypatch.setenv("AIRFLOW_CONN_YCQL", f"cassandra://{NODES[0]}:{server.port}")
    arguments: dict[str, Any] = {
        "enrolments": ("ycql", "k.user_enrolments"), "courses": ("ycql", "k"), "hierarchies": ("ycql", "k.content_hierarchy"),
        "consistency": "LOCAL_QUORUM", "keys_per_read": 100, "reads_in_flight": 4, "timeout_seconds": 10, "rows_per_page": 7,
    }  # fmt: skip
    return LearnerTablesHook(**arguments | changes)


def test_the_shapes_are_those_of_spark(hook: LearnerTablesHook) -> None:
    """The index of YugabyteDB lists its own columns and those of the table's key."""
    shapes = {table: hook.shape(table).keyed_by for table in Table}
    assert shapes == {
        Table.ENROLMENTS: KeyedBy.LEARNER_INDEXED, Table.AGGREGATES: KeyedBy.LEARNER, Table.ATTEMPTS: KeyedBy.BATCH,
    }  # fmt: skip


def test_the_copy_that_spark_does_not_fill_is_noticed_although_it_has_rows(
    hook: LearnerTablesHook, server: YcqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.check_copy_is_filled()
    assert not any("copy" in warning for warning in hook.warnings())
    hook.close()
    server.tables["k.report_user_enrolments"] = replace(
        server.tables["k.user_enrolments"], partition=["batchid"], clustering=["courseid", "userid"], index_targets=[]
    )
    with connected(server, monkeypatch, enrolments=("ycql", "k.report_user_enrolments")) as of_copy:
        assert len(list(of_copy.enrolments_of_batch(COURSE, BATCH))) == len(LEARNERS)
        assert [warning for warning in of_copy.warnings() if "k.report_user_enrolments is a copy that" in warning]
        with pytest.raises(SetupError, match="is a copy that Sunbird Spark does not fill"):
            of_copy.check_copy_is_filled()
        del server.tables["k.user_enrolments"]
    with connected(server, monkeypatch, enrolments=("ycql", "k.report_user_enrolments")) as of_copy:
        of_copy.check_copy_is_filled()  # the warning remains: there is nothing else to read


def test_the_attempts_are_not_needed_if_the_scores_come_from_the_aggregates(
    hook: LearnerTablesHook, server: YcqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.check_shapes()
    hook.close()
    del server.tables["k.assessment_aggregator"]
    with connected(server, monkeypatch) as without:
        without.check_shapes(tables_of("aggregates"))
        assert not any("assessment_aggregator" in warning for warning in without.warnings())
        with pytest.raises(SetupError, match=r"has no table k\.assessment_aggregator"):
            without.check_shapes(tables_of("attempts"))


def test_only_protocol_4_is_spoken(hook: LearnerTablesHook, server: YcqlServer) -> None:
    list(hook.attempts(LEARNERS, COURSE, BATCH))
    assert server.versions == {4}


@pytest.mark.parametrize("ranges", [[], cut_ring(Table.ENROLMENTS, TableSize(partitions=15_000, bytes=0))], ids=["64", "3"])
def test_a_scan_reads_the_smallest_token_and_each_learner_once(hook: LearnerTablesHook, ranges: list[TokenRange]) -> None:
    ranges = ranges or hook.token_ranges(Table.ENROLMENTS)
    assert ranges[0][0] == SMALLEST_TOKEN and all(left[1] + 1 == right[0] for left, right in pairwise(ranges))
    found = [row[0] for row in hook.scan(Table.ENROLMENTS, ranges, [BATCH])]
    assert sorted(found) == LEARNERS


def test_an_estimate_of_0_is_not_known(hook: LearnerTablesHook) -> None:
    assert hook.estimate_size(Table.AGGREGATES) == (0, 0)
    assert len(hook.token_ranges(Table.AGGREGATES)) == RANGES_WITHOUT_ESTIMATE
    scan, reason = should_scan(Table.AGGREGATES, wanted=10**9, partitions=0, setting="auto")
    assert not scan and "no estimate" in reason


def test_learners_are_not_grouped_by_tokens_that_the_driver_cannot_compute(hook: LearnerTablesHook, server: YcqlServer) -> None:
    found = list(hook.nested_progress(LEARNERS, ["do_nested"], BATCH))
    assert [row[0] for row in found] == LEARNERS and {row[2] for row in found} == {3.0}
    assert len({values[1][0] for _, values in server.executed}) == 1  # the pages of one query name the same learners


def test_the_attempts_of_a_batch_are_read_in_the_order_of_the_learners(hook: LearnerTablesHook, server: YcqlServer) -> None:
    some = LEARNERS[10:30]
    assert [row[0] for row in hook.attempts(some, COURSE, BATCH)] == some
    assert {tuple(values) for _, values in server.executed} == {(COURSE, BATCH, some[0], some[-1])}
    assert list(hook.attempts([], COURSE, BATCH)) == []


def test_enrolments_are_read_by_the_index(hook: LearnerTablesHook, server: YcqlServer) -> None:
    assert [row[0] for row in hook.indexed_enrolments([(COURSE, BATCH)])] == LEARNERS
    assert {tuple(values) for _, values in server.executed} == {(COURSE, BATCH)}


@pytest.mark.parametrize("error_code", [0x2200, UNPREPARED])
def test_a_stale_statement_is_prepared_again_once(hook: LearnerTablesHook, server: YcqlServer, error_code: int) -> None:
    assert len(list(hook.attempts(LEARNERS, COURSE, BATCH))) == len(LEARNERS)
    before = list(server.prepared)
    server.alter_tables(error_code)
    assert [row[0] for row in hook.attempts(LEARNERS, COURSE, BATCH)] == LEARNERS
    assert 1 <= len(server.prepared) - len(before) <= len(NODES)
    again = list(server.prepared)
    assert [row[0] for row in hook.attempts(LEARNERS, COURSE, BATCH)] == LEARNERS
    assert server.prepared == again


def test_what_was_bound_before_is_valid_again(hook: LearnerTablesHook, server: YcqlServer) -> None:
    """What compat.py uses of the driver: the test fails if the driver changes that part."""
    cluster = hook._cluster("ycql")
    statement = cluster.prepare("SELECT userid FROM k.user_enrolments WHERE userid = ?")
    bound = statement.bind((LEARNERS[1],))
    server.alter_tables()
    with pytest.raises(InvalidRequest):
        cluster._session.execute(bound)
    compat.prepare_again(cluster._session, statement)
    assert list(cluster._session.execute(bound)) == [(LEARNERS[1],)] * 2
    assert statement.is_idempotent


def test_a_statement_that_goes_stale_between_two_pages_loses_no_row(hook: LearnerTablesHook, server: YcqlServer) -> None:
    rows = hook.attempts(LEARNERS, COURSE, BATCH)
    found = [next(rows)[0]]
    server.alter_tables()
    assert found + [row[0] for row in rows] == LEARNERS


def test_a_statement_that_stays_wrong_is_an_error(hook: LearnerTablesHook, server: YcqlServer) -> None:
    list(hook.attempts(LEARNERS, COURSE, BATCH))
    server.stays_stale = True
    server.alter_tables()
    before = len(server.prepared)
    with pytest.raises(SetupError, match="Wrong Metadata Version"):
        list(hook.attempts(LEARNERS, COURSE, BATCH))
    assert len(server.prepared) - before <= len(NODES)


def test_a_ring_of_other_tokens_is_not_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running(YcqlServer(tables(), partitioner="org.apache.cassandra.dht.RandomPartitioner")) as server,
        connected(server, monkeypatch) as hook,
    ):
        with pytest.raises(SetupError, match="has the RandomPartitioner, and a scan needs the Murmur3Partitioner"):
            hook.scan(Table.ENROLMENTS, [(0, 1)], [BATCH])
        assert server.executed == []
        assert len(list(hook.attempts(LEARNERS, COURSE, BATCH))) == len(LEARNERS)
