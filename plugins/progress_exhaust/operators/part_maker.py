"""From a page of enrolled learners to a part: what one process of the extract stage does, again and again."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from progress_exhaust.operators.site_operator import Site

if TYPE_CHECKING:
    import pyarrow as pa

    from progress_exhaust.hooks.learner_tables import LearnerTablesHook
    from progress_exhaust.report.learners import Rules
    from progress_exhaust.report.request import Batch
    from progress_exhaust.report.scan_buckets import ScanBuckets

MakePart = Callable[[int, "pa.Table"], "tuple[pa.Table, Counter[str]]"]


@contextmanager
def part_maker(
    site: Site,
    batch: "Batch",
    rules: "Rules",
    nested_ids: list[str],
    buckets: "Mapping[str, ScanBuckets]",
    tables: "LearnerTablesHook | None",
) -> Iterator[MakePart]:
    """Yield what makes a part of a page's number and its enrolled learners.

    buckets: the rows of the tables that were scanned; those of the others are read by partitions
    tables: those that are open already, where this is no process of its own
    """
    from progress_exhaust.hooks.learner_tables import AGGREGATES, ATTEMPTS
    from progress_exhaust.report import learners

    with nullcontext(tables) if tables else site.learner_tables() as tables, site.user_cache() as cache:
        readers = {
            AGGREGATES: lambda ids: tables.nested_progress(ids, nested_ids, batch.batch_id),
            ATTEMPTS: lambda ids: tables.attempts(ids, batch.collection_id, batch.batch_id),
        }

        def rows(table: str, number: int, ids: Sequence[str]) -> "pa.Table":
            if table in buckets:
                return buckets[table].page(number)
            return learners.table_of(readers[table](ids), learners.ROWS_OF[table])

        def make(number: int, enrolled: "pa.Table") -> "tuple[pa.Table, Counter[str]]":
            sources = learners.Sources(
                users=lambda ids: cache.users(ids, (*rules.user_fields, *learners.ORG_FIELDS)),
                nested=partial(rows, AGGREGATES, number),
                attempts=partial(rows, ATTEMPTS, number),
            )
            return learners.make_part(enrolled, rules, sources)

        yield make


def part_of_page(make: MakePart, page: tuple[int, bytes]) -> bytes:
    """Return a page's part, both as Parquet."""
    from progress_exhaust.report.learners import from_parquet, to_parquet

    number, enrolled = page
    return to_parquet(*make(number, from_parquet(enrolled)))
