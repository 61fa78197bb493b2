"""The rows of a scan as sorted runs on storage, one folder per batch. They are written and merged in bounded memory.

A scan returns rows in token order, and the report is in user id order. A run is an Arrow stream, sorted by user id. Its
batches of rows are small: many runs are merged at once, and of each only one batch is in memory.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

import pyarrow as pa

from progress_exhaust.extract.paths import AnyPath
from progress_exhaust.hooks.cassandra.models import BatchKey, Enrolment

BYTES_IN_MEMORY = 32 * 2**20
ROWS_READ_AHEAD = 500  # of each run, when runs are merged
COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def write_runs(
    scan: Iterable[tuple[BatchKey, pa.Table]], folders: Mapping[BatchKey, AnyPath], *, bytes_in_memory: int = BYTES_IN_MEMORY
) -> Counter[BatchKey]:
    """Write the rows of each batch into its folder, as runs `00000.arrows`, …; return how many rows each batch has."""
    held: dict[BatchKey, list[pa.Table]] = defaultdict(list)
    runs_written = dict.fromkeys(folders, 0)
    rows: Counter[BatchKey] = Counter()
    held_bytes = 0

    def spill() -> None:
        for key, tables in held.items():
            run = pa.concat_tables(tables).sort_by("user_id")
            path = folders[key] / f"{runs_written[key]:05d}.arrows"
            with path.open("wb") as target, pa.ipc.new_stream(target, run.schema, options=COMPRESSED) as stream:
                stream.write_table(run, max_chunksize=ROWS_READ_AHEAD)
            runs_written[key] += 1
            rows[key] += len(run)
        held.clear()

    for key, table in scan:
        held[key].append(table)
        held_bytes += table.nbytes
        if held_bytes >= bytes_in_memory:
            spill()
            held_bytes = 0
    spill()
    return rows


def read_runs(folder: AnyPath) -> Iterator[pa.Table]:
    """Yield the runs of a folder, each sorted by user id."""
    for path in _paths(folder):
        with path.open("rb") as source, pa.ipc.open_stream(source) as stream:
            yield stream.read_all()


def merge_enrolments(folder: AnyPath) -> Iterator[Enrolment]:
    """Yield the enrolments of a folder's runs in the order of their user ids."""
    return heapq.merge(*(_enrolments(path) for path in _paths(folder)), key=attrgetter("user_id"))


def _enrolments(path: AnyPath) -> Iterator[Enrolment]:
    with path.open("rb") as source, pa.ipc.open_stream(source) as stream:
        for rows in stream:
            yield from map(Enrolment._make, zip(*rows.to_pydict().values(), strict=True))


def _paths(folder: AnyPath) -> list[AnyPath]:
    return sorted(folder.glob("*.arrows"), key=str)
