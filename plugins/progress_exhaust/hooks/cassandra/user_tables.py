"""Read users and optional nodes from the platform's own tables, where no Redis cache has them. No contact column is read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from progress_exhaust.hooks.cassandra.models import Row
from progress_exhaust.hooks.cassandra.profiles import (
    COLUMNS_OF_FIELD,
    FRAMEWORK,
    RowsById,
    columns_of,
    is_key,
    place_ids,
    profile,
)
from progress_exhaust.hooks.cassandra.refusals import Query
from progress_exhaust.hooks.cassandra.table_checks import check_columns
from progress_exhaust.hooks.cassandra.table_connections import TableConnections, single_query
from progress_exhaust.sql import user_tables as cql


class UserTablesHook(TableConnections):
    """The tables user, location, organisation and hierarchy_relations. The parameters are those of TableConnections."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.users_name = f"table {self._users}.user"
        self._places = RowsById(self._read_places)
        self._organisations = RowsById(self._read_organisations)

    def users(self, user_ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return these fields of the users, by user id.

        An unknown user has no entry. A field that the tables do not have is missing.
        """
        columns = columns_of(fields)
        rows = self._read("user", cql.USER_COLUMNS, with_columns(cql.USERS, columns), user_ids)
        found = {user_id: dict(zip(columns, values, strict=True)) for user_id, *values in rows}
        places = self._places.get(place for user in found.values() for place in place_ids(user, fields).values())
        owners = {user["rootorgid"] for user in found.values() if user["rootorgid"]} if "orgname" in fields else set()
        organisations = self._organisations.get(owners)
        return {user_id: profile(user, fields, places, organisations) for user_id, user in found.items()}

    def optional_nodes(self, collection_id: str) -> frozenset[str]:
        """Return the ids of the contents that do not count towards the collection's completion."""
        cluster = self._cluster(self._hierarchies_connection)
        check_columns(cluster, self._relations, cql.RELATION_COLUMNS, "hierarchy_table")
        query = single_query(self._prepare(cluster, cql.OPTIONAL_NODES), (f"{collection_id}:{collection_id}:optionalnodes",))
        rows = cluster.rows([query], 1, f"table {self._relations}, collection {collection_id}")
        return frozenset(node for (nodes,) in rows for node in nodes or ())

    def reads(self, no_one: str) -> Iterator[tuple[str, str, Callable[[], object]]]:
        """Yield the connection and the name of each table, and a function that reads it for an id that does not exist."""
        fields = (*COLUMNS_OF_FIELD, FRAMEWORK)
        yield self._courses_connection, f"{self._users}.user", lambda: self.users([no_one], fields)
        yield self._courses_connection, f"{self._users}.location", lambda: list(self._read_places([no_one]))
        yield self._courses_connection, f"{self._users}.organisation", lambda: list(self._read_organisations([no_one]))
        yield self._hierarchies_connection, self._relations, lambda: self.optional_nodes(no_one)

    def _read_places(self, ids: Sequence[str]) -> Iterator[Row]:
        return self._read("location", cql.LOCATION_COLUMNS, cql.LOCATIONS, ids)

    def _read_organisations(self, ids: Sequence[str]) -> Iterator[Row]:
        return self._read("organisation", cql.ORGANISATION_COLUMNS, cql.ORGANISATIONS, ids)

    def _read(self, table: str, columns: Mapping[str, str], query: str, ids: Sequence[str]) -> Iterator[Row]:
        """Return the rows with these ids. The connection cuts the query to the partitions that one may name."""
        cluster = self._cluster(self._courses_connection)
        name = f"{self._users}.{table}"
        check_columns(cluster, name, columns, "users_keyspace")
        statement = self._prepare(cluster, query)
        stored = [one for one in dict.fromkeys(ids) if is_key(one)]
        queries = [Query(lambda some: statement.bind((list(some),)), stored)] if stored else []
        return cluster.rows(queries, self._in_flight, f"table {name}")


def with_columns(query: str, columns: Iterable[str]) -> str:
    """Put columns, which are constants of this package, into a query."""
    return query.replace("<columns>", ", ".join(columns))
