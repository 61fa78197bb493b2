"""Tables as other installations have them: another order of the rows, and columns that are missing."""

import re
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from dev.load import insert
from dev.world import Row, World, batch_world
from progress_exhaust.hooks.cassandra.models import Table, TableSize
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.hooks.cassandra.token_ranges import cut_ring
from tests.integration.install import JOB_REQUEST, REPORT_DAY, Install
from tests.oracle import expected_csv

ENROLMENT = {
    "batchid": "text", "courseid": "text", "userid": "text", "active": "boolean", "enrolled_date": "timestamp",
    "enrolleddate": "text", "completedon": "timestamp", "contentstatus": "map<text, int>",
    "certificates": "list<frozen<map<text, text>>>", "issued_certificates": "list<frozen<map<text, text>>>", "certstatus": "int",
}  # fmt: skip
AGGREGATE = {
    "activity_type": "text", "activity_id": "text", "user_id": "text", "context_id": "text", "agg": "map<text, int>",
    "aggregates": "map<text, double>",
}  # fmt: skip
ATTEMPT = {
    "user_id": "text", "course_id": "text", "batch_id": "text", "content_id": "text", "attempt_id": "text",
    "total_score": "double", "grand_total": "text", "last_attempted_on": "timestamp", "total_max_score": "double",
}  # fmt: skip
BATCH = {"courseid": "text", "batchid": "text", "name": "text"}
BY_BATCH, BY_USER = "PRIMARY KEY (batchid, courseid, userid))", "PRIMARY KEY (userid, courseid, batchid))"
OTHER_KEYS = {
    "user_activity_agg": "PRIMARY KEY ((activity_type, activity_id, user_id), context_id))",
    "assessment_aggregator": "PRIMARY KEY ((user_id, course_id), batch_id, content_id, attempt_id))",
    "course_batch": "PRIMARY KEY (courseid, batchid))",
}
COLUMNS = {"enrolments": ENROLMENT, "user_activity_agg": AGGREGATE, "assessment_aggregator": ATTEMPT, "course_batch": BATCH}
# The two halves of what may be missing: each has one of the two columns that have the same fact.
ALWAYS = {"certstatus", "grand_total", "total_max_score", "last_attempted_on"}
OLDER, NEWER = ALWAYS | {"certificates", "enrolled_date", "aggregates"}, ALWAYS | {"issued_certificates", "enrolleddate", "agg"}


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    made = batch_world(60, 40, nested=2, assessments=3, leaves=10)
    asked, made.requests = made.requests, []
    install.load(made)
    made.requests = asked
    return made


def without(rows: Any, missing: set[str]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in missing} for row in rows]


@contextmanager
def keyspace_of(
    install: Install, world: World, name: str, *, missing: Set[str] = frozenset(), enrolments_key: str = BY_BATCH, **keys: str
) -> Iterator[str]:
    """Make a keyspace whose tables lack some columns, with the world's rows; yield its name.

    enrolments_key: the end of the statement that creates the table of enrolments
    keys: the same of other tables
    """
    keyspace = f"{install.names.courses}_{name}"
    run = install.session.execute
    run(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    rows = {
        "enrolments": world.enrolments, "user_activity_agg": world.aggregates, "assessment_aggregator": world.attempts,
        "course_batch": world.batches,
    }  # fmt: skip
    for table, key in ({"enrolments": enrolments_key} | OTHER_KEYS | keys).items():
        columns = {column: kind for column, kind in COLUMNS[table].items() if column not in missing}
        run(f"CREATE TABLE {keyspace}.{table} ({', '.join(f'{column} {kind}' for column, kind in columns.items())}, {key}")
        insert(install.session, f"{keyspace}.{table}", [{column: row.get(column) for column in columns} for row in rows[table]])
    run(f"GRANT SELECT ON KEYSPACE {keyspace} TO {install.login}")
    try:
        yield keyspace
    finally:
        run(f"DROP KEYSPACE {keyspace}")


def settings_of(keyspace: str) -> Row:
    return {"courses_keyspace": keyspace, "enrolments_table": f"{keyspace}.enrolments"}


# Order


@pytest.mark.parametrize("read_strategy", ["partitions", "scan"])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("desc", "PRIMARY KEY (batchid, courseid, userid)) WITH CLUSTERING ORDER BY (courseid ASC, userid DESC)"),
        ("both", "PRIMARY KEY ((batchid, courseid), userid)) WITH CLUSTERING ORDER BY (userid DESC)"),
        ("other", "PRIMARY KEY (batchid, courseid, userid)) WITH CLUSTERING ORDER BY (courseid DESC, userid ASC)"),
        ("up", "PRIMARY KEY (batchid, courseid, userid)) WITH CLUSTERING ORDER BY (courseid DESC, userid DESC)"),
    ],
)
def test_rows_in_descending_order_make_the_same_csv(
    queue: Install, world: World, name: str, key: str, read_strategy: str
) -> None:
    [request], batch = world.requests, world.batches[0]["batchid"]
    with keyspace_of(queue, world, f"{name}_{read_strategy[:4]}", enrolments_key=key) as keyspace:
        queue.submit([request])
        result = queue.run_dag(
            settings=settings_of(keyspace) | {"read_strategy": read_strategy, "learners_per_chunk": 7, "processes_per_task": 1}
        )
    assert result.state == "success", result.failed()
    [key] = queue.row(request)["download_urls"]
    assert queue.csv(key) == expected_csv(world, request, batch, REPORT_DAY)


