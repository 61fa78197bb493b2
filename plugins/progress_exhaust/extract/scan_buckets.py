"""The rows of a scan in buckets on local disk, by ranges of user ids: the rows of a bucket fit in memory, all rows do not."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


class ScanBuckets:
    """The rows of one table, by chunk of learners.

    :param folder: an empty local folder
    :param first_ids: the first user id of each chunk, ascending
    :param schema: of the rows; the first column is the user id
    """

    def __init__(self, folder: Path, first_ids: Sequence[str], schema: pa.Schema) -> None:
        self._folder = folder
        self._first_ids = first_ids
        self._schema = schema

    def fill(self, runs: Iterable[pa.Table]) -> None:
        """Put each row into the bucket of its learner's chunk. Each run is sorted by user id."""
        for run in runs:
            ids = run["user_id"]
            starts = [bisect_left(ids, first_id, key=lambda user_id: user_id.as_py()) for first_id in self._first_ids[1:]]
            for number, (start, end) in enumerate(pairwise([0, *starts, len(run)])):
                if start < end:
                    with (
                        self._bucket(number).open("ab") as target,
                        pa.ipc.new_stream(target, self._schema, options=COMPRESSED) as stream,
                    ):
                        stream.write_table(run.slice(start, end - start))

    def rows_of_chunk(self, number: int) -> pa.Table:
        """Return the rows of a chunk's learners, and of others whose ids are between theirs."""
        bucket = self._bucket(number)
        tables = []
        if bucket.exists():
            with bucket.open("rb") as source:
                while source.peek(1):  # one stream for each run
                    tables.append(pa.ipc.open_stream(source).read_all())
        return pa.concat_tables(tables) if tables else self._schema.empty_table()

    def _bucket(self, number: int) -> Path:
        return self._folder / f"{number:05d}.arrows"
