"""Airflow's own models behave as compat expects: the page reads runs and results from the metadata database."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from airflow.configuration import conf
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.xcom import XComModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select

from progress_exhaust import compat

NEW = ", dag_result", ", false"  # a column of Airflow 3.3
COLUMN, VALUE = NEW if "dag_result" in XComModel.__table__.c else ("", "")
RESULT = f"""
    INSERT INTO xcom (dag_run_id, dag_id, run_id, task_id, map_index, key, value, timestamp{COLUMN})
    VALUES (?, 'compat', 'one', ?, -1, 'return_value', ?, '2022-09-27'{VALUE})
"""
TASK = """
    INSERT INTO task_instance (id, dag_id, run_id, task_id, map_index, state, start_date, end_date, try_number, pool, pool_slots)
    VALUES (?, 'compat', 'one', ?, ?, ?, '2022-09-27 10:00:00', '2022-09-27 10:01:00', 1, 'default_pool', 1)
"""
TASKS = [
    ("batch.extract", 0, "queued"), ("batch.extract", 1, "success"), ("batch.pivot", 1, None), ("batch.pivot", 2, "up_for_retry"),
    ("batch.pivot", 3, "failed"), ("batch.extract", -1, "scheduled"), ("list_batches", 4, "running"), ("batches", 5, "running"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _metadata() -> None:
    """Make Airflow's metadata database, with one run and what two of its tasks returned."""
    initdb()
    with create_session() as session:
        run = DagRun(dag_id="compat", run_id="one", run_type=DagRunType.MANUAL, state=DagRunState.FAILED)
        run.conf, run.triggered_by = {"layout": "standard"}, DagRunTriggeredByType.TEST
        session.add(run)
        session.flush()
        run_number = run.id
    path = conf.get("database", "sql_alchemy_conn").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:  # without foreign keys: there is no task instance
        for task_id, value in (("list_batches", [{"batch_id": "B1"}]), ("another", 1)):
            database.execute(RESULT, [run_number, task_id, json.dumps(XComModel.serialize_value(value))])
        for number, (task_id, map_index, state) in enumerate(TASKS):
            database.execute(TASK, [f"{number:032}", task_id, map_index, state])


def test_the_runs_that_still_exist() -> None:
    assert compat.find_dag_runs("compat", ["one", "deleted"]) == [("one", "failed", {"layout": "standard"})]
    assert compat.find_dag_runs("another", ["one"]) == []


def test_the_slots_of_a_pool() -> None:
    assert compat.find_pool_slots("default_pool") == 128
    assert compat.find_pool_slots("compat") is None


def test_the_mapped_tasks_that_have_not_ended() -> None:
    """Only those of the group, and only those that wait or run."""
    found = compat.find_active_tasks("compat", ["one", "deleted"], "batch.")
    assert sorted(found) == [("one", 0, "queued"), ("one", 2, "up_for_retry")]
    assert compat.find_active_tasks("compat", ["deleted"], "batch.") == []


def test_what_a_task_returned() -> None:
    assert compat.find_task_results("compat", ["one"], "list_batches") == {"one": [{"batch_id": "B1"}]}
    assert compat.find_task_results("compat", ["deleted"], "list_batches") == {}


def test_tasks_of_batches_and_when_they_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = (datetime(2022, 9, 27, 10, minute, tzinfo=UTC) for minute in (0, 1))
    assert sorted(compat.find_tasks("compat", ["one"], [0, 1, 2]), key=lambda task: (task.task_id, task.map_index)) == [
        ("one", "batch.extract", 0, "queued", start, end),
        ("one", "batch.extract", 1, "success", start, end),
        ("one", "batch.pivot", 1, None, start, end),
        ("one", "batch.pivot", 2, "up_for_retry", start, end),
    ]
    with DAG("compat", schedule=None) as dag:
        EmptyOperator(task_id="batch.pivot", retry_delay=timedelta(minutes=5))
    monkeypatch.setattr(DBDagBag, "get_latest_version_of_dag", lambda *_, **__: dag)
    assert compat.find_retry_times("compat", ["one"]) == {("one", "batch.pivot", 2): end + timedelta(minutes=5)}
    assert compat.find_retry_times("compat", ["deleted"]) == {}


def test_an_entry_of_the_audit_log() -> None:
    compat.write_audit_entry("compat_event", "compat", "engineer", '{"package": "key"}')
    with create_session() as session:
        [entry] = session.scalars(select(Log).where(Log.event == "compat_event"))
        assert (entry.dag_id, entry.owner, entry.extra) == ("compat", "engineer", '{"package": "key"}')
        assert entry.dttm is not None