def test_a_key_that_gives_no_order_is_an_error_that_names_the_setting(queue: Install, world: World, asked: Row) -> None:
    with keyspace_of(queue, world, "no_order", enrolments_key="PRIMARY KEY (batchid, userid, courseid))") as keyspace:
        result = queue.run_dag(settings=settings_of(keyspace))
    assert result.failed() == ["batch.extract"]
    assert result.says(f"{keyspace}.enrolments", "batchid, userid, courseid", "Set enrolments_table")


@pytest.mark.parametrize(
    ("table", "key", "found"),
    [
        ("assessment_aggregator", "PRIMARY KEY (user_id, course_id, batch_id, content_id, attempt_id))", "(user_id, course_id, "),
        ("user_activity_agg", "PRIMARY KEY (user_id, activity_type, activity_id, context_id))", "(user_id, activity_type, "),
    ],
)
def test_an_unknown_key_is_an_error_before_anything_is_read(
    queue: Install, world: World, asked: Row, table: str, key: str, found: str
) -> None:
    with keyspace_of(queue, world, "unknown", **{table: key}) as keyspace:
        result = queue.run_dag(settings=settings_of(keyspace) | {"processes_per_task": 1}, record_reads=True)
    assert result.failed() == ["batch.extract"]
    assert result.says(f"table {keyspace}.{table} has the key {found}", "It can read these keys: ((", "Set courses_keyspace")
    assert not [read for read in result.reads if "enrolments" in read["query"] or table in read["query"]]


# Token ranges


def test_the_first_and_the_last_token_of_a_range_belong_to_it(
    install: Install, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring cut at each row's own token: every row is found, and none twice."""
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value)
    table, cassandra = install.names.enrolments_by_user, "progress_exhaust_cassandra"
    batch = world.batches[0]
    rows = install.session.execute(f"SELECT token(userid), userid, batchid FROM {table}")
    tokens = {user: token for token, user, of_batch in rows if of_batch == batch["batchid"]}
    with LearnerTablesHook(
        enrolments=(cassandra, str(table)), courses=(cassandra, install.names.courses),
        hierarchies=(cassandra, f"{install.names.hierarchies}.content_hierarchy"), consistency="LOCAL_ONE", keys_per_read=100,
        reads_in_flight=4, timeout_seconds=60,
    ) as tables:  # fmt: skip
        for user, token in list(tokens.items())[:10]:
            assert [row[0] for row in tables.scan(Table.ENROLMENTS, [(token, token)], [batch["batchid"]])] == [user]
        [whole] = cut_ring(Table.ENROLMENTS, TableSize(1, 1))
        cuts = sorted(tokens.values())[::5]
        ranges = list(zip([whole[0], *cuts], [*(cut - 1 for cut in cuts), whole[1]], strict=True))
        found = Counter(row[0] for row in tables.scan(Table.ENROLMENTS, ranges, [batch["batchid"]]))
    assert found == Counter(tokens.keys())


# Columns


