"""Read tables that lack optional columns, and servers that cannot select an element of a map.

What a table does not have counts as null. A server before Cassandra 4.0 sends the whole map.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from cassandra.query import PreparedStatement

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.models import Row
from progress_exhaust.sql import learner_tables as cql

_SELECTED = re.compile(r"SELECT\s(.*?)\sFROM\s", re.DOTALL)
_TIMESTAMP = re.compile(r"toUnixTimestamp\((\w+)\)")
_ELEMENT = re.compile(r"(\w+)\['(\w+)'\]")


@dataclass(frozen=True)
class Select:
    """A prepared SELECT.

    :param null_positions: where the columns are that the table lacks, in a complete row
    :param elements: where the columns are that the server sends as a whole map, in a complete row, and the key to take
    """

    statement: PreparedStatement
    null_positions: tuple[int, ...] = ()
    elements: tuple[tuple[int, str], ...] = ()

    def bind(self, values: Sequence[Any]) -> Any:
        return self.statement.bind(values)

    def complete(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows with null for each column that the table lacks, and with elements in place of whole maps."""
        complete = map(self._with_nulls, rows) if self.null_positions else iter(rows)
        return map(self._with_elements, complete) if self.elements else complete

    def _with_nulls(self, row: Row) -> Row:
        values = list(row)
        for position in self.null_positions:
            values.insert(position, None)
        return tuple(values)

    def _with_elements(self, row: Row) -> Row:
        values = list(row)
        for position, key in self.elements:
            values[position] = (values[position] or {}).get(key)
        return tuple(values)


def select_existing(
    query: str,
    columns: Set[str] | None,
    prepare: Callable[[str], PreparedStatement],
    is_before_version_4: Callable[[], bool],
) -> Select:
    """Prepare a SELECT without the optional columns that the table lacks.

    :param columns: those that the table has; None if that is not known
    :param prepare: prepares a query
    :param is_before_version_4: returns whether a node is older than Cassandra 4.0, which cannot select an element of a map.
        Other servers have versions of their own: they may refuse to prepare that
    """
    selected = "".join(_SELECTED.findall(query))
    texts = [name.strip() for name in _TIMESTAMP.sub(r"\1", selected).split(",")]
    names = [_ELEMENT.sub(r"\1", text) for text in texts]
    absent = [name for name in names if columns is not None and name in cql.OPTIONAL_COLUMNS and name not in columns]
    nulls = tuple(names.index(name) for name in absent)
    elements = tuple((position, found[2]) for position, text in enumerate(texts) if (found := _ELEMENT.fullmatch(text)))
    if not elements or not is_before_version_4():
        try:
            return Select(prepare(without_columns(query, absent)), nulls)
        except SetupError:
            if not elements:
                raise
    return Select(prepare(with_whole_maps(without_columns(query, absent))), nulls, elements)


def with_whole_maps(query: str) -> str:
    """Return a SELECT of maps in place of their elements."""
    return _ELEMENT.sub(r"\1", query)


def without_columns(query: str, absent: Iterable[str]) -> str:
    """Return a SELECT without these columns. The first column is never one of them."""
    for name in absent:
        query = re.sub(rf",\s+(toUnixTimestamp\({name}\)|{name}\b(\['\w+'\])?)", "", query, count=1)
    return query


def missing_columns(wanted: Mapping[str, str], found: Set[str]) -> tuple[list[str], list[str]]:
    """Return the columns that a table lacks: those that the report needs, and those that count as null.

    Of two columns for the same fact, one is enough. If both are missing, both are needed.
    """
    absent = [name for name in wanted if name not in found]
    unmet = {name for pair in cql.ONE_OF_TWO.items() if not found & set(pair) for name in pair}
    needed = [name for name in absent if name not in cql.OPTIONAL_COLUMNS or name in unmet]
    return needed, [name for name in absent if name not in needed]
