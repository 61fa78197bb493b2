"""From a page of enrolled learners to a part: what one process of the extract stage does, again and again."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from progress_exhaust.operators.site_operator import Site

if TYPE_CHECKING:
    import pyarrow as pa

    from progress_exhaust.extract.scan_buckets import ScanBuckets
    from progress_exhaust.hooks.cassandra.models import Table
    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
    from progress_exhaust.report.eligibility import Eligibility
    from progress_exhaust.report.request import Batch

MakePart = Callable[[int, "pa.Table"], "tuple[pa.Table, Counter[str]]"]


@contextmanager
def part_maker(
    site: Site,
    batch: "Batch",
    eligibility: "Eligibility",
    user_fields: tuple[str, ...],
    nested_ids: list[str],
    buckets: "Mapping[str, ScanBuckets]",
    tables: "LearnerTablesHook | None",
) -> Iterator[MakePart]:
    """Yield what makes a part of a page's number and its enrolled learners.

    buckets: the rows of the tables that were scanned; those of the others are read by partitions
    tables: those that are open already, where this is no process of its own
    """
    from progress_exhaust.extract.facts_chunks import FactSources, make_facts_chunk
    from progress_exhaust.extract.schemas import SCHEMA_OF, rows_to_table
    from progress_exhaust.hooks.cassandra.models import Table
    from progress_exhaust.report.eligibility import ORG_FIELDS

    with nullcontext(tables) if tables else site.learner_tables() as tables, site.user_cache() as cache:
        readers = {
            Table.AGGREGATES: lambda ids: tables.nested_progress(ids, nested_ids, batch.batch_id),
            Table.ATTEMPTS: lambda ids: tables.attempts(ids, batch.collection_id, batch.batch_id),
        }

        def rows(table: "Table", number: int, ids: Sequence[str]) -> "pa.Table":
            if table in buckets:
                return buckets[table].rows_of_chunk(number)
            return rows_to_table(readers[table](ids), SCHEMA_OF[table])

        def make(number: int, enrolled: "pa.Table") -> "tuple[pa.Table, Counter[str]]":
            sources = FactSources(
                users=lambda ids: cache.users(ids, (*user_fields, *ORG_FIELDS)),
                nested=partial(rows, Table.AGGREGATES, number),
                attempts=partial(rows, Table.ATTEMPTS, number),
            )
            return make_facts_chunk(enrolled, eligibility, user_fields, sources)

        yield make


def part_of_page(make: MakePart, page: tuple[int, bytes]) -> bytes:
    """Return a page's part, both as Parquet."""
    from progress_exhaust.extract.chunk_files import from_parquet, to_parquet

    number, enrolled = page
    return to_parquet(*make(number, from_parquet(enrolled)))
