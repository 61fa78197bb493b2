"""A site changes limits, queue and executor in the environment, and edits no DAG file."""

from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust.names import CHECK_DAG_ID, REPORT_DAG_ID, RETENTION_DAG_ID
from tests.airflow_versions import DagBag

DAGS = Path(__file__).resolve().parents[2] / "dags"
NUMBERS = ("MAX_ACTIVE_RUNS", "MAX_ACTIVE_TASKS", "STAGE_TIMEOUT_SECONDS", "RETRIES", "RETRY_DELAY_SECONDS")


def parsed(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Any:
    """Parse the DAG files with these variables PROGRESS_EXHAUST_…; return Airflow's bag of DAGs."""
    for name, value in variables.items():
        monkeypatch.setenv(f"PROGRESS_EXHAUST_{name}", value)
    return DagBag(str(DAGS))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = parsed(monkeypatch, MAX_ACTIVE_RUNS="2", MAX_ACTIVE_TASKS="30", STAGE_TIMEOUT_SECONDS="5400")
    dag = bag.dags[REPORT_DAG_ID]
    assert (bag.import_errors, dag.max_active_runs, dag.max_active_tasks) == ({}, 2, 30)
    stages = {task.execution_timeout for task in dag.tasks if task.task_id.startswith("batch.")}
    assert stages == {timedelta(minutes=90)}
    assert dag.get_task("claim_requests").execution_timeout == timedelta(minutes=30)
    assert bag.dags[RETENTION_DAG_ID].max_active_runs == bag.dags[CHECK_DAG_ID].max_active_runs == 1


def test_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = parsed(monkeypatch, **dict.fromkeys([*NUMBERS, "QUEUE", "EXECUTOR"], ""))
    dag = bag.dags[REPORT_DAG_ID]
    assert (bag.import_errors, dag.max_active_runs, dag.max_active_tasks) == ({}, 4, 1000)
    assert {(task.queue, task.executor) for task in dag.tasks} == {("default", None)}


# 0 is a number of retries, and a delay.
@pytest.mark.parametrize(
    ("name", "wrong"), [*product(NUMBERS, ["many", "-1", "inf", "nan"]), *product(NUMBERS[:3], ["0", "0.9"])]
)
def test_wrong_number_is_an_import_error_with_its_name(monkeypatch: pytest.MonkeyPatch, name: str, wrong: str) -> None:
    bag = parsed(monkeypatch, **{name: wrong})
    [error] = bag.import_errors.values()
    assert REPORT_DAG_ID not in bag.dags
    assert f"PROGRESS_EXHAUST_{name} must be a number, " in error and f"or more, and is '{wrong}'" in error


def test_queue_and_executor_of_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,CeleryExecutor")
    bag = parsed(monkeypatch, QUEUE="exhaust", EXECUTOR="CeleryExecutor")
    assert bag.import_errors == {}
    tasks = [task for dag in bag.dags.values() for task in dag.tasks]
    assert {(task.queue, task.executor) for task in tasks} == {("exhaust", "CeleryExecutor")}
    assert len(tasks) == 11


def test_executor_that_airflow_does_not_have_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = parsed(monkeypatch, EXECUTOR="KubernetesExecutor")
    assert bag.dags == {}
    assert all("KubernetesExecutor" in error for error in bag.import_errors.values()) and len(bag.import_errors) == 3
