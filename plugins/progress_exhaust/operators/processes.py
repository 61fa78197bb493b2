"""Several processes for the work of one task: `fork`ed, since what Airflow runs tasks with allows nothing else.

A process has no part in the task's own talk with Airflow. It opens its connections itself, so nothing may be open that it
would share: forks come before a driver connects, or after it is closed.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from progress_exhaust.errors import SourceError

Resources = TypeVar("Resources")
Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_AHEAD = 2  # of the results that are taken, for each process


def in_processes(
    work: Callable[[Resources, Item], Result],
    items: Iterable[Item],
    *,
    opened: Callable[[], AbstractContextManager[Resources]],
    processes: int,
    connection_ids: Sequence[str] = (),
) -> Generator[Result, None, None]:
    """Yield work(resources, item) for each item, in their order; few items and results are in memory at a time.

    Close it (`contextlib.closing`) where an error may end the task: the processes end with it.

    work: a function of a module
    opened: makes the resources, once in each process
    processes: 1 does the work here
    connection_ids: Airflow connections that the work may ask for
    """
    if processes == 1:
        with opened() as resources:
            for item in items:
                yield work(resources, item)
        return
    connections = {connection_id: known for connection_id in connection_ids if (known := _connection(connection_id))}
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, mp_context=fork, initializer=_begin, initargs=(opened, connections))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_do, work, item))
            if len(waiting) >= ITEMS_AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    except BrokenProcessPool:
        raise SourceError(
            f"One of {processes} processes of this task was killed, for want of memory perhaps: lower the settings "
            "processes_per_task or learners_per_part, or give the worker more memory"
        ) from None
    finally:
        # Whatever broke it off, a timeout of the task too, waits for nobody: Python 3.14's kill_workers().
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(cancel_futures=True)


# In a process

_resources: Any = None
_failure: Exception | None = None
_open = ExitStack()


def _begin(opened: Callable[[], AbstractContextManager[Any]], connections: dict[str, str]) -> None:
    global _resources, _failure
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_task, daemon=True).start()
    _leave_the_task()
    os.environ.update({f"AIRFLOW_CONN_{connection_id.upper()}": known for connection_id, known in connections.items()})
    try:
        _resources = _open.enter_context(opened())
    except Exception as error:  # told by the first piece of work: a pool only says that a process of it broke
        _failure = error


def _do(work: Callable[[Any, Item], Result], item: Item) -> Result:
    if _failure is not None:
        raise _failure
    return work(_resources, item)


def _end_with_the_task() -> None:
    """A task that is killed takes nobody along."""
    task = multiprocessing.parent_process()
    if task is not None:
        task.join()
        os._exit(1)


def _leave_the_task() -> None:
    """Keep masking secrets, and tell the task's supervisor nothing: that line is the task's alone."""
    from airflow.sdk.execution_time import task_runner

    if hasattr(task_runner, "SUPERVISOR_COMMS"):
        del task_runner.SUPERVISOR_COMMS


def _connection(connection_id: str) -> str | None:
    try:
        return BaseHook.get_connection(connection_id).as_json()
    except AirflowNotFoundException:
        return None
