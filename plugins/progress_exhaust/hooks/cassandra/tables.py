"""Read the tables of the report: enrolments, nested progress, attempts, course batches and collection trees.

No query asks for a single partition, and none returns learners of other batches. A query either names many partitions that
the same nodes own (`IN`), or a range of the ring that the server filters. Only a few queries are in flight at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from cassandra.query import PreparedStatement

from progress_exhaust import compat
from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.decoding import decode_archived_scores, decode_nested_progress
from progress_exhaust.hooks.cassandra.models import BatchKey, Enrolment, Row, Table, TokenRange
from progress_exhaust.hooks.cassandra.table_checks import check_columns, is_keyed_by_batch
from progress_exhaust.hooks.cassandra.token_ranges import cut_ring
from progress_exhaust.sql import learner_tables as cql

KEYS_PER_FILTER = 1000  # values of an IN that the server filters by: the batches of a run, in one scan
MAX_KEY_BYTES = 65_535  # of a partition key with the lengths and ends of its parts: Cassandra has no longer key


class LearnerTablesHook:
    """The tables of up to three clusters. Each cluster is connected when it is first read.

    :param enrolments: connection and `keyspace.table` of the enrolments
    :param courses: connection and keyspace of course_batch, user_activity_agg and assessment_aggregator
    :param hierarchies: connection and `keyspace.table` of the collection trees
    :param consistency: name of the consistency level of every read
    :param keys_per_read: how many partitions one query names
    :param reads_in_flight: how many queries are sent before the first is answered
    :param timeout_seconds: how long one query may take
    """

    def __init__(
        self,
        *,
        enrolments: tuple[str, str],
        courses: tuple[str, str],
        hierarchies: tuple[str, str],
        consistency: str,
        keys_per_read: int,
        reads_in_flight: int,
        timeout_seconds: float,
    ) -> None:
        self._enrolments_connection, self._enrolments = enrolments
        self._courses_connection, self._courses = courses
        self._hierarchies_connection, self._hierarchies = hierarchies
        self._consistency = consistency
        self._keys_per_read = keys_per_read
        self._in_flight = reads_in_flight
        self._timeout_seconds = timeout_seconds
        self._clusters: dict[str, ClusterConnection] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, for example before a fork. A later read opens new ones."""
        for cluster in self._clusters.values():
            cluster.shutdown_cluster()
        self._clusters.clear()

    # Enrolments

    def enrolments_keyed_by_batch(self) -> bool:
        """Return whether the site's table of enrolments is keyed by batch (True) or by user (False)."""
        cluster = self._cluster(self._enrolments_connection)
        check_columns(cluster, self._enrolments, cql.ENROLMENT_COLUMNS)
        return is_keyed_by_batch(cluster, self._enrolments)

    def enrolments_of_batch(self, collection_id: str, batch_id: str) -> Iterator[Enrolment]:
        """Yield a batch's enrolments in the order of their user ids, from a table keyed by batch."""
        cluster = self._cluster(self._enrolments_connection)
        statement = self._prepare(cluster, cql.ENROLMENTS_OF_BATCH)
        for row in cluster.rows([statement.bind((batch_id, collection_id))], in_flight=1):
            yield Enrolment(*row)

    def count_enrolments(self, keys: Iterable[BatchKey]) -> int:
        """Return how many enrolments these batches have, active or not, in a table keyed by batch."""
        cluster = self._cluster(self._enrolments_connection)
        statement = self._prepare(cluster, cql.COUNT_ENROLMENTS)
        queries = (statement.bind((batch_id, collection_id)) for collection_id, batch_id in keys)
        return sum(count for (count,) in cluster.rows(queries, self._in_flight))

    # By partitions: the facts of a chunk of learners

    def nested_progress(self, user_ids: Sequence[str], collection_ids: Sequence[str], batch_id: str) -> Iterator[Row]:
        """Yield (user id, collection id, contents completed) of these learners in the batch."""
        return decode_nested_progress(self._aggregates(user_ids, collection_ids, batch_id))

    def archived_scores(self, user_ids: Sequence[str], collection_id: str, batch_id: str) -> Iterator[Row]:
        """Yield what the aggregates have of these learners' scores in the batch: rows of `extract.schemas.ARCHIVED_SCORES`."""
        return decode_archived_scores(self._aggregates(user_ids, [collection_id], batch_id))

    def _aggregates(self, user_ids: Sequence[str], collection_ids: Sequence[str], batch_id: str) -> Iterator[Row]:
        """Yield (user id, collection id, aggregates, agg) of these learners in the batch."""
        cluster = self._cluster(self._courses_connection)
        statement = self._prepare(cluster, cql.NESTED_PROGRESS)
        queries = (
            compat.bind_with_routing_key(
                statement,
                (collection_id, ids, f"cb:{batch_id}"),
                compat.cassandra_routing_key(_aggregate_partition(collection_id, ids[0])),
            )
            for collection_id in collection_ids
            for ids in self._group_by_owner(cluster, user_ids, partial(_aggregate_partition, collection_id))
        )
        return cluster.rows(queries, self._in_flight)

    def attempts(self, user_ids: Sequence[str], collection_id: str, batch_id: str) -> Iterator[Row]:
        """Yield the attempts of these learners in the batch: rows of `extract.schemas.ATTEMPTS`."""
        cluster = self._cluster(self._courses_connection)
        statement = self._prepare(cluster, cql.ATTEMPTS)
        queries = (
            compat.bind_with_routing_key(
                statement, (ids, collection_id, batch_id), compat.cassandra_routing_key((ids[0], collection_id))
            )
            for ids in self._group_by_owner(cluster, user_ids, lambda user_id: (user_id, collection_id))
        )
        return cluster.rows(queries, self._in_flight)

    # By scan: one table, for all batches of a run

    def token_ranges(self, table: Table) -> list[TokenRange]:
        """Cut the ring into ranges that the server can scan within its timeout."""
        return cut_ring(table, self.estimate_partitions(table))

    def scan(self, table: Table, ranges: Iterable[TokenRange], keys: Sequence[BatchKey]) -> Iterator[tuple[BatchKey, Row]]:
        """Yield the rows of these batches in these ranges, in no order.

        A row is an Enrolment, or what `nested_progress` or `attempts` yields. Nested progress is that of every collection
        in which the batch's learners have any, except the batch's own.
        """
        cluster, statement = self._scan_statement(table)
        is_aggregates = table is Table.AGGREGATES
        ranges, context = list(ranges), "cb:" if is_aggregates else ""
        keys_of_batch: dict[str, list[BatchKey]] = defaultdict(list)
        for key in keys:
            keys_of_batch[context + key[1]].append(key)
        for ids in _cut(list(keys_of_batch), KEYS_PER_FILTER):
            rows = cluster.rows((statement.bind((*tokens, ids)) for tokens in ranges), self._in_flight)
            for row in decode_nested_progress(rows) if is_aggregates else rows:
                batch_id, collection_id = row[-2:]
                for key in keys_of_batch[batch_id]:
                    # An aggregate belongs to one collection: any except the batch's own may be nested in that.
                    if (key[0] == collection_id) != is_aggregates:
                        yield key, row[:-2]

    def estimate_partitions(self, table: Table) -> int:
        """Return how many partitions a table has, by the cluster's estimate; 0 if not known."""
        if table is Table.ENROLMENTS:
            return self._cluster(self._enrolments_connection).estimate_partitions(self._enrolments)
        return self._cluster(self._courses_connection).estimate_partitions(f"{self._courses}.{table}")

    def check_courses(self) -> None:
        """Raise SetupError if a table or column of the courses keyspace is missing."""
        cluster = self._cluster(self._courses_connection)
        check_columns(cluster, f"{self._courses}.{Table.AGGREGATES}", cql.AGGREGATE_COLUMNS)
        check_columns(cluster, f"{self._courses}.{Table.ATTEMPTS}", cql.ATTEMPT_COLUMNS)

    # Batches and collections

    def batches(self, batch_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (collection id, batch id, batch name) of the batches that exist."""
        return self._batches(cql.BATCHES_BY_ID, batch_ids)

    def batches_of_collections(self, collection_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (collection id, batch id, batch name) of every batch of the collections."""
        return self._batches(cql.BATCHES_OF_COLLECTIONS, collection_ids)

    def hierarchy(self, collection_id: str) -> str | None:
        """Return a collection's tree as JSON text; None if the table does not have it."""
        cluster = self._cluster(self._hierarchies_connection)
        check_columns(cluster, self._hierarchies, cql.HIERARCHY_COLUMNS)
        statement = self._prepare(cluster, cql.HIERARCHY)
        rows = list(cluster.rows([statement.bind((collection_id,))], in_flight=1))
        return rows[0][0] if rows else None

    def _batches(self, query: str, ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        if not ids:
            return
        cluster = self._cluster(self._courses_connection)
        check_columns(cluster, f"{self._courses}.course_batch", cql.BATCH_COLUMNS)
        statement = self._prepare(cluster, query)
        queries = (statement.bind((some,)) for some in _cut(ids, KEYS_PER_FILTER))
        for collection_id, batch_id, name in cluster.rows(queries, self._in_flight):
            yield collection_id, batch_id, name or ""

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
        for ids in users_of_owner.values():
            yield from _cut(ids, self._keys_per_read)

    def _cluster(self, connection_id: str) -> ClusterConnection:
        if connection_id not in self._clusters:
            self._clusters[connection_id] = ClusterConnection(connection_id, self._consistency, self._timeout_seconds)
        return self._clusters[connection_id]

    def _scan_statement(self, table: Table) -> tuple[ClusterConnection, PreparedStatement]:
        if table is Table.ENROLMENTS:
            cluster = self._cluster(self._enrolments_connection)
            return cluster, self._prepare(cluster, cql.SCAN_ENROLMENTS)
        cluster = self._cluster(self._courses_connection)
        if table is Table.AGGREGATES:
            return cluster, self._prepare(cluster, cql.SCAN_NESTED_PROGRESS)
        return cluster, self._prepare(cluster, cql.SCAN_ATTEMPTS)

    def _prepare(self, cluster: ClusterConnection, query: str) -> PreparedStatement:
        return cluster.prepare(query.format(enrolments=self._enrolments, courses=self._courses, hierarchies=self._hierarchies))


def _aggregate_partition(collection_id: str, user_id: str) -> tuple[str, ...]:
    return ("Course", collection_id, user_id)


def _cut(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
