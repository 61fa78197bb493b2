"""Rows of a scan, within bounded memory: runs that are sorted by user id, on storage, one folder a batch.

A scan answers in token order and the report is in user id order. Runs are Arrow streams of small batches: many of them are
merged at once, and each may hold only a little.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from progress_exhaust.report.learners import BatchKey, Enrolment

BYTES_IN_MEMORY = 32 * 2**20
ROWS_READ_AHEAD = 500  # of each run, when they are merged
PACKED = pa.ipc.IpcWriteOptions(compression="lz4")


def write_runs(
    scan: Iterable[tuple[BatchKey, pa.Table]], folders: Mapping[BatchKey, Path], *, bytes_in_memory: int = BYTES_IN_MEMORY
) -> Counter[BatchKey]:
    """Write each batch's rows below its folder, as runs `00000.arrows`, … that are sorted by user_id; return their numbers."""
    held: dict[BatchKey, list[pa.Table]] = defaultdict(list)
    written = dict.fromkeys(folders, 0)
    rows: Counter[BatchKey] = Counter()
    size_bytes = 0

    def spill() -> None:
        for key, tables in held.items():
            run = pa.concat_tables(tables).sort_by("user_id")
            path = folders[key] / f"{written[key]:05d}.arrows"
            with path.open("wb") as target, pa.ipc.new_stream(target, run.schema, options=PACKED) as stream:
                stream.write_table(run, max_chunksize=ROWS_READ_AHEAD)
            written[key] += 1
            rows[key] += len(run)
        held.clear()

    for key, table in scan:
        held[key].append(table)
        size_bytes += table.nbytes
        if size_bytes >= bytes_in_memory:
            spill()
            size_bytes = 0
    spill()
    return rows


def read_runs(folder: Path) -> Iterator[pa.Table]:
    """Yield the runs of a folder, each sorted by user_id."""
    for path in _paths(folder):
        with path.open("rb") as source, pa.ipc.open_stream(source) as stream:
            yield stream.read_all()


def merged(folder: Path) -> Iterator[Enrolment]:
    """Yield the enrolments of a folder's runs in the order of their user ids."""
    return heapq.merge(*(_enrolments(path) for path in _paths(folder)), key=attrgetter("user_id"))


def _enrolments(path: Path) -> Iterator[Enrolment]:
    with path.open("rb") as source, pa.ipc.open_stream(source) as stream:
        for rows in stream:
            yield from map(Enrolment._make, zip(*rows.to_pydict().values(), strict=True))


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrows"), key=str)