@pytest.mark.parametrize("missing", [OLDER, NEWER], ids=["older", "newer"])
@pytest.mark.parametrize(("by", "read_strategy"), [("batch", "partitions"), ("user", "scan")])
def test_optional_columns_that_are_missing_count_as_null(
    queue: Install, world: World, missing: set[str], by: str, read_strategy: str
) -> None:
    [request], batch = world.requests, world.batches[0]["batchid"]
    told = replace(
        world,
        enrolments=without(world.enrolments, missing), aggregates=without(world.aggregates, missing),
        attempts=without(world.attempts, missing),
    )  # fmt: skip
    name = f"{by}_{'old' if 'certificates' in missing else 'new'}"
    key = BY_BATCH if by == "batch" else BY_USER
    with keyspace_of(queue, world, name, missing=missing, enrolments_key=key) as keyspace:
        queue.submit([request])
        result = queue.run_dag(settings=settings_of(keyspace) | {"read_strategy": read_strategy})
    assert result.state == "success", result.failed()
    [key] = queue.row(request)["download_urls"]
    assert queue.csv(key) == expected_csv(told, request, batch, REPORT_DAY)
    assert "ALTER TABLE" not in result.log
    for table in ("enrolments", "user_activity_agg", "assessment_aggregator"):
        of_table = [column for column in COLUMNS[table] if column in missing]
        warnings = re.findall(rf"table {keyspace}\.{table} lacks ([\w, ]+): counts as null", result.log)
        assert warnings == [", ".join(of_table)]


REQUIRED = {
    "enrolments": [{"contentstatus"}, {"certificates", "issued_certificates"}, {"enrolled_date", "enrolleddate"}],
    "user_activity_agg": [{"agg", "aggregates"}],
    "assessment_aggregator": [{"total_score"}],
    "course_batch": [{"name"}],
}


@pytest.mark.parametrize(("table", "missing"), [(table, one) for table, several in REQUIRED.items() for one in several])
def test_a_required_column_that_is_missing_names_the_setting(
    queue: Install, world: World, asked: Row, table: str, missing: set[str]
) -> None:
    with keyspace_of(queue, world, "required", missing=missing) as keyspace:
        result = queue.run_dag(settings=settings_of(keyspace))
    assert result.failed() == ["list_batches" if table == "course_batch" else "batch.extract"]
    setting = "enrolments_table" if table == "enrolments" else "courses_keyspace"
    lacking = ", ".join(column for column in COLUMNS[table] if column in missing)
    assert result.says(f"table {keyspace}.{table} lacks {lacking}, which the report needs", f"Set {setting}")
    assert "ALTER TABLE" not in result.log and "CREATE TABLE" not in result.log


def test_a_cluster_of_enrolments_that_is_down_stops_no_list(queue: Install, world: World, asked: Row) -> None:
    """list_batches looks for missing columns there. The batch itself reports that the cluster is down."""
    result = queue.run_dag(
        settings={"enrolments_connection": "progress_exhaust_reports"}, connections={"REPORTS": "cassandra://127.0.0.1:1"}
    )
    assert result.failed() == ["batch.extract"]
    assert result.says("The columns of the learner tables cannot be checked", "connection progress_exhaust_reports")
    [batch] = queue.sql("SELECT batch_id, stage, state FROM progress_exhaust.batch_run")
    assert batch == {"batch_id": world.batches[0]["batchid"], "stage": "extract", "state": "failed"}


def test_job_request_may_lack_batch_number(queue: Install, world: World, asked: Row) -> None:
    queue.sql("ALTER TABLE job_request DROP COLUMN batch_number")
    result = queue.run_dag(settings={"batch_number": 7})  # which null is not: no request would ever be made
    assert result.failed() == ["wait_for_requests"]
    assert result.says("The setting batch_number is 7", "Remove batch_number from the Variable")
    result = queue.run_dag()
    assert result.state == "success", result.failed()
    row = queue.row(asked)
    assert (row["status"], len(row["download_urls"])) == ("SUCCESS", 1)
    assert len(re.findall("Table job_request lacks batch_number: it counts as null", result.log)) == 1


def test_batch_number_still_selects_where_the_column_exists(queue: Install, world: World, asked: Row) -> None:
    assert "batch_number" in JOB_REQUEST
    queue.sql("UPDATE job_request SET batch_number = 7")
    assert queue.run_dag(settings={"batch_number": 8}).state == "success"
    assert queue.row(asked)["status"] == "SUBMITTED"
    result = queue.run_dag(settings={"batch_number": 7})
    assert (result.state, queue.row(asked)["status"]) == ("success", "SUCCESS")
    assert "lacks batch_number" not in result.log
