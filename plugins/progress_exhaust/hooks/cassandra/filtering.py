"""Find rows by a column that is not in the key: the server filters them, or, if it does not, we do."""

from collections.abc import Callable, Iterator

from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.hooks.cassandra.driver_errors import TOO_MUCH
from progress_exhaust.hooks.cassandra.models import Row


def filtered_rows(
    cluster: ClusterConnection, table: str, filtered: Callable[[], Iterator[Row]], unfiltered: Callable[[], Iterator[Row]]
) -> Iterator[Row]:
    """Yield the rows that the server filters. If it refuses, or fails, yield all rows of the same part of the table.

    The rows that the server filters are held in memory: an error may come with a later page. The connection remembers which
    tables the server does not filter.
    """
    if table not in cluster.tables_without_filter:
        try:
            yield from list(filtered())
            return
        except TOO_MUCH as error:
            cluster.tables_without_filter.add(table)
            cluster.log.warning(
                "%s is read as a whole and filtered here, because the cluster does not filter it: %s", table, error
            )
    yield from unfiltered()
