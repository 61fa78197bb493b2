"""Work in several processes gives the same results in the same order, and every process ends with its task."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from airflow.sdk import BaseHook

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.stages.process_pool import frozen_heap, run_in_processes

PROJECT = Path(__file__).resolve().parents[2]


def square(of: str, number: int) -> tuple[str, int, int]:
    return of, number * number, os.getpid()


def frozen_objects(_of: str, _number: int) -> int:
    return gc.get_freeze_count()


def fail(_of: str, number: int) -> int:
    if number == 3:
        raise SetupError("three is wrong")
    return number


def die(_of: str, _number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def never_opened() -> Iterator[str]:
    raise SetupError("the table is missing")
    yield ""


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_are_in_the_order_of_the_items(processes: int) -> None:
    found = list(run_in_processes(square, range(20), open_resources=lambda: nullcontext("a"), processes=processes))
    assert [(of, number) for of, number, _ in found] == [("a", number * number) for number in range(20)]
    assert (os.getpid() in {pid for *_, pid in found}) == (processes == 1)


def test_garbage_collections_skip_what_was_there_before() -> None:
    with frozen_heap():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0
    frozen = run_in_processes(frozen_objects, [1, 2], open_resources=lambda: nullcontext(""), processes=2)
    assert min(frozen) > 10_000


def test_only_a_few_items_are_taken_in_advance() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = run_in_processes(square, items(), open_resources=lambda: nullcontext("a"), processes=2)
    next(results)
    assert len(taken) < 10
    results.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_keeps_its_class_and_message(processes: int) -> None:
    with pytest.raises(SetupError, match="three is wrong"):
        list(run_in_processes(fail, range(20), open_resources=lambda: nullcontext(""), processes=processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_resources_that_cannot_be_opened_raise_their_own_error(processes: int) -> None:
    with pytest.raises(SetupError, match="the table is missing"):
        list(run_in_processes(fail, range(20), open_resources=never_opened, processes=processes))


def test_a_killed_process_fails_the_work_with_a_message() -> None:
    with pytest.raises(SourceError, match="was killed"):
        list(run_in_processes(die, range(3), open_resources=lambda: nullcontext(""), processes=2))


def wait(_of: str, _number: int) -> None:
    time.sleep(60)


def test_an_error_in_the_task_ends_its_processes_at_once() -> None:
    """The error is like Airflow's execution_timeout: it comes while the task waits for a process that hangs."""

    def interrupt(_number: int, _frame: object) -> None:
        raise TimeoutError("the task's time is up")

    started = time.monotonic()
    old_handler = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with (
            pytest.raises(TimeoutError),
            closing(run_in_processes(wait, range(9), open_resources=lambda: nullcontext(""), processes=2)) as found,
        ):
            next(found)
    finally:
        signal.signal(signal.SIGALRM, old_handler)
    assert time.monotonic() - started < 30
    assert multiprocessing.active_children() == []


TASK = """
import os, sys, time
from contextlib import nullcontext
from progress_exhaust.stages.process_pool import frozen_heap, run_in_processes

def work(_, number):
    os.write(1, b"%d\\n" % os.getpid())  # one write: two print() calls may mix their lines
    time.sleep(60)

list(run_in_processes(work, range(4), open_resources=lambda: nullcontext(""), processes=2))
"""


def test_processes_end_if_their_task_is_killed() -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "plugins")}
    with subprocess.Popen([sys.executable, "-c", TASK], stdout=subprocess.PIPE, text=True, env=environment) as task:
        assert task.stdout
        pids = [int(task.stdout.readline()) for _ in range(2)]
        assert all(is_running(pid) for pid in pids)
        task.kill()
        deadline = time.monotonic() + 10
        while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def connection(_of: str, name: str) -> dict[str, object]:
    found = BaseHook.get_connection(name)
    assert os.environ[f"AIRFLOW_CONN_{name.upper()}"].startswith("{")  # JSON, not the URI that the task has
    return {
        field: getattr(found, field) for field in ("conn_type", "host", "port", "schema", "login", "password", "extra_dejson")
    }


def test_a_process_has_the_connections_of_its_task_without_asking_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgres://us%40er:p%2F%25%3Aw%20%C3%A9@h1,h2:5433/sun%2Fbird?__extra__=%7B%22a%22%3A+%7B%22b%22%3A+%5B1%5D%7D%7D"
    monkeypatch.setenv("AIRFLOW_CONN_ODD_ONE", uri)
    [found] = run_in_processes(
        connection, ["odd_one"], open_resources=lambda: nullcontext(""), processes=2, connection_ids=["odd_one", "unknown"]
    )
    assert found == {
        "conn_type": "postgres", "host": "h1,h2", "port": 5433, "schema": "sun/bird", "login": "us@er", "password": "p/%:w é",
        "extra_dejson": {"a": {"b": [1]}},
    }  # fmt: skip
