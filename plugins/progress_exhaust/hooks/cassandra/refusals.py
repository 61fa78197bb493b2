"""What a strict server refuses: guardrails on the size of a page and of an IN, and too many tombstones.

A guardrail is an InvalidRequest whose text names it: "Guardrail page_size violated: … exceeds fail threshold of 512".
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cassandra import InvalidRequest, ReadFailure
from cassandra.query import BoundStatement

TOMBSTONES_CODE = 1  # of a ReadFailure's reasons, in protocol version 5
FEWEST_ROWS_PER_PAGE = 10  # smaller pages do not help against tombstones
_THRESHOLD = re.compile(r"threshold of (\d+)")
_KEYS_GUARDRAILS = ("partition_keys_in_select", "in_select_cartesian_product")

_CANNOT_FILTER = (
    "IN restrictions are not supported on indexed columns",
    "Cannot restrict clustering columns by IN relations when a collection is selected",
)


@dataclass(frozen=True)
class Query:
    """A query that may be sent as several smaller ones.

    :param bind: returns the statement for these keys
    :param keys: the partitions that its IN names; empty if it has no such IN
    """

    bind: Callable[[Sequence[str]], BoundStatement]
    keys: Sequence[str] = ()

    def cut(self, size: int) -> "Iterator[Query]":
        """Yield queries for at most `size` keys each."""
        if len(self.keys) <= size:
            yield self
            return
        for start in range(0, len(self.keys), size):
            yield Query(self.bind, self.keys[start : start + size])


def is_guardrail(error: Exception) -> bool:
    """Return whether a guardrail of the server refused the query."""
    return isinstance(error, InvalidRequest) and "guardrail" in str(error).lower()


def cannot_filter(error: Exception) -> bool:
    """Return whether the server is too old to filter by several values of a column.

    Cassandra before 4.1 can only if no other column of the key comes before it; 3.11 only if no map or list is selected.
    """
    return isinstance(error, InvalidRequest) and any(text in str(error) for text in _CANNOT_FILTER)


def fewer_keys(error: Exception, keys: int) -> int | None:
    """Return how many keys a query may name, if the server refused this number of keys; None if that is not the reason."""
    if keys < 2 or not is_guardrail(error) or not any(name in str(error) for name in _KEYS_GUARDRAILS):
        return None
    return _allowed(error, keys)


def fewer_rows(error: Exception, rows: int) -> int | None:
    """Return how many rows a page may have, if the server refused pages of this size; None if that is not the reason."""
    if rows < 2 or not is_guardrail(error) or "page_size" not in str(error):
        return None
    return _allowed(error, rows)


def fewer_rows_for_one_read(error: Exception, rows: int) -> int | None:
    """Return the page size to try after a failed read: the tombstones of one page may be too many. None: no smaller one."""
    if not isinstance(error, ReadFailure) or rows <= FEWEST_ROWS_PER_PAGE:
        return None
    return max(rows // 10, FEWEST_ROWS_PER_PAGE)


def has_too_many_tombstones(error: ReadFailure) -> bool:
    """Return whether a read failed because of tombstones. Before Cassandra 4, protocol version 4 does not say so."""
    reasons: Any = error.error_code_map or {}
    return TOMBSTONES_CODE in reasons.values() or "TOMBSTONE" in str(error)


def _allowed(error: Exception, size: int) -> int:
    """Return the threshold that the message names, if it is smaller; otherwise half the size."""
    found = _THRESHOLD.search(str(error))
    threshold = int(found[1]) if found else 0
    return threshold if 0 < threshold < size else size // 2
