"""Sorting enrolments that arrive in no order, within bounded memory: sorted runs on storage, merged when read.

A table keyed by user answers in token order; the report is in user id order.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from progress_exhaust.report.learners import Enrolment

ENROLMENT = pa.schema(
    [
        ("user_id", pa.string()),
        ("active", pa.bool_()),
        ("enrolled_at", pa.int64()),
        ("enrolled_text", pa.string()),
        ("completed_at", pa.int64()),
        ("completed_ids", pa.list_(pa.string())),
        ("has_certificate", pa.bool_()),
        ("certificate_status", pa.int32()),
    ]
)
ROWS_READ_AHEAD = 500  # of each run, when they are merged

BatchKey = tuple[str, str]  # collection id, batch id


def write_runs(scan: Iterable[tuple[str, str, Enrolment]], folders: Mapping[BatchKey, Path], *, rows_in_memory: int) -> None:
    """Write each batch's enrolments below its folder, as runs `00000.parquet`, … that are sorted by user id.

    Enrolments of other batches are passed over.
    """
    held: dict[BatchKey, list[Enrolment]] = defaultdict(list)
    written = dict.fromkeys(folders, 0)
    rows = 0

    def spill() -> None:
        for key, enrolments in held.items():
            enrolments.sort(key=attrgetter("user_id"))
            table = pa.Table.from_pylist([enrolment._asdict() for enrolment in enrolments], schema=ENROLMENT)
            with (folders[key] / f"{written[key]:05d}.parquet").open("wb") as target:
                pq.write_table(table, target)
            written[key] += 1
        held.clear()

    for collection_id, batch_id, enrolment in scan:
        key = (collection_id, batch_id)
        if key in folders:
            held[key].append(enrolment)
            rows += 1
            if rows % rows_in_memory == 0:
                spill()
    spill()


def merged(folder: Path) -> Iterator[Enrolment]:
    """Yield the enrolments of a folder's runs in the order of their user ids."""
    return heapq.merge(*(_read(path) for path in sorted(folder.glob("*.parquet"), key=str)), key=attrgetter("user_id"))


def _read(path: Path) -> Iterator[Enrolment]:
    with path.open("rb") as source:
        for rows in pq.ParquetFile(source).iter_batches(ROWS_READ_AHEAD):
            for row in rows.to_pylist():
                yield Enrolment(**row)
