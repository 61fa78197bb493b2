"""Rows of a scan, within bounded memory: runs that are sorted by user id, on storage, one folder a batch.

A scan answers in token order and the report is in user id order.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from progress_exhaust.report.learners import BatchKey, Enrolment

BYTES_IN_MEMORY = 32 * 2**20
ROWS_READ_AHEAD = 500  # of each run, when they are merged


def write_runs(
    scan: Iterable[tuple[BatchKey, pa.Table]], folders: Mapping[BatchKey, Path], *, bytes_in_memory: int = BYTES_IN_MEMORY
) -> None:
    """Write each batch's rows below its folder, as runs `00000.parquet`, … that are sorted by user_id."""
    held: dict[BatchKey, list[pa.Table]] = defaultdict(list)
    written = dict.fromkeys(folders, 0)
    size_bytes = 0

    def spill() -> None:
        for key, tables in held.items():
            run = pa.concat_tables(tables).sort_by("user_id")
            with (folders[key] / f"{written[key]:05d}.parquet").open("wb") as target:
                pq.write_table(run, target)
            written[key] += 1
        held.clear()

    for key, table in scan:
        held[key].append(table)
        size_bytes += table.nbytes
        if size_bytes >= bytes_in_memory:
            spill()
            size_bytes = 0
    spill()


def read_runs(folder: Path) -> Iterator[pa.Table]:
    """Yield the runs of a folder, each sorted by user_id."""
    for path in _paths(folder):
        with path.open("rb") as source:
            yield pq.read_table(source)


def count_rows(folder: Path) -> int:
    """Return how many rows the runs of a folder have."""
    count = 0
    for path in _paths(folder):
        with path.open("rb") as source:
            count += pq.read_metadata(source).num_rows
    return count


def merged(folder: Path) -> Iterator[Enrolment]:
    """Yield the enrolments of a folder's runs in the order of their user ids."""
    return heapq.merge(*(_enrolments(path) for path in _paths(folder)), key=attrgetter("user_id"))


def _enrolments(path: Path) -> Iterator[Enrolment]:
    with path.open("rb") as source:
        for rows in pq.ParquetFile(source).iter_batches(ROWS_READ_AHEAD):
            yield from map(Enrolment._make, zip(*rows.to_pydict().values(), strict=True))


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"), key=str)
