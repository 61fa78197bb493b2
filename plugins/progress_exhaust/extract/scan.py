"""Scan a table in several processes, and write what is found as files for all batches of the run."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import pyarrow as pa
from airflow.sdk import ObjectStoragePath

from progress_exhaust.extract.scan_files import BatchSize, number_rows, write_scan_files
from progress_exhaust.extract.schemas import SCANNED, SCHEMA_OF, rows_to_tables
from progress_exhaust.extract.source_rows import split_by_batch
from progress_exhaust.hooks.cassandra.models import BatchKey, Table, TokenRange
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.process_pool import run_in_processes
from progress_exhaust.stages.progress import Progress

Share = tuple[float, float]  # the part of a stage that some work is: its start and end, from 0 to 1


def scan_table(
    batch_context: BatchContext,
    tables: LearnerTablesHook,
    table: Table,
    keys: Sequence[BatchKey],
    folder: ObjectStoragePath,
    share: Share,
) -> tuple[int, list[BatchSize]]:
    """Write the rows of these batches into the folder; return how many files there are, and the size of each batch."""
    site = batch_context.site
    ranges = tables.token_ranges(table)
    tables.close()  # each process opens its own connections
    found = run_in_processes(
        scan_range,
        ((table, tuple(keys), tokens) for tokens in ranges),
        open_resources=site.learner_tables,
        processes=min(site.processes, len(ranges)),
        connection_ids=site.settings.cassandra_connections,
    )
    progress = Progress(batch_context, f"ranges of {table} scanned", len(ranges), share=share)
    with closing(found):
        return write_scan_files(progress.track(found), folder, len(keys))


def read_by_index(
    batch_context: BatchContext, tables: LearnerTablesHook, keys: Sequence[BatchKey], folder: ObjectStoragePath
) -> tuple[int, list[BatchSize]]:
    """Write the enrolments of these batches into the folder, as `scan_table` does; few of them are in memory at a time."""
    progress = Progress(batch_context, "enrolments found by the index")

    def parts() -> Iterator[pa.Table]:
        for part in rows_to_tables(tables.indexed_enrolments(keys), SCANNED[Table.ENROLMENTS]):
            progress.add(len(part))
            yield number_rows(split_by_batch(Table.ENROLMENTS, part, keys), keys, SCHEMA_OF[Table.ENROLMENTS])

    return write_scan_files(parts(), folder, len(keys))


# In a process


def scan_range(tables: LearnerTablesHook, item: tuple[Table, Sequence[BatchKey], TokenRange]) -> pa.Table:
    """Return the rows of the batches in one range of the ring, with the column `batch_number`."""
    table, keys, tokens = item
    rows = tables.scan(table, [tokens], sorted({batch_id for _, batch_id in keys}))
    # A server that does not filter sends the rows of all batches: only a part of them is in memory.
    found = (of_batch for part in rows_to_tables(rows, SCANNED[table]) for of_batch in split_by_batch(table, part, keys))
    return number_rows(found, keys, SCHEMA_OF[table])
