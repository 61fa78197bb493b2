"""Scan a table in several processes, and write the rows of each batch as sorted runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing

import pyarrow as pa

from progress_exhaust.extract.paths import AnyPath
from progress_exhaust.extract.schemas import SCANNED, rows_to_table
from progress_exhaust.extract.sorted_runs import write_runs
from progress_exhaust.extract.source_rows import split_by_batch
from progress_exhaust.hooks.cassandra.models import BatchKey, Table, TokenRange
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.process_pool import run_in_processes
from progress_exhaust.stages.progress import Progress

Share = tuple[float, float]  # the part of a stage that some work is: its start and end, from 0 to 1


def scan_table(
    batch_context: BatchContext, tables: LearnerTablesHook, table: Table, folders: Mapping[BatchKey, AnyPath], share: Share
) -> Counter[BatchKey]:
    """Write the rows of these batches into their folders; return how many each batch has."""
    site = batch_context.site
    ranges = tables.token_ranges(table)
    tables.close()  # each process opens its own connections
    found = run_in_processes(
        scan_range,
        ((table, tuple(folders), tokens) for tokens in ranges),
        open_resources=site.learner_tables,
        processes=min(site.processes, len(ranges)),
        connection_ids=site.settings.cassandra_connections,
    )
    progress = Progress(batch_context, f"ranges of {table} scanned", len(ranges), share=share)
    with closing(found):
        return write_runs((rows for of_range in progress.track(found) for rows in of_range), folders)


# In a process


def scan_range(tables: LearnerTablesHook, item: tuple[Table, Sequence[BatchKey], TokenRange]) -> list[tuple[BatchKey, pa.Table]]:
    """Return the rows of each batch in one range of the ring."""
    table, keys, tokens = item
    rows = tables.scan(table, [tokens], sorted({batch_id for _, batch_id in keys}))
    return split_by_batch(table, rows_to_table(rows, SCANNED[table]), keys)
