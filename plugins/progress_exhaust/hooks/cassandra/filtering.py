"""Find rows by a column that is not in the key: the server filters them, or, if it does not, we do."""

from collections.abc import Callable, Iterator
from itertools import islice

from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.driver_errors import TOO_MUCH, QueryRefusedError, QueryTimedOutError
from progress_exhaust.hooks.cassandra.models import Row


def filtered_rows(
    cluster: ClusterConnection,
    table: str,
    filtered: Callable[[], Iterator[Row]],
    unfiltered: Callable[[], Iterator[Row]],
    *,
    is_small: bool,
) -> Iterator[Row]:
    """Yield the rows that the server filters. If it refuses, or fails, yield all rows of the same part of the table.

    The rows that the server filters are held in memory: an error may come with a later page. The connection remembers which
    tables the server refuses to filter.

    :param is_small: after a timeout, read this table as a whole, too. A slow cluster must not send all rows of a big one
    """
    if table not in cluster.tables_without_filter:
        try:
            yield from list(filtered())
            return
        except TOO_MUCH as error:
            if isinstance(error, QueryTimedOutError) and not is_small:
                raise
            if isinstance(error, QueryRefusedError):
                cluster.tables_without_filter.add(table)
            cluster.log.warning(
                "%s is read as a whole and filtered here, because the cluster does not filter it: %s", table, error
            )
    yield from unfiltered()


def streamed_rows(
    cluster: ClusterConnection, table: str, filtered: Callable[[], Iterator[Row]], unfiltered: Callable[[], Iterator[Row]]
) -> Iterator[Row]:
    """Yield the rows that the server filters, and hold none of them. If it refuses the query, yield all rows of the same part."""
    rows: Iterator[Row] = iter(())
    if table not in cluster.tables_without_filter:
        rows = filtered()
        try:
            yield from islice(rows, 1)
        except QueryRefusedError as error:
            cluster.tables_without_filter.add(table)
            cluster.log.warning("%s is filtered here, because the cluster does not filter it: %s", table, error)
    if table in cluster.tables_without_filter:
        rows = unfiltered()
    yield from rows
