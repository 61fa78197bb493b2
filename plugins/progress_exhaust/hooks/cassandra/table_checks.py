"""Check, before anything is read, that a table has the key, the columns and the types that the report needs."""

import re
from collections.abc import Mapping

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.sql import learner_tables as cql


def check_columns(cluster: ClusterConnection, table: str, columns: Mapping[str, str]) -> None:
    """Raise SetupError if a table or column is missing, or if a column's type cannot be read.

    :param table: `keyspace.table`
    :param columns: the columns that are read, with the type that a missing one is added with
    """
    found = cluster.find_table(table)
    if found is None:
        raise SetupError(
            f"{cluster.name} has no table {table}; name the right one in the Variable progress_exhaust, or run: "
            f"CREATE TABLE {table} with {', '.join(f'{column} {kind}' for column, kind in columns.items())}"
        )
    missing = [column for column in columns if column not in found.columns]
    if missing:
        statements = " ".join(f"ALTER TABLE {table} ADD {column} {columns[column]};" for column in missing)
        raise SetupError(f"{cluster.name}: table {table} lacks {', '.join(missing)}; run: {statements}")
    types = {column: found.columns[column].cql_type for column in columns}
    unreadable = [
        f"{column} as {types[column]} instead of {kind}"
        for column, kind in columns.items()
        if not re.fullmatch(f"(frozen<)?({cql.READABLE.get(column) or cql.READABLE[kind]})>?", types[column])
    ]
    if unreadable:
        raise SetupError(
            f"{cluster.name}: table {table} has what the report cannot read: {', '.join(unreadable)}; name a table with "
            "columns of these types in the Variable progress_exhaust"
        )


def is_keyed_by_batch(cluster: ClusterConnection, table: str) -> bool:
    """Return whether the table of enrolments is keyed by batch (True) or by user (False); raise SetupError for other keys."""
    found = cluster.find_table(table)
    key = [column.name for column in found.partition_key] if found else []
    if key == ["userid"]:
        return False
    if key[:1] == ["batchid"]:
        return True
    raise SetupError(
        f"{cluster.name}: table {table} is keyed by {', '.join(key)}; the report reads enrolments by batchid or by userid: "
        "set enrolments_table in the Variable to a table that has such a key"
    )
