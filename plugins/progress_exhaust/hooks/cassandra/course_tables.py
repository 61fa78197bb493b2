"""Read the small tables: which batches exist, and the trees of the collections."""

from collections.abc import Iterator, Sequence

from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.filtering import filtered_rows
from progress_exhaust.hooks.cassandra.models import Row
from progress_exhaust.hooks.cassandra.refusals import Query
from progress_exhaust.hooks.cassandra.table_checks import check_columns
from progress_exhaust.hooks.cassandra.table_connections import KEYS_PER_FILTER, TableConnections, cut, single_query
from progress_exhaust.sql import learner_tables as cql


class CourseTables(TableConnections):
    """The tables of course batches and of collection trees."""

    def batches(self, batch_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (collection id, batch id, batch name) of the batches that exist."""
        if not batch_ids:
            return
        cluster, table = self._course_batch()

        def filtered() -> Iterator[Row]:
            statement = self._prepare(cluster, cql.BATCHES_BY_ID)
            queries = (single_query(statement, (some,)) for some in cut(batch_ids, KEYS_PER_FILTER))
            return cluster.rows(queries, self._in_flight, f"table {table}")

        def unfiltered() -> Iterator[Row]:
            return cluster.rows([single_query(self._prepare(cluster, cql.ALL_BATCHES), ())], 1, f"table {table}")

        wanted = set(batch_ids)
        for collection_id, batch_id, name in filtered_rows(cluster, table, filtered, unfiltered, is_small=True):
            if batch_id in wanted:
                yield collection_id, batch_id, name or ""

    def batches_of_collections(self, collection_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (collection id, batch id, batch name) of every batch of the collections."""
        if not collection_ids:
            return
        cluster, table = self._course_batch()
        statement = self._prepare(cluster, cql.BATCHES_OF_COLLECTIONS)
        query = Query(lambda ids: statement.bind((ids,)), collection_ids)
        for collection_id, batch_id, name in cluster.rows([query], self._in_flight, f"table {table}"):
            yield collection_id, batch_id, name or ""

    def hierarchy(self, collection_id: str) -> str | None:
        """Return a collection's tree as JSON text; None if the table does not have it."""
        cluster = self._cluster(self._hierarchies_connection)
        check_columns(cluster, self._hierarchies, cql.HIERARCHY_COLUMNS, "hierarchy_table")
        query = single_query(self._prepare(cluster, cql.HIERARCHY), (collection_id,))
        rows = list(cluster.rows([query], 1, f"table {self._hierarchies}, collection {collection_id}"))
        return rows[0][0] if rows else None

    def _course_batch(self) -> tuple[ClusterConnection, str]:
        """Return the cluster of course_batch, and the name of the table; raise SetupError if it lacks a column."""
        cluster, table = self._cluster(self._courses_connection), f"{self._courses}.course_batch"
        check_columns(cluster, table, cql.BATCH_COLUMNS, "courses_keyspace")
        return cluster, table
