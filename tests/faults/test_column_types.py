"""Installs whose Cassandra columns are of other types.

What can be read gives the same values. The rest is rejected before any learner is counted.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cassandra.util import uuid_from_time

from dev.load import insert
from dev.world import ORG, Row, World, batch_row
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_csv

READABLE = {
    "course_batch": "courseid ascii, batchid text, name ascii, PRIMARY KEY (courseid, batchid)",
    "report_user_enrolments": """
      batchid ascii, courseid text, userid ascii, active boolean, enrolled_date timeuuid, enrolleddate ascii,
      completedon timeuuid, contentstatus map<ascii, bigint>, certificates set<frozen<map<text, text>>>,
      issued_certificates list<frozen<KEYSPACE.issue>>, certstatus bigint, PRIMARY KEY (batchid, courseid, userid)""",
    "user_activity_agg": """
      activity_type text, activity_id text, user_id text, context_id text, agg frozen<map<ascii, float>>,
      aggregates map<text, int>,
      PRIMARY KEY ((activity_type, activity_id, user_id), context_id)""",
    "assessment_aggregator": """
      user_id text, course_id text, batch_id text, content_id ascii, attempt_id ascii, total_score int, grand_total ascii,
      last_attempted_on timeuuid, total_max_score float, question list<frozen<KEYSPACE.issue>>,
      PRIMARY KEY ((user_id, course_id), batch_id, content_id, attempt_id)""",
}  # fmt: skip
UNREADABLE = {
    "course_batch": "courseid text, batchid text, name map<text, text>, PRIMARY KEY (courseid, batchid)",
    "report_user_enrolments": """
      batchid text, courseid text, userid uuid, active text, enrolled_date text, enrolleddate timestamp, completedon bigint,
      contentstatus map<text, text>, certificates text, issued_certificates blob, certstatus text,
      PRIMARY KEY (batchid, courseid, userid)""",
    "user_activity_agg": """
      activity_type text, activity_id text, user_id text, context_id text, agg map<text, text>, aggregates text,
      PRIMARY KEY ((activity_type, activity_id, user_id), context_id)""",
    "assessment_aggregator": """
      user_id text, course_id text, batch_id text, content_id text, attempt_id int, total_score decimal, grand_total double,
      last_attempted_on text, total_max_score text,
      PRIMARY KEY ((user_id, course_id), batch_id, content_id, attempt_id)""",
    "content_hierarchy": "identifier text PRIMARY KEY, hierarchy blob",
}  # fmt: skip


@contextmanager
def keyspace_of(install: Install, name: str, tables: dict[str, str]) -> Iterator[str]:
    keyspace = f"{install.names.courses}_{name}"
    run = install.session.execute
    run(f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    run(f"CREATE TYPE {keyspace}.issue (identifier text, name text, more frozen<map<text, double>>)")
    for table, columns in tables.items():
        run(f"CREATE TABLE {keyspace}.{table} ({columns.replace('KEYSPACE', keyspace)})")
    run(f"GRANT SELECT ON KEYSPACE {keyspace} TO {install.login}")
    yield keyspace
    run(f"DROP KEYSPACE {keyspace}")


@pytest.fixture
def readable(install: Install) -> Iterator[str]:
    with keyspace_of(install, "readable", READABLE) as keyspace:
        yield keyspace


@pytest.fixture
def unreadable(install: Install) -> Iterator[str]:
    with keyspace_of(install, "unreadable", UNREADABLE) as keyspace:
        yield keyspace


def test_other_types_with_the_same_values_make_the_same_bytes(queue: Install, world: World, asked: Row, readable: str) -> None:
    whole: Callable[[Any], Any] = int
    changes: dict[str, Callable[[Any], Any]] = {
        "enrolled_date": uuid_from_time, "completedon": uuid_from_time, "last_attempted_on": uuid_from_time,
        "aggregates": lambda found: {key: whole(value) for key, value in found.items() if value == whole(value)},
        "total_score": whole, "issued_certificates": lambda found: [(one.get("identifier"), "x", {"x": 1.0}) for one in found],
    }  # fmt: skip
    columns = {table: columns.split() for table, columns in READABLE.items()}
    attempts = [
        row | ({"total_score": float(int(row["total_score"]))} if row.get("total_score") else {}) for row in world.attempts
    ]
    told = replace(world, attempts=attempts)  # of whole points, which an int holds
    rows = {
        "course_batch": world.batches, "report_user_enrolments": world.enrolments, "user_activity_agg": world.aggregates,
        "assessment_aggregator": attempts,
    }  # fmt: skip
    for table, of_table in rows.items():
        kept = [
            {
                column: changes.get(column, lambda found: found)(value)
                for column, value in row.items()
                if value is not None and column in columns[table]
            }
            for row in of_table
        ]
        assert insert(queue.session, f"{readable}.{table}", kept)
    settings = {"courses_keyspace": readable, "enrolments_table": f"{readable}.report_user_enrolments"}
    result = queue.run_dag(settings=settings)
    assert result.state == "success", result.failed()
    [key] = queue.row(asked)["download_urls"]
    assert queue.csv(key) == expected_csv(told, asked, world.batches[0]["batchid"], REPORT_DAY)
    assert b"Issued" in queue.csv(key) and b"2020" in queue.csv(key)


def test_columns_that_cannot_be_read_are_named_with_their_types(
    install: Install, unreadable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value)
    cassandra = "progress_exhaust_cassandra"
    hook = LearnerTablesHook(
        enrolments=(cassandra, f"{unreadable}.report_user_enrolments"),
        courses=(cassandra, unreadable),
        hierarchies=(cassandra, f"{unreadable}.content_hierarchy"),
        consistency="LOCAL_ONE",
        keys_per_read=100,
        reads_in_flight=4,
        timeout_seconds=60,
    )

    def refused(read: Callable[[], Any]) -> str:
        with pytest.raises(SetupError, match=f"connection {cassandra}.*{unreadable}.*Variable progress_exhaust") as error:
            read()
        return str(error.value)

    with hook:
        assert refused(lambda: hook.shape(Table.ENROLMENTS)).count(" instead of ") == 9
        for words in ("active as text instead of boolean", "contentstatus as map<text, text>", "enrolled_date as text"):
            assert words in refused(lambda: hook.shape(Table.ENROLMENTS))
        assert "agg as map<text, text> instead of map<text, int>" in refused(lambda: hook.shape(Table.AGGREGATES))
        assert "name as map<text, text> instead of text" in refused(lambda: list(hook.batches(["x"])))
        assert "hierarchy as blob instead of text" in refused(lambda: hook.hierarchy("x"))
        assert refused(lambda: hook.shape(Table.ATTEMPTS)).count(" instead of ") == 5
        assert " instead of " in refused(hook.check_shapes)


@pytest.mark.slow
def test_a_learner_with_a_million_contents_takes_bounded_memory(queue: Install, world: World) -> None:
    """Of the platform's own table: its map is not frozen, and grows by any number of updates."""
    course, batch = world.batches[0]["courseid"], "0199million"
    insert(queue.session, f"{queue.names.courses}.course_batch", [batch_row(course, batch, "A million", ORG)])
    learner = str(uuid.UUID(int=1))
    insert(
        queue.session, queue.names.enrolments_by_user or "",
        [{"userid": learner, "courseid": course, "batchid": batch, "active": True, "enrolleddate": "2020-08-25"}],
    )  # fmt: skip
    add = queue.session.prepare(
        f"UPDATE {queue.names.enrolments_by_user} SET contentstatus = contentstatus + ?"
        " WHERE userid = ? AND courseid = ? AND batchid = ?"
    )
    for start in range(0, 10**6, 20_000):
        added = {f"do_{number}": 2 for number in range(start, start + 20_000)}
        queue.session.execute(add, (added, learner, course, batch))
    request = world.requests[0] | {"request_id": "MILLION", "request_data": {"batchId": batch}}
    queue.submit([request])
    result = queue.run_dag(settings={"enrolments_table": queue.names.enrolments_by_user, "processes_per_task": 1})
    assert result.state == "success", result.failed()
    [key] = queue.row(request)["download_urls"]
    [_, row] = queue.csv(key).decode().splitlines()
    assert learner in row
    [counts] = queue.sql("SELECT counts FROM progress_exhaust.batch_run WHERE batch_id = %s", [batch])
    assert counts["counts"]["removed_contents_completed"] == 10**6  # the tree has none of them
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{queue.airflow.pid}/status").read_text())
    assert peak and int(peak[1]) < 1_500_000
