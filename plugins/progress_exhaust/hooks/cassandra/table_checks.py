"""Check, before anything is read, that a table has the key, the columns and the types that the report needs."""

import re
from collections.abc import Mapping

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.optional_columns import missing_columns
from progress_exhaust.sql import learner_tables as cql


def check_columns(cluster: ClusterConnection, table: str, columns: Mapping[str, str], setting: str) -> None:
    """Raise SetupError if a table or a required column is missing, or if a column's type cannot be read.

    :param table: `keyspace.table`
    :param columns: the columns that are read, with their types
    :param setting: the setting that names the table or its keyspace
    """
    found = cluster.find_table(table)
    if found is None:
        raise SetupError(f"{cluster.name} has no table {table}. Set {setting} in the Variable progress_exhaust to the right name")
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


def is_keyed_by_batch(cluster: ClusterConnection, table: str) -> bool:
    """Return whether the table of enrolments is keyed by batch (True) or by user (False); raise SetupError for other keys."""
    found = cluster.find_table(table)
    key = [column.name for column in found.partition_key] if found else []
    if key == ["userid"]:
        return False
    if key[:1] == ["batchid"] and found:
        _check_clustering(cluster, table, key, [column.name for column in found.clustering_key])
        return True
    raise SetupError(
        f"{cluster.name}: table {table} is keyed by {', '.join(key)}; the report reads enrolments by batchid or by userid. "
        "Set enrolments_table in the Variable progress_exhaust to a table that has such a key"
    )


def is_in_descending_order(cluster: ClusterConnection, table: str) -> bool:
    """Return whether the learners of a batch are stored in descending order, in a table keyed by batch."""
    found = cluster.find_table(table)
    clustering = found.clustering_key if found else []
    return any(column.name == "userid" and column.is_reversed for column in clustering)


def _check_clustering(cluster: ClusterConnection, table: str, partition: list[str], clustering: list[str]) -> None:
    """Raise SetupError unless the server can return a batch's enrolments in one collection, in the order of the learners."""
    key = [*partition, *clustering]
    if set(key[: key.index("userid")] if "userid" in key else ()) == {"batchid", "courseid"} and "userid" in clustering:
        return
    raise SetupError(
        f"{cluster.name}: table {table} has the key ({', '.join(key)}), in which a batch's learners are not in order. "
        "Set enrolments_table in the Variable progress_exhaust to a table with the key batchid, courseid, userid, or with the "
        "key userid"
    )
