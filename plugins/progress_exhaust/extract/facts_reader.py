"""From an enrolled chunk to a facts chunk: what one process of the extract does again and again."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import pyarrow as pa

from progress_exhaust.extract.chunk_files import from_parquet, to_parquet
from progress_exhaust.extract.facts_chunks import FactSources, make_facts_chunk
from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.extract.schemas import AGGREGATES, ARCHIVED_SCORES, ATTEMPTS, rows_to_table
from progress_exhaust.extract.source_rows import nested_progress
from progress_exhaust.hooks.cassandra.models import BatchKey, Table
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.report.eligibility import ORG_FIELDS, Eligibility
from progress_exhaust.stages.site_setup import Site
from progress_exhaust.staging.manifests import ExtractInputs

# Takes the number of a chunk, and its enrolled learners; returns the facts chunk, and its counts.
FactsReader = Callable[[int, pa.Table], tuple[pa.Table, Counter[str]]]


@contextmanager
def open_facts_reader(
    site: Site,
    batch_key: BatchKey,
    eligibility: Eligibility,
    inputs: ExtractInputs,
    buckets: Mapping[Table, ScanBuckets],
    open_tables: LearnerTablesHook | None,
) -> Iterator[FactsReader]:
    """Connect to the sources, and yield what makes a facts chunk.

    :param buckets: the rows of the tables that were scanned. The other tables are read by partitions
    :param open_tables: the tables that are already connected, unless this is a process of its own
    """
    collection_id, batch_id = batch_key
    with nullcontext(open_tables) if open_tables else site.learner_tables() as tables, site.users() as source:

        def read_rows(table: Table, number: int, user_ids: Sequence[str]) -> pa.Table:
            if table in buckets:
                return buckets[table].rows_of_chunk(number)
            if table is Table.AGGREGATES:
                rows = tables.nested_progress(user_ids, inputs.nested_ids, batch_id)
                return nested_progress(rows_to_table(rows, AGGREGATES))
            return rows_to_table(tables.attempts(user_ids, collection_id, batch_id), ATTEMPTS)

        def read_archived_scores(user_ids: Sequence[str]) -> pa.Table:
            return rows_to_table(tables.archived_scores(user_ids, collection_id, batch_id), ARCHIVED_SCORES)

        def read_facts(number: int, enrolled: pa.Table) -> tuple[pa.Table, Counter[str]]:
            sources = FactSources(
                users=lambda ids: source.users(ids, (*inputs.user_fields, *ORG_FIELDS)),
                nested=partial(read_rows, Table.AGGREGATES, number),
                attempts=partial(read_rows, Table.ATTEMPTS, number),
                archived_scores=read_archived_scores,
            )
            return make_facts_chunk(enrolled, eligibility, inputs, sources)

        yield read_facts


def facts_of_chunk(read_facts: FactsReader, item: tuple[int, bytes]) -> bytes:
    """Return the facts chunk of an enrolled chunk. Both are Parquet; the item has the number of the chunk."""
    number, enrolled = item
    return to_parquet(*read_facts(number, from_parquet(enrolled)))
