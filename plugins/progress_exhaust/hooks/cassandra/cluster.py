"""The connection to one cluster: its policies, prepared statements, paging and retries."""

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from airflow.providers.apache.cassandra.hooks.cassandra import CassandraHook
from cassandra import ConsistencyLevel, InvalidRequest, OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from cassandra.cluster import Cluster, NoHostAvailable, ResponseFuture, ResultSet, Session
from cassandra.metadata import TableMetadata
from cassandra.policies import ConstantSpeculativeExecutionPolicy, DCAwareRoundRobinPolicy, RetryPolicy, TokenAwarePolicy
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import BoundStatement, PreparedStatement, tuple_factory

from progress_exhaust import compat
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.decoding import make_protocol_handler
from progress_exhaust.hooks.cassandra.driver_errors import translate_driver_errors
from progress_exhaust.hooks.cassandra.models import Row, TableSize
from progress_exhaust.hooks.cassandra.refusals import Query, fewer_keys, fewer_rows, fewer_rows_for_one_read, is_guardrail
from progress_exhaust.sql import learner_tables as cql

COORDINATORS_TRIED = 3
PARTITIONER = "Murmur3Partitioner"
# Version 5 only if the connection says so. The driver (3.30) loses the start of a segment whose header arrives in two pieces.
# It then takes the rest for a damaged segment and closes the connection.
PROTOCOL_VERSION = 4
BUSY = (OperationTimedOut, ReadTimeout, Unavailable, OverloadedErrorMessage, NoHostAvailable)
_BEFORE_VERSION_4 = re.compile(r"[0-3]\.")
PAUSES_SECONDS = (0.1, 1, 5)  # each before a read is sent again to a cluster that was too busy to answer


class NextCoordinatorPolicy(RetryPolicy):  # type: ignore[misc]  # the driver has no types
    """Ask other coordinators if the replicas do not answer one in time: each of our reads is idempotent."""

    def on_read_timeout(self, *_args: Any, retry_num: int, **_kwargs: Any) -> Any:
        return self._try_next(retry_num)

    def on_unavailable(self, *_args: Any, retry_num: int, **_kwargs: Any) -> Any:
        return self._try_next(retry_num)

    def _try_next(self, retry_num: int) -> Any:
        return (self.RETRY_NEXT_HOST if retry_num < COORDINATORS_TRIED - 1 else self.RETHROW), None


