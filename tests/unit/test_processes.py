"""Work in several processes: the same results in the same order, and nobody left behind."""

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
from progress_exhaust.operators.processes import in_processes

from progress_exhaust.errors import SetupError, SourceError

PROJECT = Path(__file__).resolve().parents[2]


def square(of: str, number: int) -> tuple[str, int, int]:
    return of, number * number, os.getpid()


def fail(_of: str, number: int) -> int:
    if number == 3:
        raise SetupError("three is wrong")
    return number


def die(_of: str, _number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def never_opened() -> Iterator[str]:
    raise SetupError("the table is gone")
    yield ""


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_come_in_the_items_order(processes: int) -> None:
    found = list(in_processes(square, range(20), opened=lambda: nullcontext("a"), processes=processes))
    assert [(of, number) for of, number, _ in found] == [("a", number * number) for number in range(20)]
    assert (os.getpid() in {pid for *_, pid in found}) == (processes == 1)


def test_few_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_processes(square, items(), opened=lambda: nullcontext("a"), processes=2)
    next(results)
    assert len(taken) < 10
    results.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_keeps_its_kind_and_words(processes: int) -> None:
    with pytest.raises(SetupError, match="three is wrong"):
        list(in_processes(fail, range(20), opened=lambda: nullcontext(""), processes=processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_what_cannot_be_opened_is_told_in_words(processes: int) -> None:
    with pytest.raises(SetupError, match="the table is gone"):
        list(in_processes(fail, range(20), opened=never_opened, processes=processes))


def test_a_process_that_is_killed_fails_the_work_in_words() -> None:
    with pytest.raises(SourceError, match="was killed"):
        list(in_processes(die, range(3), opened=lambda: nullcontext(""), processes=2))


def wait(_of: str, _number: int) -> None:
    time.sleep(60)


def test_an_error_in_the_task_ends_its_processes_at_once() -> None:
    """As Airflow's execution_timeout is one, while the task waits for a process that hangs."""

    def ring(_number: int, _frame: object) -> None:
        raise TimeoutError("the task's time is up")

    begun = time.monotonic()
    rung = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with (
            pytest.raises(TimeoutError),
            closing(in_processes(wait, range(9), opened=lambda: nullcontext(""), processes=2)) as found,
        ):
            next(found)
    finally:
        signal.signal(signal.SIGALRM, rung)
    assert time.monotonic() - begun < 30
    assert multiprocessing.active_children() == []


TASK = """
import os, sys, time
from contextlib import nullcontext
from progress_exhaust.operators.processes import in_processes

def work(_, number):
    os.write(1, b"%d\\n" % os.getpid())  # a line at once: two processes' print()s may mix theirs
    time.sleep(60)

list(in_processes(work, range(4), opened=lambda: nullcontext(""), processes=2))
"""


def test_processes_end_with_a_task_that_is_killed() -> None:
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
    assert os.environ[f"AIRFLOW_CONN_{name.upper()}"].startswith("{")  # not where the task has it from
    return {
        field: getattr(found, field) for field in ("conn_type", "host", "port", "schema", "login", "password", "extra_dejson")
    }


def test_a_process_has_the_tasks_connections_without_asking_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgres://us%40er:p%2F%25%3Aw%20%C3%A9@h1,h2:5433/sun%2Fbird?__extra__=%7B%22a%22%3A+%7B%22b%22%3A+%5B1%5D%7D%7D"
    monkeypatch.setenv("AIRFLOW_CONN_ODD_ONE", uri)
    [found] = in_processes(
        connection, ["odd_one"], opened=lambda: nullcontext(""), processes=2, connection_ids=["odd_one", "unknown"]
    )
    assert found == {
        "conn_type": "postgres", "host": "h1,h2", "port": 5433, "schema": "sun/bird", "login": "us@er", "password": "p/%:w é",
        "extra_dejson": {"a": {"b": [1]}},
    }  # fmt: skip
