"""Cassandra: enrolments, nested progress, attempts, course batches and collection trees.

No query asks for one partition alone, and none brings a learner of another batch here: `IN` over partitions that the
same nodes own, or ranges of the ring that the server filters; a few queries in flight, and fewer bytes decoded than sent.
"""

import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from airflow.providers.apache.cassandra.hooks.cassandra import CassandraHook
from cassandra import (
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, ResponseFuture, ResultSet, Session
from cassandra.connection import ConnectionException
from cassandra.cqltypes import BytesType, UTF8Type
from cassandra.policies import ConstantSpeculativeExecutionPolicy, DCAwareRoundRobinPolicy, RetryPolicy, TokenAwarePolicy
from cassandra.protocol import OverloadedErrorMessage, ProtocolHandler, ResultMessage
from cassandra.query import BoundStatement, PreparedStatement, tuple_factory

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.report.learners import BatchKey, Enrolment, completed_count
from progress_exhaust.sql import learner_tables as cql

# The tables that are read for the learners of a batch.
ENROLMENTS, AGGREGATES, ATTEMPTS = "enrolments", "user_activity_agg", "assessment_aggregator"
Row = tuple[Any, ...]
TokenRange = tuple[int, int]  # start excluded, end included

KEYS_PER_FILTER = 1000  # values of an IN that the server filters by: a run's batches, in one scan
ROWS_PER_PAGE = 1000
# Of a scan: few enough for the server to answer within its timeout, and to hold. An enrolment is ten times as heavy.
PARTITIONS_PER_RANGE = {ENROLMENTS: 5_000, AGGREGATES: 20_000, ATTEMPTS: 20_000}
RANGES_WITHOUT_ESTIMATE = 64
FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1
COORDINATORS_TRIED = 3
# Not 5, unless the connection says so: the driver (3.30) loses the begin of a segment whose header comes in two pieces, takes the
# rest for a spoilt one, and drops the connection.
PROTOCOL_VERSION = 4
MOST_KEY_BYTES = 65_535  # of a partition key, its parts' lengths and ends included: Cassandra has none longer
BUSY = (OperationTimedOut, ReadTimeout, Unavailable, OverloadedErrorMessage, NoHostAvailable)
PAUSES_SECONDS = (0.1, 1, 5)  # before a read is sent once more to a cluster that was too busy to answer it
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


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
        self._consistency = consistency
        self._keys_per_read = keys_per_read
        self._in_flight = reads_in_flight
        self._timeout_seconds = timeout_seconds
        self._clusters: dict[str, _Cluster] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connections, as before a fork; a later read makes new ones."""
        for cluster in self._clusters.values():
            cluster.shutdown_cluster()
        self._clusters.clear()

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
            f"{cluster.where}: table {self._enrolments} is keyed by {', '.join(key)}; the report reads enrolments by batchid or "
            "by userid: set enrolments_table in the Variable to a table that has such a key"
        )

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

    # One scan for all batches of a run

    def token_ranges(self, table: str) -> list[TokenRange]:
        """Cut the ring into ranges, of which the server scans each within its timeout."""
        ranges = -(-self.partitions(table) // PARTITIONS_PER_RANGE[table]) or RANGES_WITHOUT_ESTIMATE
        width = (LAST_TOKEN - FIRST_TOKEN) // ranges + 1
        return [(start, min(start + width, LAST_TOKEN)) for start in range(FIRST_TOKEN, LAST_TOKEN, width)]

    def scan(self, table: str, ranges: Iterable[TokenRange], keys: Sequence[BatchKey]) -> Iterator[tuple[BatchKey, Row]]:
        """Yield the rows of these batches in these ranges, in no order: Enrolments, or what nested_progress or attempts yields.

        Nested progress is that of every collection that the batch's learners have any in, but the batch's own.
        """
        cluster = self._cluster(self._enrolments_connection if table == ENROLMENTS else self._courses_connection)
        statement = self._prepare(cluster, cql.IN_RANGE[table])
        ranges, context = list(ranges), "cb:" if table == AGGREGATES else ""
        of_batch: dict[str, list[BatchKey]] = defaultdict(list)
        for key in keys:
            of_batch[context + key[1]].append(key)
        for ids in _chunks(list(of_batch), KEYS_PER_FILTER):
            rows = cluster.rows((statement.bind((*tokens, ids)) for tokens in ranges), self._in_flight)
            for *row, batch_id, collection_id in _nested_progress(rows) if table == AGGREGATES else rows:
                for key in of_batch[batch_id]:
                    # An aggregate says which collection it is of: any but the batch's own may be nested in that.
                    if (key[0] == collection_id) != (table == AGGREGATES):
                        yield key, row

    def partitions(self, table: str) -> int:
        """Return how many partitions a table has, by the cluster's estimate; 0: not known."""
        if table == ENROLMENTS:
            return self._cluster(self._enrolments_connection).partitions(self._enrolments)
        return self._cluster(self._courses_connection).partitions(f"{self._courses}.{table}")

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
            parts = partition(user_id)
            if sum(len(part.encode()) + 3 for part in parts) <= MOST_KEY_BYTES:
                owners[cluster.owners(self._courses, _routing_key(parts))].append(user_id)
        for ids in owners.values():
            yield from _chunks(ids, self._keys_per_read)

    def _cluster(self, connection_id: str) -> "_Cluster":
        if connection_id not in self._clusters:
            self._clusters[connection_id] = _Cluster(connection_id, self._consistency, self._timeout_seconds)
        return self._clusters[connection_id]

    def _prepare(self, cluster: "_Cluster", query: str) -> PreparedStatement:
        return cluster.prepare(query.format(enrolments=self._enrolments, courses=self._courses, hierarchies=self._hierarchies))


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


class _AnyText(UTF8Type):  # type: ignore[misc]
    @staticmethod
    def deserialize(data: bytes, _protocol: int) -> str:
        return _SURROGATE.sub("\ufffd".encode(), data).decode(errors="replace")


def _any_text(kind: Any) -> Any:
    """Return the type that reads any bytes of a text column as text; other types as they are. Maps take none but UTF-8."""
    return _AnyText if issubclass(kind, UTF8Type) else kind


_Result = ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]


