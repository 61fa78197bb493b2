"""Decide which of the tables with facts are scanned, and sort the rows of a scan into the chunks of the batch."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from progress_exhaust.errors import SourceError
from progress_exhaust.extract.read_strategy import should_scan
from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.extract.schemas import SCHEMA_OF
from progress_exhaust.extract.shared_scan import ScanDecision, count_scanned_rows, scan_once_per_run
from progress_exhaust.hooks.cassandra.driver_errors import QueryRefusedError
from progress_exhaust.hooks.cassandra.models import BatchKey, Table
from progress_exhaust.hooks.cassandra.shapes import KeyedBy
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.scratch import scratch_folder
from progress_exhaust.staging.manifests import ChunksManifest

LEARNERS_PER_RANGE = 7_500  # to scan a range takes about as long as to read the facts of so many learners


def scan_fact_tables(
    batch_context: BatchContext, tables: LearnerTablesHook, chunks: ChunksManifest, share_done: float, stack: ExitStack
) -> tuple[Mapping[Table, ScanBuckets], float]:
    """Scan the tables for which a scan is faster than reading partitions.

    Return their rows by chunk, and how much of the stage is done (0 to 1).

    :param share_done: how much is done before the scans
    :param stack: its end deletes the rows
    """
    enrolled, nested = chunks.counts["enrolled"], len(chunks.inputs.nested_ids)
    # The most partitions that one learner has in each table.
    partitions = {table: number for table, number in ((Table.AGGREGATES, nested), (Table.ATTEMPTS, 1)) if enrolled and number}
    if chunks.inputs.scores_from == "aggregates":
        partitions.pop(Table.ATTEMPTS, None)  # they are not read
    elif Table.ATTEMPTS in partitions and tables.shape(Table.ATTEMPTS).keyed_by is KeyedBy.BATCH:
        del partitions[Table.ATTEMPTS]
        batch_context.log.info("%s: in the order of the learners, because it is keyed by batch", Table.ATTEMPTS)
    weights = {table: len(tables.token_ranges(table)) * LEARNERS_PER_RANGE for table in partitions}
    remaining_weight = sum(weights.values()) + enrolled
    buckets = {}
    for table, per_learner in partitions.items():
        end = share_done + (1 - share_done) * weights[table] / remaining_weight
        remaining_weight -= weights[table]
        decide = partial(_decide, batch_context, tables, table, enrolled, per_learner)
        scan = scan_once_per_run(batch_context, tables, table, decide, share=(share_done, end))
        if scan.is_scanned:
            share_done = end
            with scratch_folder(stack) as scratch:
                buckets[table] = ScanBuckets(scratch, chunks.first_user_ids, SCHEMA_OF[table])
                buckets[table].fill(scan.rows.tables())
    return buckets, share_done


def _decide(
    batch_context: BatchContext,
    tables: LearnerTablesHook,
    table: Table,
    enrolled: int,
    partitions_per_learner: int,
    keys: Sequence[BatchKey],
) -> ScanDecision:
    """Decide whether to scan a table for these batches."""
    others = _count_learners(batch_context, tables, [key for key in keys if key != batch_context.batch.key])
    scan, reason = should_scan(
        table,
        wanted=partitions_per_learner * (enrolled + others),
        partitions=tables.estimate_size(table).partitions,
        setting=batch_context.site.settings.read_strategy,
    )
    return ScanDecision(scan, reason)


def _count_learners(batch_context: BatchContext, tables: LearnerTablesHook, keys: Sequence[BatchKey]) -> int:
    """Return about how many learners other batches of the run have; 0 if the count takes too long."""
    if tables.shape(Table.ENROLMENTS).keyed_by is not KeyedBy.BATCH:
        return count_scanned_rows(batch_context, Table.ENROLMENTS, keys)
    try:
        return tables.count_enrolments(keys)
    except (SourceError, QueryRefusedError) as error:
        batch_context.log.warning("The learners of the run's other batches are not counted: %s", error)
        return 0
