"""The files of a scan: each has rows of all batches, those of a batch together and sorted by user id.

A scan returns rows in token order. Several ranges of the ring become one file: an Arrow file with one record batch for each
batch of the run that has rows there. A reader gets the rows of its own batch only. Both write and read in bounded memory.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from progress_exhaust.hooks.cassandra.models import BatchKey
from progress_exhaust.hooks.report_store import write_atomically

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

BYTES_PER_FILE = 16 * 2**20  # of rows in memory
BYTES_READ_AHEAD = 2**20  # the client of S3 reads 50 MiB ahead unless it is asked for less
COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
NUMBER = pa.field("batch_number", pa.int32())  # of scanned rows: the position of their batch in the scan
NUMBERS = b"batch_numbers"  # key of a file's metadata: the number of each record batch, as JSON


class BatchSize(NamedTuple):
    """How much a scan has found for a batch."""

    rows: int = 0
    bytes: int = 0  # in memory


@dataclass(frozen=True)
class BatchRows:
    """The rows of one batch in the files of a scan."""

    folder: "ObjectStoragePath"
    files: int
    number: int  # of the batch
    size: BatchSize

    def tables(self, columns: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of each file, sorted by user id.

        :param columns: the positions of the columns to read
        """
        options = pa.ipc.IpcReadOptions(included_fields=columns)
        for file in range(self.files if self.size.rows else 0):
            with (
                _path(self.folder, file).open("rb", buffering=BYTES_READ_AHEAD) as source,
                pa.ipc.open_file(source, options=options) as record_batches,
            ):
                numbers = json.loads(record_batches.schema.metadata[NUMBERS])
                if self.number in numbers:
                    rows = record_batches.get_batch(numbers.index(self.number))
                    yield pa.Table.from_batches([rows]).replace_schema_metadata()


def number_rows(found: Iterable[tuple[BatchKey, pa.Table]], keys: Sequence[BatchKey], schema: pa.Schema) -> pa.Table:
    """Return rows of several batches as one table with the column `batch_number`."""
    numbers = {key: number for number, key in enumerate(keys)}
    tables = [rows.append_column(NUMBER, pa.array(np.full(len(rows), numbers[key], np.int32))) for key, rows in found]
    return pa.concat_tables([schema.append(NUMBER).empty_table(), *tables])


def write_scan_files(
    scanned: Iterable[pa.Table], folder: "ObjectStoragePath", batches: int, *, bytes_per_file: int = BYTES_PER_FILE
) -> tuple[int, list[BatchSize]]:
    """Write the files `00000.arrow`, …; return how many there are, and the size of each batch.

    :param scanned: the rows in any order, with the column `batch_number`
    """
    sizes = [BatchSize()] * batches
    held: list[pa.Table] = []
    held_bytes = files = 0

    def write() -> None:
        nonlocal files
        rows_of_all = pa.concat_tables(held).combine_chunks()
        held.clear()
        by_number = _split(rows_of_all)
        for number, rows in by_number.items():
            sizes[number] = BatchSize(sizes[number].rows + len(rows), sizes[number].bytes + rows.nbytes)
        write_atomically(_path(folder, files), _to_file(by_number))
        files += 1

    for table in scanned:
        if len(table):
            held.append(table)
            held_bytes += table.nbytes
        if held_bytes >= bytes_per_file:
            write()
            held_bytes = 0
    if held:
        write()
    return files, sizes


def _split(rows: pa.Table) -> dict[int, pa.RecordBatch]:
    """Return the rows of each batch, sorted by user id, by the number of the batch."""
    order = [(NUMBER.name, "ascending"), ("user_id", "ascending")]
    [together] = rows.sort_by(order).combine_chunks().to_batches()
    numbers = together[NUMBER.name].to_numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    without_number = together.drop_columns([NUMBER.name])
    return {int(numbers[start]): without_number.slice(start, end - start) for start, end in pairwise([*starts, len(numbers)])}


def _to_file(by_number: dict[int, pa.RecordBatch]) -> bytes:
    target = io.BytesIO()
    first = next(iter(by_number.values()))
    schema = first.schema.with_metadata({NUMBERS: json.dumps(list(by_number))})
    with pa.ipc.new_file(target, schema, options=COMPRESSED) as file:
        for rows in by_number.values():
            file.write_batch(rows)
    return target.getvalue()


def _path(folder: "ObjectStoragePath", file: int) -> "ObjectStoragePath":
    return folder / f"{file:05d}.arrow"