class _CountedResult(_Result):  # type: ignore[misc, valid-type]
    """Leaves an enrolment's map and lists as bytes: they are only counted, and objects of them cost four times as much."""

    _broken_text = False  # a value is no UTF-8

    def recv_results_rows(self, f: Any, protocol: int, user_types: Any, known: Any, *more: Any) -> None:
        """Decode the rows; where half a character is in them, which Cassandra takes for text, once more, with U+FFFD for it."""
        start = f.tell()
        try:
            super().recv_results_rows(f, protocol, user_types, known, *more)
        except DriverException:
            f.seek(start)
            self._broken_text = True
            known = known and [(*column, _any_text(kind)) for *column, kind in known]
            super().recv_results_rows(f, protocol, user_types, known, *more)

    def recv_results_metadata(self, *args: Any) -> None:
        super().recv_results_metadata(*args)
        self.column_metadata = [
            (*column, name, BytesType if name in cql.LEFT_AS_BYTES else _any_text(kind) if self._broken_text else kind)
            for *column, name, kind in self.column_metadata or ()
        ]


class _Decoding(ProtocolHandler):  # type: ignore[misc]
    message_types_by_opcode = ProtocolHandler.message_types_by_opcode | {ResultMessage.opcode: _CountedResult}


class _NextCoordinator(RetryPolicy):  # type: ignore[misc]
    """Asks other coordinators where one gets no answer from the replicas in time: every read of ours is idempotent."""

    def on_read_timeout(self, *_args: Any, retry_num: int, **_kwargs: Any) -> Any:
        return self._next(retry_num)

    def on_unavailable(self, *_args: Any, retry_num: int, **_kwargs: Any) -> Any:
        return self._next(retry_num)

    def _next(self, retry_num: int) -> Any:
        return (self.RETRY_NEXT_HOST if retry_num < COORDINATORS_TRIED - 1 else self.RETHROW), None