class ClusterConnection(CassandraHook):
    """A session with the cluster of one Airflow connection.

    :param connection_id: the Airflow connection
    :param consistency: name of the consistency level of every read
    :param timeout_seconds: how long one query may take
    :param rows_per_page: size of a page, until the server refuses it
    :param keys_per_query: how many partitions one query names, until the server refuses it
    """

    def __init__(
        self, connection_id: str, consistency: str, timeout_seconds: float, rows_per_page: int, keys_per_query: int
    ) -> None:
        connection = self.get_connection(connection_id)
        self.name = f"Cassandra at {connection.host}:{connection.port or 9042} (connection {connection_id})"
        self._consistency = consistency
        self._prepared: dict[str, PreparedStatement] = {}
        self._rows_per_page = rows_per_page
        self._keys_per_query = keys_per_query
        self.tables_without_filter: set[str] = set()  # the server does not filter these
        self.cluster: Cluster
        with translate_driver_errors(self.name, consistency):
            super().__init__(connection_id)
            self.cluster = _with_read_profile(self.cluster, connection.extra_dejson, consistency, timeout_seconds)
            try:
                self._session: Session = self.get_conn()
            except BaseException:
                self.shutdown_cluster()
                raise
        self._session.client_protocol_handler = make_protocol_handler()
        # YugabyteDB says Murmur3, and hashes a key to a token in another way. Only it has the table system.partitions.
        self._computes_tokens = self.find_table("system.partitions") is None

    @staticmethod
    def get_lb_policy(policy_name: str, policy_args: Mapping[str, Any]) -> Any:
        """Prefer a node of this data centre that owns the data, unless the connection names another policy."""
        if policy_name == "undefined":
            return TokenAwarePolicy(DCAwareRoundRobinPolicy())
        return CassandraHook.get_lb_policy(policy_name, dict(policy_args))

    def find_table(self, table: str) -> TableMetadata | None:
        """Return what the cluster says about `keyspace.table`; None if it does not exist."""
        keyspace, name = table.split(".")
        known = self.cluster.metadata.keyspaces.get(keyspace)
        return known.tables.get(name) if known else None

    def owners(self, keyspace: str, routing_key: bytes) -> tuple[str, ...]:
        """Return the addresses of the nodes that own a partition; an empty tuple if it has one node, or if that is not known."""
        metadata = self.cluster.metadata
        if not self._computes_tokens or len(metadata.all_hosts()) == 1:
            return ()
        return tuple(sorted(host.address for host in metadata.get_replicas(keyspace, routing_key)))

    def estimate_size(self, table: str) -> TableSize:
        """Return about how large `keyspace.table` is.

        The node that answers knows only its own ranges: its estimate is multiplied by the number of nodes.
        """
        statement = self.prepare(cql.TABLE_SIZE)
        query = Query(lambda _keys: statement.bind(table.split(".")))
        own = list(self.rows([query], in_flight=1, subject="system.size_estimates"))
        nodes = len(self.cluster.metadata.all_hosts())
        return TableSize(nodes * sum(count for count, _ in own), nodes * sum(count * mean for count, mean in own))

    def check_partitioner(self) -> None:
        """Raise SetupError if the tokens of the ring are not those of a scan."""
        partitioner = str(self.cluster.metadata.partitioner).rpartition(".")[2]
        if partitioner != PARTITIONER:
            raise SetupError(
                f"{self.name} has the {partitioner}, and a scan needs the {PARTITIONER}. Set read_strategy to partitions, and "
                "enrolments_table to a table that is keyed by batch"
            )

    def prepare(self, query: str) -> PreparedStatement:
        """Return the prepared statement of a query."""
        if query not in self._prepared:
            with translate_driver_errors(self.name, self._consistency):
                statement = self._session.prepare(query)
            statement.is_idempotent = True
            self._prepared[query] = statement
        return self._prepared[query]

    def query(self, statement: str) -> list[Row]:
        """Return the rows of a short statement that cannot be prepared."""
        with translate_driver_errors(self.name, self._consistency):
            return list(self._session.execute(statement))

    def is_before_version_4(self) -> bool:
        """Return whether a node says that it is older than Cassandra 4.0, for example in the middle of an upgrade."""
        return any(_BEFORE_VERSION_4.match(host.release_version or "") for host in self.cluster.metadata.all_hosts())

    def rows(self, queries: Iterable[Query], in_flight: int, subject: str) -> Iterator[Row]:
        """Return the rows of all queries, in their order. At most `in_flight` are sent before the rows of the first are used.

        A query that names more partitions than the server allows is sent as several smaller ones, like those after it.

        :param subject: what is read, for messages: table and batch
        """
        return chain.from_iterable(self._pages(queries, in_flight, subject))

    def _pages(self, queries: Iterable[Query], in_flight: int, subject: str) -> Iterator[list[Row]]:
        waiting: deque[tuple[Query, BoundStatement, ResponseFuture]] = deque()
        with translate_driver_errors(self.name, self._consistency, subject):
            for query in queries:
                for part in query.cut(self._keys_per_query):
                    waiting.append((part, *self._send(part)))
                    if len(waiting) >= in_flight:
                        yield from self._pages_of(*waiting.popleft())
            while waiting:
                yield from self._pages_of(*waiting.popleft())

    def _send(self, query: Query) -> tuple[BoundStatement, ResponseFuture]:
        statement = query.bind(query.keys)
        statement.fetch_size = self._rows_per_page
        return statement, self._execute(statement, None)

    def _execute(self, statement: BoundStatement, state: bytes | None) -> ResponseFuture:
        """Send a statement for its first page, or for the page after `state`."""
        return self._session.execute_async(statement, paging_state=state)

    def _pages_of(self, query: Query, statement: BoundStatement, future: ResponseFuture) -> Iterator[list[Row]]:
        """Yield the pages of one query. Its next page is already on the way while the last one is used.

        Each page is a request of its own. The driver would continue the same request: it then takes a late answer of a slow
        coordinator for the next page, and gives that page no timeout.
        """
        try:
            page = self._wait_for_page(statement, None, future)
        except InvalidRequest as error:
            allowed = fewer_keys(error, len(query.keys))
            if allowed is None:
                raise
            self._lower_keys(allowed, len(query.keys))
            for part in query.cut(allowed):
                yield from self._pages_of(part, *self._send(part))
            return
        while (state := page.paging_state) is not None:
            future = self._execute(statement, state)
            yield page.current_rows
            page = self._wait_for_page(statement, state, future)
        yield page.current_rows

    def _wait_for_page(self, statement: BoundStatement, state: bytes | None, future: ResponseFuture) -> ResultSet:
        """Return one page.

        Ask for it again, after a pause, if the cluster is too busy to answer. Ask for a smaller one if it is too large. Prepare
        the statement again, once, if the server does not execute it any more: the table may have changed.
        """
        pauses = iter(PAUSES_SECONDS)
        is_prepared_again = False
        while True:
            try:
                return future.result()
            except BUSY:
                pause_seconds = next(pauses, None)
                if pause_seconds is None:
                    raise
                time.sleep(pause_seconds)
            except (InvalidRequest, ReadFailure) as error:
                if not self._lower_rows(statement, error):
                    if is_prepared_again or not isinstance(error, InvalidRequest) or is_guardrail(error):
                        raise
                    compat.prepare_again(self._session, statement.prepared_statement)
                    is_prepared_again = True
            future = self._execute(statement, state)

    def _lower_rows(self, statement: BoundStatement, error: Exception) -> bool:
        """Give a statement smaller pages, and all later statements if the server refused the size; False if none helps."""
        rows = fewer_rows(error, statement.fetch_size)
        if rows is not None:
            if rows < self._rows_per_page:
                self.log.warning(
                    "%s refuses pages of %d rows: reads %d at a time. Set rows_per_page to that: %s",
                    self.name, self._rows_per_page, rows, error,
                )  # fmt: skip
            self._rows_per_page = min(rows, self._rows_per_page)
        else:
            rows = fewer_rows_for_one_read(error, statement.fetch_size)
        if rows is None:
            return False
        statement.fetch_size = rows
        return True

    def _lower_keys(self, allowed: int, refused: int) -> None:
        """Let all later queries name fewer partitions."""
        if allowed < self._keys_per_query:
            self.log.warning(
                "%s refuses queries of %d partitions: reads %d at a time. Set partitions_per_query to that",
                self.name, refused, allowed,
            )  # fmt: skip
            self._keys_per_query = allowed


def _with_read_profile(made: Cluster, extra: Mapping[str, Any], consistency: str, timeout_seconds: float) -> Cluster:
    """Return a new cluster in place of the one that Airflow's hook made, with our policies.

    :param made: Airflow's cluster, which is shut down
    :param extra: the extra of the Airflow connection
    """
    return compat.recreate_cassandra_cluster(
        made,
        protocol_version=extra.get("protocol_version", PROTOCOL_VERSION),
        # The driver waits 2 s for the schema: too short for a slow network or a cluster with many tables.
        control_connection_timeout=timeout_seconds,
        profile={
            "retry_policy": NextCoordinatorPolicy(),
            "consistency_level": ConsistencyLevel.name_to_value[consistency],
            "request_timeout": timeout_seconds,
            "row_factory": tuple_factory,
            "speculative_execution_policy": ConstantSpeculativeExecutionPolicy(timeout_seconds / 4, 1),
        },
    )
