"""Cassandra: enrolments, nested progress, attempts, course batches and collection trees.

No query asks for one partition alone, and none brings a learner of another batch here: `IN` over partitions that the
same nodes own, a few queries in flight.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from airflow.providers.apache.cassandra.hooks.cassandra import CassandraHook
from cassandra import ConsistencyLevel, DriverException, InvalidRequest, Unauthorized, UnresolvableContactPoints
from cassandra.cluster import NoHostAvailable, Session
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import BoundStatement, PreparedStatement, tuple_factory

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.report.learners import Enrolment, completed_count
from progress_exhaust.sql import learner_tables as cql

AGGREGATES, ATTEMPTS = "user_activity_agg", "assessment_aggregator"
Row = tuple[Any, ...]

COMPLETED = 2  # status of a content in contentstatus
KEYS_PER_FILTER = 100  # values of an IN that the server filters by
ROWS_PER_PAGE = 1000
PARTITIONS_PER_RANGE = 50_000  # of a scan: few enough for the server to answer within its timeout
RANGES_WITHOUT_ESTIMATE = 64
FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1


class LearnerTablesHook:
    """The tables of up to three clusters; each is connected to when it is first read.

    :param enrolments: connection, and `keyspace.table`, of the enrolments
    :param courses: connection and keyspace of course_batch and the two aggregate tables
    :param hierarchies: connection, and `keyspace.table`, of the collection trees
    :param consistency: name of the consistency level of every read
    :param keys_per_read: partitions that one query asks for
    :param reads_in_flight: queries under way at a time
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
        self._consistency = ConsistencyLevel.name_to_value[consistency]
        self._keys_per_read = keys_per_read
        self._in_flight = reads_in_flight
        self._timeout_seconds = timeout_seconds
        self._clusters: dict[str, _Cluster] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for cluster in self._clusters.values():
            cluster.shutdown_cluster()

    # Enrolments

    def enrolments_keyed_by_batch(self) -> bool:
        """Look up how the site's table is keyed: by batch (True) or by user (False)."""
        cluster = self._cluster(self._enrolments_connection)
        cluster.check(self._enrolments, cql.ENROLMENT_COLUMNS)
        key = cluster.partition_key(self._enrolments)
        if key == ["userid"]:
            return False
        if key[0] == "batchid":
            return True
        raise SetupError(
            f"Cassandra table {self._enrolments} is keyed by {', '.join(key)}; the report reads enrolments by batchid or "
            "by userid: set enrolments_table in the Variable to a table that has such a key"
        )

    def enrolments_of_batch(self, collection_id: str, batch_id: str) -> Iterator[Enrolment]:
        """Yield a batch's enrolments in the order of their user ids, from a table keyed by batch."""
        cluster = self._cluster(self._enrolments_connection)
        statement = self._prepare(cluster, cql.ENROLMENTS_OF_BATCH)
        for row in cluster.rows([statement.bind((batch_id, collection_id))], in_flight=1):
            yield _enrolment(row)

    def scan_enrolments(self, batch_ids: Sequence[str]) -> Iterator[tuple[str, str, Enrolment]]:
        """Yield the enrolments of all these batches, in no order, from one scan of a table keyed by user.

        Each comes with its collection id and its batch id.
        """
        cluster = self._cluster(self._enrolments_connection)
        statement = self._prepare(cluster, cql.ENROLMENTS_IN_RANGE)
        partitions = cluster.partitions(self._enrolments, self._consistency)
        for ids in _chunks(batch_ids, KEYS_PER_FILTER):
            queries = (statement.bind((start, end, ids)) for start, end in cluster.token_ranges(partitions))
            for *row, collection_id, batch_id in cluster.rows(queries, self._in_flight):
                yield collection_id, batch_id, _enrolment(row)

    # What belongs to a page of learners

    def nested_progress(self, user_ids: Sequence[str], collection_ids: Sequence[str], batch_id: str) -> Iterator[Row]:
        """Yield (user id, collection id, contents completed) of these learners in the batch."""
        cluster = self._cluster(self._courses_connection)
        statement = self._prepare(cluster, cql.NESTED_PROGRESS)
        queries = (
            _OwnedRead.of(statement, ("Course", collection_id, ids[0]), (collection_id, ids, f"cb:{batch_id}"))
            for collection_id in collection_ids
            for ids in self._owned_together(
                cluster, user_ids, lambda user_id, collection_id=collection_id: ("Course", collection_id, user_id)
            )
        )
        return _nested_progress(cluster.rows(queries, self._in_flight))

    def attempts(self, user_ids: Sequence[str], collection_id: str, batch_id: str) -> Iterator[Row]:
        """Yield the rows of learners.ATTEMPTS of these learners' attempts."""
        cluster = self._cluster(self._courses_connection)
        statement = self._prepare(cluster, cql.ATTEMPTS)
        queries = (
            _OwnedRead.of(statement, (ids[0], collection_id), (ids, collection_id, batch_id))
            for ids in self._owned_together(cluster, user_ids, lambda user_id: (user_id, collection_id))
        )
        return cluster.rows(queries, self._in_flight)

    def scan_nested_progress(self, collection_ids: Sequence[str], batch_id: str) -> Iterator[Row]:
        """Yield the same as nested_progress for all learners of the batch, from one scan of the table."""
        cluster = self._cluster(self._courses_connection)
        statement = self._prepare(cluster, cql.NESTED_PROGRESS_IN_RANGE)
        ranges = cluster.token_ranges(self.partitions(AGGREGATES))
        queries = (statement.bind((start, end, f"cb:{batch_id}")) for start, end in ranges)
        rows = cluster.rows(queries, self._in_flight)
        wanted = frozenset(collection_ids)
        return _nested_progress(row for row in rows if row[1] in wanted)

    def scan_attempts(self, collection_id: str, batch_id: str) -> Iterator[Row]:
        """Yield the same as attempts for all learners of the batch, from one scan of the table."""
        cluster = self._cluster(self._courses_connection)
        statement = self._prepare(cluster, cql.ATTEMPTS_IN_RANGE)
        ranges = cluster.token_ranges(self.partitions(ATTEMPTS))
        queries = (statement.bind((start, end, collection_id, batch_id)) for start, end in ranges)
        return cluster.rows(queries, self._in_flight)

    def partitions(self, table: str) -> int:
        """Return how many partitions a table of the courses keyspace has, by the cluster's estimate; 0: not known."""
        return self._cluster(self._courses_connection).partitions(f"{self._courses}.{table}", self._consistency)

    def check_courses(self) -> None:
        """Raise SetupError where a table or column of the courses keyspace is missing."""
        cluster = self._cluster(self._courses_connection)
        cluster.check(f"{self._courses}.user_activity_agg", cql.AGGREGATE_COLUMNS)
        cluster.check(f"{self._courses}.assessment_aggregator", cql.ATTEMPT_COLUMNS)

    # Batches and collections

    def batches(self, batch_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (collection id, batch id, batch name) of the batches that exist."""
        return self._batches(cql.BATCHES_BY_ID, batch_ids)

    def batches_of_collections(self, collection_ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield (collection id, batch id, batch name) of every batch of the collections."""
        return self._batches(cql.BATCHES_OF_COLLECTIONS, collection_ids)

    def hierarchy(self, collection_id: str) -> str | None:
        """Return a collection's tree as JSON text; None where the table has none."""
        cluster = self._cluster(self._hierarchies_connection)
        cluster.check(self._hierarchies, cql.HIERARCHY_COLUMNS)
        statement = self._prepare(cluster, cql.HIERARCHY)
        rows = list(cluster.rows([statement.bind((collection_id,))], in_flight=1))
        return rows[0][0] if rows else None

    def _batches(self, query: str, ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        if not ids:
            return
        cluster = self._cluster(self._courses_connection)
        cluster.check(f"{self._courses}.course_batch", cql.BATCH_COLUMNS)
        statement = self._prepare(cluster, query)
        queries = (statement.bind((chunk,)) for chunk in _chunks(ids, KEYS_PER_FILTER))
        for collection_id, batch_id, name in cluster.rows(queries, self._in_flight):
            yield collection_id, batch_id, name or ""

    def _owned_together(
        self, cluster: "_Cluster", user_ids: Sequence[str], partition: Callable[[str], tuple[str, ...]]
    ) -> Iterator[list[str]]:
        """Group the users whose partitions have the same owners, so that each read goes to a node that has them all."""
        owners: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for user_id in user_ids:
            owners[cluster.owners(self._courses, _routing_key(partition(user_id)))].append(user_id)
        for ids in owners.values():
            yield from _chunks(ids, self._keys_per_read)

    def _cluster(self, connection_id: str) -> "_Cluster":
        if connection_id not in self._clusters:
            self._clusters[connection_id] = _Cluster(connection_id, self._timeout_seconds)
        return self._clusters[connection_id]

    def _prepare(self, cluster: "_Cluster", query: str) -> PreparedStatement:
        return cluster.prepare(
            query.format(enrolments=self._enrolments, courses=self._courses, hierarchies=self._hierarchies),
            self._consistency,
        )


class _OwnedRead(BoundStatement):  # type: ignore[misc]  # the driver has no types
    """A read over several partitions that goes to a node that owns the first, and thereby all of them.

    The driver itself finds no owner for an `IN`.
    """

    routing_key = b""

    @classmethod
    def of(cls, statement: PreparedStatement, partition: tuple[str, ...], values: Sequence[Any]) -> Self:
        read = cls(statement)
        read.bind(values)
        read.routing_key = _routing_key(partition)
        return read


class _Cluster(CassandraHook):
    """One cluster's session."""

    def __init__(self, connection_id: str, timeout_seconds: float) -> None:
        connection = self.get_connection(connection_id)
        self._where = f"Cassandra at {connection.host}:{connection.port or 9042} (connection {connection_id})"
        self._prepared: dict[str, PreparedStatement] = {}
        with self._errors():
            super().__init__(connection_id)
            try:
                self._session: Session = self.get_conn()
            except BaseException:
                self.shutdown_cluster()
                raise
        self._session.row_factory = tuple_factory
        self._session.default_timeout = timeout_seconds
        self._session.default_fetch_size = ROWS_PER_PAGE

    @staticmethod
    def get_lb_policy(policy_name: str, policy_args: Mapping[str, Any]) -> Any:
        """Go to a node of this data centre that owns the data, unless the connection names another policy."""
        if policy_name == "undefined":
            return TokenAwarePolicy(DCAwareRoundRobinPolicy())
        return CassandraHook.get_lb_policy(policy_name, dict(policy_args))

    def check(self, table: str, columns: Mapping[str, str]) -> None:
        """Raise SetupError, with the statement that mends it, where the table or a column is missing."""
        keyspace, name = table.split(".")
        keyspaces = self.cluster.metadata.keyspaces
        if keyspace not in keyspaces or name not in keyspaces[keyspace].tables:
            raise SetupError(
                f"{self._where} has no table {table}; name the right one in the Variable progress_exhaust, or run: "
                f"CREATE TABLE {table} with {', '.join(f'{column} {kind}' for column, kind in columns.items())}"
            )
        missing = [column for column in columns if column not in keyspaces[keyspace].tables[name].columns]
        if missing:
            statements = " ".join(f"ALTER TABLE {table} ADD {column} {columns[column]};" for column in missing)
            raise SetupError(f"{self._where}: table {table} lacks {', '.join(missing)}; run: {statements}")

    def partition_key(self, table: str) -> list[str]:
        keyspace, name = table.split(".")
        return [column.name for column in self.cluster.metadata.keyspaces[keyspace].tables[name].partition_key]

    def owners(self, keyspace: str, routing_key: bytes) -> tuple[str, ...]:
        """Return the addresses of the nodes that own a partition; none known, as on one node: an empty tuple."""
        metadata = self.cluster.metadata
        if len(metadata.all_hosts()) == 1:
            return ()
        return tuple(sorted(host.address for host in metadata.get_replicas(keyspace, routing_key)))

    def partitions(self, table: str, consistency: int) -> int:
        """Return a table's partitions by the estimate of the node that answers, which knows its own ranges."""
        size = self.prepare(cql.TABLE_SIZE, consistency)
        own = sum(count for (count,) in self.rows([size.bind(table.split("."))], in_flight=1))
        return own * len(self.cluster.metadata.all_hosts())

    def token_ranges(self, partitions: int) -> Iterator[tuple[int, int]]:
        """Cut the ring into ranges (start excluded, end included) that the server scans within its timeout."""
        ranges = -(-partitions // PARTITIONS_PER_RANGE) or RANGES_WITHOUT_ESTIMATE
        width = (LAST_TOKEN - FIRST_TOKEN) // ranges + 1
        for start in range(FIRST_TOKEN, LAST_TOKEN, width):
            yield start, min(start + width, LAST_TOKEN)

    def prepare(self, query: str, consistency: int) -> PreparedStatement:
        if query not in self._prepared:
            with self._errors():
                statement = self._session.prepare(query)
            statement.consistency_level = consistency
            statement.is_idempotent = True
            self._prepared[query] = statement
        return self._prepared[query]

    def rows(self, statements: Iterable[BoundStatement], in_flight: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of all the reads, in their order, with some of them under way at a time."""
        waiting: deque[Any] = deque()
        with self._errors():
            for statement in statements:
                waiting.append(self._session.execute_async(statement))
                if len(waiting) >= in_flight:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (InvalidRequest, Unauthorized) as error:
            raise SetupError(f"{self._where}: {error}") from None
        except (DriverException, NoHostAvailable, UnresolvableContactPoints) as error:
            raise SourceError(f"{self._where} does not answer: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what a driver's error says of its nodes, without its wrapping."""
    nodes = getattr(error, "errors", None)
    if isinstance(nodes, dict) and nodes:
        return "; ".join(f"{node}: {reason}" for node, reason in nodes.items())
    return f"{type(error).__name__}: {error}"


def _nested_progress(rows: Iterable[Row]) -> Iterator[Row]:
    for user_id, collection_id, aggregates, agg in rows:
        completed = completed_count(aggregates, agg)
        if completed is not None:
            yield user_id, collection_id, completed


def _enrolment(row: Sequence[Any]) -> Enrolment:
    user_id, active, enrolled_at, enrolled_text, completed_at, statuses, certificates, issued, certificate_status = row
    return Enrolment(
        user_id=user_id,
        active=active,
        enrolled_at=enrolled_at,
        enrolled_text=enrolled_text,
        completed_at=completed_at,
        completed_ids=[content_id for content_id, status in (statuses or {}).items() if status == COMPLETED],
        has_certificate=bool(certificates or issued),
        certificate_status=certificate_status,
    )


def _routing_key(partition: tuple[str, ...]) -> bytes:
    """Return a compound partition key as the cluster hashes it."""
    parts = [part.encode() for part in partition]
    return b"".join(len(part).to_bytes(2, "big") + part + b"\0" for part in parts)


def _chunks(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