class _Cluster(CassandraHook):
    """One cluster's session."""

    def __init__(self, connection_id: str, consistency: str, timeout_seconds: float) -> None:
        connection = self.get_connection(connection_id)
        self.where = f"Cassandra at {connection.host}:{connection.port or 9042} (connection {connection_id})"
        self._consistency = consistency
        self._prepared: dict[str, PreparedStatement] = {}
        with self._errors():
            super().__init__(connection_id)
            self.cluster = self._with_profile(self.cluster, connection.extra_dejson, consistency, timeout_seconds)
            try:
                self._session: Session = self.get_conn()
            except BaseException:
                self.shutdown_cluster()
                raise
        self._session.default_fetch_size = ROWS_PER_PAGE
        self._session.client_protocol_handler = _Decoding

    @staticmethod
    def _with_profile(made: Cluster, extra: Mapping[str, Any], consistency: str, timeout_seconds: float) -> Cluster:
        """Return the hook's cluster again, with an execution profile: only that can read speculatively."""
        made.shutdown()
        reads = ExecutionProfile(
            load_balancing_policy=made.load_balancing_policy,
            retry_policy=_NextCoordinator(),
            consistency_level=ConsistencyLevel.name_to_value[consistency],
            request_timeout=timeout_seconds,
            row_factory=tuple_factory,
            speculative_execution_policy=ConstantSpeculativeExecutionPolicy(timeout_seconds / 4, 1),
        )
        return Cluster(
            made.contact_points,
            port=made.port,
            auth_provider=made.auth_provider,
            ssl_options=made.ssl_options,
            cql_version=made.cql_version,
            execution_profiles={EXEC_PROFILE_DEFAULT: reads},
            # The driver's own 2 s for what it reads of the schema are too few for a slow way, or a cluster of many tables.
            control_connection_timeout=timeout_seconds,
            protocol_version=extra.get("protocol_version", PROTOCOL_VERSION),
        )

    @staticmethod
    def get_lb_policy(policy_name: str, policy_args: Mapping[str, Any]) -> Any:
        """Go to a node of this data centre that owns the data, unless the connection names another policy."""
        if policy_name == "undefined":
            return TokenAwarePolicy(DCAwareRoundRobinPolicy())
        return CassandraHook.get_lb_policy(policy_name, dict(policy_args))

    def check(self, table: str, columns: Mapping[str, str]) -> None:
        """Raise SetupError, with what mends it, where the table or a column is missing, or of a type that cannot be read."""
        keyspace, name = table.split(".")
        keyspaces = self.cluster.metadata.keyspaces
        if keyspace not in keyspaces or name not in keyspaces[keyspace].tables:
            raise SetupError(
                f"{self.where} has no table {table}; name the right one in the Variable progress_exhaust, or run: "
                f"CREATE TABLE {table} with {', '.join(f'{column} {kind}' for column, kind in columns.items())}"
            )
        there = keyspaces[keyspace].tables[name].columns
        missing = [column for column in columns if column not in there]
        if missing:
            statements = " ".join(f"ALTER TABLE {table} ADD {column} {columns[column]};" for column in missing)
            raise SetupError(f"{self.where}: table {table} lacks {', '.join(missing)}; run: {statements}")
        unreadable = [
            f"{column} as {there[column].cql_type} instead of {kind}"
            for column, kind in columns.items()
            if not re.fullmatch(f"(frozen<)?({cql.READABLE.get(column) or cql.READABLE[kind]})>?", there[column].cql_type)
        ]
        if unreadable:
            raise SetupError(
                f"{self.where}: table {table} has what the report cannot read: {', '.join(unreadable)}; name a table with "
                "columns of these types in the Variable progress_exhaust"
            )

    def partition_key(self, table: str) -> list[str]:
        keyspace, name = table.split(".")
        return [column.name for column in self.cluster.metadata.keyspaces[keyspace].tables[name].partition_key]

    def owners(self, keyspace: str, routing_key: bytes) -> tuple[str, ...]:
        """Return the addresses of the nodes that own a partition; none known, as on one node: an empty tuple."""
        metadata = self.cluster.metadata
        if len(metadata.all_hosts()) == 1:
            return ()
        return tuple(sorted(host.address for host in metadata.get_replicas(keyspace, routing_key)))

    def partitions(self, table: str) -> int:
        """Return a table's partitions by the estimate of the node that answers, which knows its own ranges."""
        size = self.prepare(cql.TABLE_SIZE)
        own = sum(count for (count,) in self.rows([size.bind(table.split("."))], in_flight=1))
        return own * len(self.cluster.metadata.all_hosts())

    def prepare(self, query: str) -> PreparedStatement:
        if query not in self._prepared:
            with self._errors():
                statement = self._session.prepare(query)
            statement.is_idempotent = True
            self._prepared[query] = statement
        return self._prepared[query]

    def rows(self, statements: Iterable[BoundStatement], in_flight: int) -> Iterator[Row]:
        """Yield the rows of all the reads, in their order, with some of them under way at a time."""
        waiting: deque[Any] = deque()
        with self._errors():
            for statement in statements:
                waiting.append((statement, self._session.execute_async(statement)))
                if len(waiting) >= in_flight:
                    yield from self._pages(*waiting.popleft())
            while waiting:
                yield from self._pages(*waiting.popleft())

    def _pages(self, statement: BoundStatement, future: ResponseFuture) -> Iterator[Row]:
        """Yield the rows of one read, with its next page under way while the last one is used.

        Each page is a request of its own. The driver's way, to go on with the same one, takes a late answer of a slow
        coordinator for the next page, and gives that one no timeout.
        """
        state = None
        while True:
            page = self._patiently(statement, state, future)
            state = page.paging_state
            if state is None:
                yield from page.current_rows
                return
            future = self._session.execute_async(statement, paging_state=state)
            yield from page.current_rows

    def _patiently(self, statement: BoundStatement, state: bytes | None, future: ResponseFuture) -> ResultSet:
        """Return one page, asked for again while the cluster is too busy to answer."""
        for pause in PAUSES_SECONDS:
            try:
                return future.result()
            except BUSY:
                time.sleep(pause)
                future = self._session.execute_async(statement, paging_state=state)
        return future.result()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Unauthorized as error:
            raise SetupError(f"{self.where}: {error}; docs/grants/cassandra.cql has every right (docs/security.md)") from None
        except InvalidRequest as error:
            raise SetupError(f"{self.where}: {error}") from None
        except (DriverException, ConnectionException, NoHostAvailable, UnresolvableContactPoints) as error:
            raise SourceError(f"{self.where} does not answer at {self._consistency}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what a driver's error says of its nodes, without its wrapping."""
    nodes = getattr(error, "errors", None)
    if isinstance(nodes, dict) and nodes:
        return "; ".join(f"{node}: {_words(reason)}" for node, reason in nodes.items())
    if isinstance(error, NoHostAvailable):  # the driver knows of none that is up, and has asked none
        return "all connections to its nodes are closed"
    return f"{type(error).__name__}: {_words(error)}"


def _words(error: object) -> str:
    """Return an error's words; of one that only says that nothing came, the driver has none."""
    return "no answer in time" if isinstance(error, OperationTimedOut) and not error.errors else str(error)


def _nested_progress(rows: Iterable[Row]) -> Iterator[Row]:
    for user_id, collection_id, aggregates, agg, *more in rows:
        completed = completed_count(aggregates, agg)
        if completed is not None:
            yield user_id, collection_id, completed, *more


def _routing_key(partition: tuple[str, ...]) -> bytes:
    """Return a compound partition key as the cluster hashes it."""
    parts = [part.encode() for part in partition]
    return b"".join(len(part).to_bytes(2, "big") + part + b"\0" for part in parts)


def _chunks(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
