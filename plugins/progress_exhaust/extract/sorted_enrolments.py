"""The enrolments of a batch from a scan, in the order of their user ids: sorted on local disk, in bounded memory."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pyarrow as pa

from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.extract.scan_files import BatchRows
from progress_exhaust.extract.schemas import ENROLMENT
from progress_exhaust.hooks.cassandra.models import Enrolment
from progress_exhaust.stages.scratch import scratch_folder

BYTES_PER_BUCKET = 16 * 2**20  # in memory; to sort them takes about three times as much
SAMPLES_PER_BUCKET = 100
ROWS_AT_ONCE = 5_000  # as Python objects


def sort_enrolments(rows: BatchRows, stack: ExitStack, *, bytes_per_bucket: int = BYTES_PER_BUCKET) -> Iterator[Enrolment]:
    """Yield the enrolments in the order of their user ids.

    :param stack: its end deletes the copy on local disk
    """
    first_ids = _cut(rows, bytes_per_bucket)
    with scratch_folder(stack) as scratch:
        buckets = ScanBuckets(scratch, first_ids, ENROLMENT)
        buckets.fill(rows.tables())
    for number in range(len(first_ids)):
        for part in buckets.rows_of_chunk(number).sort_by("user_id").to_batches(max_chunksize=ROWS_AT_ONCE):
            yield from map(Enrolment._make, zip(*part.to_pydict().values(), strict=True))


def _cut(rows: BatchRows, bytes_per_bucket: int) -> list[str]:
    """Return the first user id of each bucket, so that buckets have about the same size. The first one is empty.

    The sample is random, because each file is sorted: no bucket is much larger than others, whatever the order of the tokens.
    """
    buckets = -(-rows.size.bytes // bytes_per_bucket) or 1
    if buckets == 1:
        return [""]
    step = max(1, rows.size.rows // (buckets * SAMPLES_PER_BUCKET))
    sample: list[str] = []
    numbers = np.random.default_rng(0)
    for table in rows.tables(columns=[0]):
        sample += table["user_id"].filter(pa.array(numbers.random(len(table)) < 1 / step)).to_pylist()
    sample.sort()
    per_bucket = max(1, len(sample) // buckets)
    return ["", *sample[per_bucket::per_bucket]]
