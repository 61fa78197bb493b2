"""Rows of a scan, sorted into the pages of learners that they belong to, on local disk.

A scan answers in token order and a report is made in user id order; a page's rows are few enough to hold, all rows are not.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from progress_exhaust.report.learners import table_of

ROWS_IN_MEMORY = 200_000


class ScanBuckets:
    """One bucket a page.

    :param folder: an empty local folder
    :param first_ids: the first user id of each page, ascending
    :param schema: of the rows; the user id comes first
    """

    def __init__(self, folder: Path, first_ids: Sequence[str], schema: pa.Schema) -> None:
        self._folder = folder
        self._first_ids = first_ids
        self._schema = schema

    def fill(self, rows: Iterable[tuple[Any, ...]]) -> int:
        """Put each row where its learner's page is; return how many rows there were."""
        held: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
        count = 0
        for row in rows:
            held[bisect_right(self._first_ids, row[0]) - 1].append(row)
            count += 1
            if count % ROWS_IN_MEMORY == 0:
                self._spill(held)
        self._spill(held)
        return count

    def page(self, number: int) -> pa.Table:
        """Return the rows of a page's learners, and of others whose ids lie between theirs."""
        bucket = self._bucket(number)
        tables = []
        if bucket.exists():
            with bucket.open("rb") as source:
                while source.peek(1):  # one stream for each spill
                    tables.append(pa.ipc.open_stream(source).read_all())
        return pa.concat_tables(tables) if tables else self._schema.empty_table()

    def _spill(self, held: defaultdict[int, list[tuple[Any, ...]]]) -> None:
        for number, rows in held.items():
            with self._bucket(number).open("ab") as target, pa.ipc.new_stream(target, self._schema) as stream:
                stream.write_table(table_of(rows, self._schema))
        held.clear()

    def _bucket(self, number: int) -> Path:
        return self._folder / f"{max(number, 0):05d}.arrows"
