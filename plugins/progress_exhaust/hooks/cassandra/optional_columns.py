"""Read tables that lack optional columns: what a table does not have counts as null."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from cassandra.query import PreparedStatement

from progress_exhaust.hooks.cassandra.models import Row
from progress_exhaust.sql import learner_tables as cql

_SELECTED = re.compile(r"SELECT\s(.*?)\sFROM\s", re.DOTALL)
_TIMESTAMP = re.compile(r"toUnixTimestamp\((\w+)\)")


@dataclass(frozen=True)
class Select:
    """A prepared SELECT.

    :param null_positions: where the columns are that the table lacks, in a complete row
    """

    statement: PreparedStatement
    null_positions: tuple[int, ...] = ()

    def bind(self, values: Sequence[Any]) -> Any:
        return self.statement.bind(values)

    def complete(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows with null for each column that the table lacks."""
        return map(self._with_nulls, rows) if self.null_positions else iter(rows)

    def _with_nulls(self, row: Row) -> Row:
        values = list(row)
        for position in self.null_positions:
            values.insert(position, None)
        return tuple(values)


def select_existing(query: str, columns: Set[str] | None, prepare: Callable[[str], PreparedStatement]) -> Select:
    """Prepare a SELECT without the optional columns that the table lacks.

    :param columns: those that the table has; None if that is not known
    :param prepare: prepares a query
    """
    selected = "".join(_SELECTED.findall(query))
    names = [name.strip() for name in _TIMESTAMP.sub(r"\1", selected).split(",")]
    absent = [name for name in names if columns is not None and name in cql.OPTIONAL_COLUMNS and name not in columns]
    return Select(prepare(without_columns(query, absent)), tuple(names.index(name) for name in absent))


def without_columns(query: str, absent: Iterable[str]) -> str:
    """Return a SELECT without these columns. The first column is never one of them."""
    for name in absent:
        query = re.sub(rf",\s+(toUnixTimestamp\({name}\)|{name}\b)", "", query, count=1)
    return query


def missing_columns(wanted: Mapping[str, str], found: Set[str]) -> tuple[list[str], list[str]]:
    """Return the columns that a table lacks: those that the report needs, and those that count as null.

    Of two columns for the same fact, one is enough. If both are missing, both are needed.
    """
    absent = [name for name in wanted if name not in found]
    unmet = {name for pair in cql.ONE_OF_TWO.items() if not found & set(pair) for name in pair}
    needed = [name for name in absent if name not in cql.OPTIONAL_COLUMNS or name in unmet]
    return needed, [name for name in absent if name not in needed]
