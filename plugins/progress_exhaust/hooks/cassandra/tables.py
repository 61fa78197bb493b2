"""Read the tables of the report: enrolments, nested progress, attempts, course batches and collection trees.

No query asks for a single partition. A query either names many partitions that the same nodes own (`IN`), or a range of the
ring that the server filters. Only a few queries are in flight at a time. A server may refuse to filter: then the rows of other
batches come too, and are skipped here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from cassandra.query import BoundStatement

from progress_exhaust import compat
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.course_tables import CourseTables
from progress_exhaust.hooks.cassandra.decoding import decode_archived_scores
from progress_exhaust.hooks.cassandra.filtering import filtered_rows, streamed_rows
from progress_exhaust.hooks.cassandra.models import (
    MAX_KEY_BYTES,
    BatchKey,
    Enrolment,
    Row,
    Table,
    TableSize,
    TokenRange,
    context_id,
)
from progress_exhaust.hooks.cassandra.optional_columns import Select
from progress_exhaust.hooks.cassandra.refusals import Query
from progress_exhaust.hooks.cassandra.shapes import COLUMNS, SHAPES, KeyedBy, Shape, is_in_descending_order, shape_of
from progress_exhaust.hooks.cassandra.table_checks import check_columns, describe_missing_columns, existing_table
from progress_exhaust.hooks.cassandra.table_connections import KEYS_PER_FILTER, cut, single_query
from progress_exhaust.hooks.cassandra.token_ranges import cut_ring
from progress_exhaust.sql import learner_tables as cql

NOT_FILLED = (
    "is a copy that Sunbird Spark does not fill: enrolments are old or missing. Set enrolments_table in the Variable "
    "progress_exhaust to user_enrolments of the same keyspace"
)


class LearnerTablesHook(CourseTables):
    """Every table that the report is made from. The parameters are those of TableConnections."""

    # Enrolments

    def enrolments_of_batch(self, collection_id: str, batch_id: str) -> Iterator[Enrolment]:
        """Return a batch's enrolments in the order of their user ids, from a table keyed by batch."""
        cluster = self._cluster(self._enrolments_connection)
        if is_in_descending_order(cluster.find_table(self._enrolments)):
            select = self._select(cluster, cql.ENROLMENTS_IN_ASCENDING_ORDER, self._enrolments)
        else:
            select = self._select(cluster, cql.ENROLMENTS_OF_BATCH, self._enrolments)
        query = Query(lambda _keys: select.bind((batch_id, collection_id)))
        subject = f"table {self._enrolments}, batch {batch_id}"
        return map(Enrolment._make, select.complete(cluster.rows([query], in_flight=1, subject=subject)))

    def indexed_enrolments(self, keys: Sequence[BatchKey]) -> Iterator[Row]:
        """Return the enrolments of these batches, in no order, by the index on the course: rows of `extract.schemas.SCANNED`.

        If the server does not filter, the rows of other batches of the same courses come, too.
        """
        cluster = self._cluster(self._enrolments_connection)

        def read(select: Select, values: Iterable[tuple[str, ...]]) -> Iterator[Row]:
            queries = (single_query(select, some) for some in values)
            return select.complete(cluster.rows(queries, self._in_flight, f"table {self._enrolments}, by its index"))

        def filtered() -> Iterator[Row]:
            return read(self._select(cluster, cql.INDEXED_ENROLMENTS, self._enrolments), keys)

        def unfiltered() -> Iterator[Row]:
            courses = dict.fromkeys(collection_id for collection_id, _ in keys)
            select = self._select(cluster, cql.ENROLMENTS_OF_COURSE, self._enrolments)
            return read(select, ((collection_id,) for collection_id in courses))

        return streamed_rows(cluster, self._enrolments, filtered, unfiltered)

    def check_copy_is_filled(self) -> None:
        """Raise SetupError if the enrolments are read from the copy by batch of Sunbird Spark. Call it if a batch has none.

        The copy may have rows of other batches, from before the move to Sunbird Spark.
        """
        cluster, keyspace = self._cluster(self._enrolments_connection), self._enrolments.partition(".")[0]
        if self._reads_copy_of_spark() and cluster.find_table(f"{keyspace}.user_enrolments"):
            raise SetupError(f"{cluster.name}: table {self._enrolments} {NOT_FILLED}")

    def _reads_copy_of_spark(self) -> bool:
        """Return whether the enrolments are keyed by batch, and the attempts, too. Sunbird Ed has no such attempts."""
        return all(self._is_keyed_by_batch(table) for table in (Table.ENROLMENTS, Table.ATTEMPTS))

    def _is_keyed_by_batch(self, table: Table) -> bool:
        found = self._cluster_of(table).find_table(self._name_of(table))
        return bool(found) and any(shape.fits(found) for shape in SHAPES[table] if shape.keyed_by is KeyedBy.BATCH)

    def count_enrolments(self, keys: Iterable[BatchKey]) -> int:
        """Return how many enrolments these batches have, active or not, in a table keyed by batch."""
        cluster = self._cluster(self._enrolments_connection)
        statement = self._prepare(cluster, cql.COUNT_ENROLMENTS)
        queries = (single_query(statement, (batch_id, collection_id)) for collection_id, batch_id in keys)
        return sum(count for (count,) in cluster.rows(queries, self._in_flight, f"table {self._enrolments}"))

    def is_enrolled(self, user_id: str, collection_id: str, batch_id: str) -> bool:
        """Tell whether a learner has an enrolment in a batch, active or not, in either kind of table."""
        statement = self._prepare(cluster := self._cluster(self._enrolments_connection), cql.ENROLMENT)
        query = single_query(statement, (user_id, collection_id, batch_id))
        return any(cluster.rows([query], in_flight=1, subject=f"table {self._enrolments}, batch {batch_id}"))

    # By partitions: the facts of a chunk of learners

    def nested_progress(self, user_ids: Sequence[str], collection_ids: Sequence[str], batch_id: str) -> Iterator[Row]:
        """Return the nested progress of these learners in the batch: rows of `extract.schemas.AGGREGATES`."""
        return self._aggregates(cql.NESTED_PROGRESS, user_ids, collection_ids, batch_id)

    def archived_scores(self, user_ids: Sequence[str], collection_id: str, batch_id: str) -> Iterator[Row]:
        """Yield what the aggregates have of these learners' scores in the batch: rows of `extract.schemas.ARCHIVED_SCORES`."""
        return decode_archived_scores(self._aggregates(cql.ARCHIVED_SCORES, user_ids, [collection_id], batch_id))

    def _aggregates(self, query: str, user_ids: Sequence[str], collection_ids: Sequence[str], batch_id: str) -> Iterator[Row]:
        """Return the rows of these learners' aggregates in the batch."""
        cluster = self._cluster(self._courses_connection)
        table = f"{self._courses}.{Table.AGGREGATES}"
        select = self._select(cluster, query, table)

        def bind(collection_id: str, ids: Sequence[str]) -> BoundStatement:
            routing_key = compat.cassandra_routing_key(_aggregate_partition(collection_id, ids[0]))
            return compat.bind_with_routing_key(select.statement, (collection_id, ids, context_id(batch_id)), routing_key)

        queries = (
            Query(partial(bind, collection_id), ids)
            for collection_id in collection_ids
            for ids in self._group_by_owner(cluster, user_ids, partial(_aggregate_partition, collection_id))
        )
        return select.complete(cluster.rows(queries, self._in_flight, f"table {table}, batch {batch_id}"))

    def attempts(self, user_ids: Sequence[str], collection_id: str, batch_id: str) -> Iterator[Row]:
        """Return the attempts of these learners in the batch: rows of `extract.schemas.ATTEMPTS`.

        A table keyed by batch also returns those of learners whose ids are between theirs.
        """
        cluster = self._cluster(self._courses_connection)
        table = f"{self._courses}.{Table.ATTEMPTS}"
        shape = self.shape(Table.ATTEMPTS)
        if shape.keyed_by is KeyedBy.BATCH:
            stored = [user_id for user_id in user_ids if len(user_id.encode()) <= MAX_KEY_BYTES]
            select = self._select(cluster, cql.ATTEMPTS_IN_ORDER[shape.partition[0]], table)
            ranges = [single_query(select, (collection_id, batch_id, min(stored), max(stored)))] if stored else []
            return select.complete(cluster.rows(ranges, self._in_flight, f"table {table}, batch {batch_id}"))
        select = self._select(cluster, cql.ATTEMPTS, table)

        def bind(ids: Sequence[str]) -> BoundStatement:
            routing_key = compat.cassandra_routing_key((ids[0], collection_id))
            return compat.bind_with_routing_key(select.statement, (ids, collection_id, batch_id), routing_key)

        queries = (Query(bind, ids) for ids in self._group_by_owner(cluster, user_ids, lambda user_id: (user_id, collection_id)))
        return select.complete(cluster.rows(queries, self._in_flight, f"table {table}, batch {batch_id}"))

    # By scan: one table, for all batches of a run

    def token_ranges(self, table: Table) -> list[TokenRange]:
        """Cut the ring into ranges that the server can scan within its timeout."""
        return cut_ring(table, self.estimate_size(table))

    def scan(self, table: Table, ranges: Sequence[TokenRange], batch_ids: Sequence[str]) -> Iterator[Row]:
        """Return the rows of these batches in these ranges, in no order: rows of `extract.schemas.SCANNED`.

        If the server does not filter the enrolments, the rows of all batches come.
        """
        ids = [context_id(batch_id) for batch_id in batch_ids] if table is Table.AGGREGATES else list(batch_ids)
        name = self._name_of(table)
        cluster = self._cluster_of(table)
        cluster.check_partitioner()

        def read(select: Select, *values: Sequence[str]) -> Iterator[Row]:
            queries = (single_query(select, (*tokens, *values)) for tokens in ranges)
            return select.complete(cluster.rows(queries, self._in_flight, f"scan of table {name}"))

        def filtered() -> Iterator[Row]:
            select = self._select_for_scan(cluster, table)
            return chain.from_iterable(read(select, some) for some in cut(ids, KEYS_PER_FILTER))

        def unfiltered() -> Iterator[Row]:
            return read(self._select(cluster, cql.SCAN_ALL_ENROLMENTS, name))

        if table is Table.ENROLMENTS:
            return filtered_rows(cluster, name, filtered, unfiltered, is_small=False)
        return filtered()  # the caller can read the other tables by partitions instead

    def estimate_size(self, table: Table) -> TableSize:
        """Return how large a table is, by the cluster's estimate."""
        return self._cluster_of(table).estimate_size(self._name_of(table))

    def check_shapes(self, tables: Iterable[Table] = Table) -> None:
        """Raise SetupError if a table or column is missing, or if it cannot be read. Nothing is read from the tables."""
        for table in tables:
            self.shape(table)

    def shape(self, table: Table) -> Shape:
        """Return the shape of a table, by the cluster's metadata; raise SetupError if it cannot be read."""
        setting = "enrolments_table" if table is Table.ENROLMENTS else "courses_keyspace"
        cluster, name = self._cluster_of(table), self._name_of(table)
        found = existing_table(cluster, name, setting)
        shape = shape_of(table, found, f"{cluster.name}: table {name}", setting)
        check_columns(cluster, name, shape.columns(table), setting)
        return shape

    def warnings(self, tables: Sequence[Table] = tuple(Table)) -> list[str]:
        """Return a warning for each table that lacks optional columns, and one for enrolments that nothing fills."""
        warnings = [describe_missing_columns(self._cluster_of(table), self._name_of(table), COLUMNS[table]) for table in tables]
        if Table.ENROLMENTS in tables and self._reads_copy_of_spark():
            warnings.append(f"{self._cluster_of(Table.ENROLMENTS).name}: table {self._enrolments} {NOT_FILLED}")
        return [warning for warning in warnings if warning]

    def _group_by_owner(
        self, cluster: ClusterConnection, user_ids: Sequence[str], partition: Callable[[str], tuple[str, ...]]
    ) -> Iterator[list[str]]:
        """Group the users whose partitions have the same owners: each read then goes to a node that has all of them.

        :param partition: returns a user's partition key. A user whose key is too long has no partition and is skipped
        """
        users_of_owner: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for user_id in user_ids:
            key = partition(user_id)
            if sum(len(part.encode()) + 3 for part in key) <= MAX_KEY_BYTES:
                routing_key = compat.cassandra_routing_key(key)
                users_of_owner[cluster.owners(self._courses, routing_key)].append(user_id)
        yield from users_of_owner.values()  # the connection cuts them to the size of a query

    def _select_for_scan(self, cluster: ClusterConnection, table: Table) -> Select:
        if table is Table.ENROLMENTS:
            return self._select(cluster, cql.SCAN_ENROLMENTS, self._enrolments)
        if table is Table.AGGREGATES:
            return self._select(cluster, cql.SCAN_NESTED_PROGRESS, self._name_of(table))
        return self._select(cluster, cql.SCAN_ATTEMPTS, self._name_of(table))


def _aggregate_partition(collection_id: str, user_id: str) -> tuple[str, ...]:
    return ("Course", collection_id, user_id)
