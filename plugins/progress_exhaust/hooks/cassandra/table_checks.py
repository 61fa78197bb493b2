"""Check, before anything is read, that a table has the columns and the types that the report needs."""

import re
from collections.abc import Mapping

from cassandra.metadata import TableMetadata

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.optional_columns import missing_columns
from progress_exhaust.sql import learner_tables as cql


def existing_table(cluster: ClusterConnection, table: str, setting: str) -> TableMetadata:
    """Return what the cluster says about a table; raise SetupError if it does not exist.

    :param table: `keyspace.table`
    :param setting: the setting that names the table or its keyspace
    """
    found = cluster.find_table(table)
    if found is None:
        raise SetupError(f"{cluster.name} has no table {table}. Set {setting} in the Variable progress_exhaust to the right name")
    return found


def check_columns(cluster: ClusterConnection, table: str, columns: Mapping[str, str], setting: str) -> None:
    """Raise SetupError if a table or a required column is missing, or if a column's type cannot be read.

    :param table: `keyspace.table`
    :param columns: the columns that are read, with their types
    :param setting: the setting that names the table or its keyspace
    """
    found = existing_table(cluster, table, setting)
    needed, _ = missing_columns(columns, found.columns.keys())
    if needed:
        raise SetupError(
            f"{cluster.name}: table {table} lacks {', '.join(needed)}, which the report needs. Set {setting} in the Variable "
            f"progress_exhaust to the table of the platform that has {', '.join(f'{name} ({columns[name]})' for name in needed)}"
        )
    types = {column: found.columns[column].cql_type for column in columns if column in found.columns}
    unreadable = [
        f"{column} as {types[column]} instead of {columns[column]}"
        for column in types
        if not re.fullmatch(f"(frozen<)?({cql.READABLE.get(column) or cql.READABLE[columns[column]]})>?", types[column])
    ]
    if unreadable:
        raise SetupError(
            f"{cluster.name}: table {table} has what the report cannot read: {', '.join(unreadable)}. Set {setting} in the "
            "Variable progress_exhaust to a table with columns of these types"
        )


def describe_missing_columns(cluster: ClusterConnection, table: str, columns: Mapping[str, str]) -> str | None:
    """Return a warning about the optional columns that a table lacks; None if it has all, or if there is no such table."""
    found = cluster.find_table(table)
    _, absent = missing_columns(columns, found.columns.keys()) if found else ([], [])
    return f"{cluster.name}: table {table} lacks {', '.join(absent)}: counts as null in every report" if absent else None
