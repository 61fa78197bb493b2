"""Keep the connections of a task for its next transactions: to connect costs more than most statements.

Only a task keeps any, and only until it ends. A process that the task has forked keeps none, and uses none of the task's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

LONGEST_IDLE_SECONDS = 30  # a firewall or a limit of the server may end one that is idle for longer

_kept: list[tuple[float, Any]] | None = None  # since when, and the connection
_owner: int | None = None  # id of the process that keeps them


@contextmanager
def keep_connections() -> Iterator[None]:
    """Let the transactions of the block use connections again; close them at its end."""
    global _kept, _owner
    _kept, _owner = [], os.getpid()
    try:
        yield
    finally:
        kept, _kept = _kept, None
        for _, connection in kept:
            connection.close()


def take() -> Any:
    """Return a connection that no transaction uses, or None."""
    while _is_ours() and _kept:
        idle_since, connection = _kept.pop()
        if monotonic() - idle_since < LONGEST_IDLE_SECONDS:
            return connection
        connection.close()
    return None


def keep(connection: Any) -> Any:
    """Keep a connection whose transaction has ended; return it if it is to be closed instead, else None.

    One is kept: a long stage then has one idle session on the server.
    """
    if _kept is None or _kept or not _is_ours():
        return connection
    _kept.append((monotonic(), connection))
    return None


def _is_ours() -> bool:
    return _owner == os.getpid()
