"""Several processes for the work of one task. They are forked: the way in which Airflow runs tasks allows nothing else.

A process does not talk to Airflow. It opens its own connections, so no connection may be open when it is forked: fork before a
driver connects, or close the driver first.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

from airflow.sdk import BaseHook

from progress_exhaust import compat
from progress_exhaust.airflow_names import AirflowNotFoundException
from progress_exhaust.errors import SourceError

Resources = TypeVar("Resources")
Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_AHEAD = 2  # submitted in advance, for each process


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Let garbage collections skip every object that exists now.

    Python looks through all that Airflow has imported whenever many rows became objects. That takes as long as to decode them.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run_in_processes(
    work: Callable[[Resources, Item], Result],
    items: Iterable[Item],
    *,
    open_resources: Callable[[], AbstractContextManager[Resources]],
    processes: int,
    connection_ids: Sequence[str] = (),
) -> Generator[Result, None, None]:
    """Yield work(resources, item) for each item, in order; only a few items and results are in memory at a time.

    Close it (`contextlib.closing`) if an error may end the task before the last result: that ends the processes.

    work: a function of a module
    open_resources: is called once in each process
    processes: with 1, this process does the work
    connection_ids: Airflow connections that the work may ask for
    """
    if processes == 1:
        with open_resources() as resources:
            for item in items:
                yield work(resources, item)
        return
    connections = {connection_id: found for connection_id in connection_ids if (found := _connection(connection_id))}
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, mp_context=fork, initializer=_initialize, initargs=(open_resources, connections))
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
            f"One of {processes} processes of this task was killed, perhaps because of a lack of memory. Lower the settings "
            "processes_per_task or learners_per_chunk, or give the worker more memory"
        ) from None
    finally:
        compat.kill_processes(pool)  # after an error or a timeout, do not wait for running work
        pool.shutdown(cancel_futures=True)


# In a process

_resources: Any = None
_failure: Exception | None = None
_open = ExitStack()


def _initialize(open_resources: Callable[[], AbstractContextManager[Any]], connections: dict[str, str]) -> None:
    global _resources, _failure
    gc.freeze()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_the_task, daemon=True).start()
    compat.disconnect_from_supervisor()
    os.environ.update({f"AIRFLOW_CONN_{connection_id.upper()}": found for connection_id, found in connections.items()})
    try:
        _resources = _open.enter_context(open_resources())
    except Exception as error:  # the first piece of work raises it: a pool only says that a process broke
        _failure = error


def _do(work: Callable[[Any, Item], Result], item: Item) -> Result:
    if _failure is not None:
        raise _failure
    return work(_resources, item)


def _exit_with_the_task() -> None:
    """Exit as soon as the task's own process has ended, even if it was killed."""
    task = multiprocessing.parent_process()
    if task is not None:
        task.join()
        os._exit(1)


def _connection(connection_id: str) -> str | None:
    try:
        return BaseHook.get_connection(connection_id).as_json()
    except AirflowNotFoundException:
        return None
