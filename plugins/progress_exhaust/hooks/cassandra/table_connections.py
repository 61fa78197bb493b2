"""The connections to the clusters of the tables, and the statements that are prepared on them."""

from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from cassandra.query import PreparedStatement

from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.inspection import ClusterState, inspect_cluster
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.hooks.cassandra.optional_columns import Select, select_existing
from progress_exhaust.hooks.cassandra.refusals import Query

KEYS_PER_FILTER = 1000  # values of an IN that the server filters by: the batches of a run, in one scan


class TableConnections:
    """Up to three clusters. Each is connected when it is first read.

    :param enrolments: connection and `keyspace.table` of the enrolments
    :param courses: connection and keyspace of course_batch, user_activity_agg and assessment_aggregator
    :param hierarchies: connection and `keyspace.table` of the collection trees
    :param users_keyspace: keyspace of the tables user, location and organisation, which are on the cluster of the courses
    :param consistency: name of the consistency level of every read
    :param keys_per_read: how many partitions one query names
    :param rows_per_page: how many rows the server returns at a time
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
        rows_per_page: int = 1000,
        users_keyspace: str = "sunbird",
    ) -> None:
        self._enrolments_connection, self._enrolments = enrolments
        self._courses_connection, self._courses = courses
        self._hierarchies_connection, self._hierarchies = hierarchies
        self._relations = f"{self._hierarchies.partition('.')[0]}.hierarchy_relations"
        self._users = users_keyspace
        self._consistency = consistency
        self._keys_per_read = keys_per_read
        self._rows_per_page = rows_per_page
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

    def inspect(self, connection_id: str) -> ClusterState:
        """Return what a cluster says about itself."""
        return inspect_cluster(self._cluster(connection_id))

    def _cluster(self, connection_id: str) -> ClusterConnection:
        if connection_id not in self._clusters:
            self._clusters[connection_id] = ClusterConnection(
                connection_id, self._consistency, self._timeout_seconds, self._rows_per_page, self._keys_per_read
            )
        return self._clusters[connection_id]

    def _cluster_of(self, table: Table) -> ClusterConnection:
        return self._cluster(self._enrolments_connection if table is Table.ENROLMENTS else self._courses_connection)

    def _name_of(self, table: Table) -> str:
        """Return `keyspace.table`."""
        return self._enrolments if table is Table.ENROLMENTS else f"{self._courses}.{table}"

    def _select(self, cluster: ClusterConnection, query: str, table: str) -> Select:
        """Prepare a query without the optional columns that the table lacks."""
        found = cluster.find_table(table)
        columns = found.columns.keys() if found else None
        return select_existing(query, columns, partial(self._prepare, cluster), cluster.is_before_version_4)

    def _prepare(self, cluster: ClusterConnection, query: str) -> PreparedStatement:
        return cluster.prepare(
            query.format(
                enrolments=self._enrolments,
                courses=self._courses,
                hierarchies=self._hierarchies,
                users=self._users,
                relations=self._relations,
            )
        )


def single_query(statement: PreparedStatement | Select, values: Sequence[Any]) -> Query:
    """Return a query that cannot be cut."""
    return Query(lambda _keys: statement.bind(values))


def cut(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
