"""Each private or fast-moving API behaves as compat expects. A test that fails after an upgrade shows what to change there.

tests/dag/test_metadata.py has those of Airflow's database, tests/stores/test_store_clients.py those of the stores' clients.
"""

import ast
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, OKResponse, TriggerDagRun, VariableResult
from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

from progress_exhaust import compat

PACKAGE = Path(compat.__file__).parent


def test_importing_compat_imports_no_driver() -> None:
    code = "import sys, progress_exhaust.compat; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"airflow", "cassandra", "fsspec", "botocore", "redis", "sqlalchemy", "requests"} & set(loaded)


def test_every_function_has_a_test() -> None:
    names = {node.name for node in ast.parse(Path(compat.__file__).read_text()).body if isinstance(node, ast.FunctionDef)}
    tests = Path(__file__).parents[1]
    text = "".join(path.read_text() for path in tests.rglob("test_*.py"))
    assert {name for name in names if not name.startswith("_") and f"{name}(" not in text} == set()


# Airflow, in a task


def test_a_process_can_be_disconnected_from_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(task_runner), "SUPERVISOR_COMMS", object())
    compat.disconnect_from_supervisor()
    assert not hasattr(task_runner, "SUPERVISOR_COMMS")
    compat.disconnect_from_supervisor()  # and again, in a process without supervisor
    # Airflow's own code asks the supervisor by this name only.
    assert "SUPERVISOR_COMMS.send" in Path(task_runner.__file__).read_text()


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (VariableResult(key="id", value="0a"), "0a"),
        (ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": "id"}), None),
        (ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500}), AirflowRuntimeError),
        (ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"key": "id"}), AirflowRuntimeError),
    ],
)
def test_a_stored_variable_is_missing_if_airflow_answers_so(monkeypatch: pytest.MonkeyPatch, answer: Any, value: Any) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_ID", "of the environment")
    monkeypatch.setitem(vars(task_runner), "SUPERVISOR_COMMS", SimpleNamespace(send=lambda _: answer))
    if isinstance(value, type):
        with pytest.raises(value):
            compat.read_stored_variable("id")
    else:
        assert compat.read_stored_variable("id") == value


def test_start_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    answers = [
        OKResponse(ok=True),
        ErrorResponse(error=ErrorType.DAGRUN_ALREADY_EXISTS, detail={}),
        ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500}),
    ]

    def send(msg: Any) -> Any:
        sent.append(msg)
        return answers.pop(0)

    monkeypatch.setitem(vars(task_runner), "SUPERVISOR_COMMS", SimpleNamespace(send=send))
    due = datetime(2026, 3, 10, tzinfo=UTC)
    assert [compat.start_run("dag", "run", {"force": True}, due) for _ in range(2)] == [True, False]
    with pytest.raises(AirflowRuntimeError):
        compat.start_run("dag", "run", {}, due)
    assert isinstance(sent[0], TriggerDagRun)
    assert (sent[0].dag_id, sent[0].run_id, sent[0].conf) == ("dag", "run", {"force": True})
    assert getattr(sent[0], "run_after", due) == due  # Airflow 3.1 and 3.2 have no such field


def test_only_a_real_supervisor_has_a_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    in_process = InProcessSupervisorComms(supervisor=None)  # type: ignore[arg-type]
    for supervisor, expected in ((in_process, False), (object(), True)):
        monkeypatch.setitem(vars(task_runner), "SUPERVISOR_COMMS", supervisor)
        assert compat.has_scheduler() == expected


def test_the_answer_that_a_run_does_not_exist() -> None:
    not_found = AirflowRuntimeError(ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"reason": "not_found"}))
    in_dag_test = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 404}))
    server_error = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500}))
    http_error: Any = RuntimeError()
    http_error.response = SimpleNamespace(status_code=404)
    found = [compat.is_run_not_found(error) for error in (not_found, in_dag_test, http_error, server_error, ValueError("404"))]
    assert found == [True, True, True, False, False]


def test_the_states_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def send(msg: Any) -> Any:
        asked.append(msg)
        return SimpleNamespace(task_states={"run": {"list_batches": "success", "batch.pivot_3": "failed"}})

    monkeypatch.setitem(vars(task_runner), "SUPERVISOR_COMMS", SimpleNamespace(send=send))
    states = compat.task_states(task_runner.RuntimeTaskInstance, "dag", "run")
    assert states == {"list_batches": "success", "batch.pivot_3": "failed"}
    assert (asked[0].dag_id, asked[0].run_ids) == ("dag", ["run"])


def test_metrics_are_sent_to_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    stats = compat._stats()
    for name in ("incr", "gauge", "timing"):
        assert callable(getattr(stats, name))
        monkeypatch.setattr(stats, name, lambda *values, name=name: sent.append((name, *values)))
    compat.increment_metric("a", 2)
    compat.set_metric("b", 3.5)
    compat.time_metric("c", 90)
    assert [(kind, name) for kind, name, _ in sent] == [("incr", "a"), ("gauge", "b"), ("timing", "c")]
    assert sent[2][2].total_seconds() == 90


# Processes


def test_the_processes_of_a_pool_can_be_killed() -> None:
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
    for _ in range(2):
        pool.submit(time.sleep, 60)
    compat.kill_processes(pool)
    pool.shutdown(cancel_futures=True)
    assert multiprocessing.active_children() == []
    compat.kill_processes(pool)  # after its end, too


# Stores


def test_a_file_is_put_by_a_client_that_is_not_asynchronous(tmp_path: Path) -> None:
    from fsspec.implementations.local import LocalFileSystem

    (tmp_path / "source").write_bytes(b"data")
    compat.put_file(LocalFileSystem(), tmp_path / "source", str(tmp_path / "target"), timeout_seconds=5)
    assert (tmp_path / "target").read_bytes() == b"data"


def test_a_put_without_an_answer_ends() -> None:
    import asyncio

    from fsspec.asyn import AsyncFileSystem

    class Silent(AsyncFileSystem):
        async def _put_file(self, *_: object, **_more: object) -> None:
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        compat.put_file(Silent(skip_instance_cache=True), Path("source"), "target", timeout_seconds=0.1)


def test_a_listing_is_not_kept() -> None:
    from fsspec.spec import AbstractFileSystem

    class Store(AbstractFileSystem):
        def invalidate_cache(self, path: str | None = None) -> None:  # noqa: ARG002
            self.dircache.clear()

    fs = Store(skip_instance_cache=True)
    fs.dircache["old"] = [{"name": "old/file"}]
    compat.disable_listing_cache(fs)
    fs.dircache["new"] = [{"name": "new/file"}]
    assert "old" not in fs.dircache and "new" not in fs.dircache
