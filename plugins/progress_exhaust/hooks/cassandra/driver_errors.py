"""Translate the driver's errors into ours: SetupError if an engineer must act, SourceError if a retry can help."""

from collections.abc import Iterator
from contextlib import contextmanager

from cassandra import DriverException, InvalidRequest, OperationTimedOut, Unauthorized, UnresolvableContactPoints
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import SetupError, SourceError


@contextmanager
def translate_driver_errors(cluster_name: str, consistency: str) -> Iterator[None]:
    """Raise SetupError or SourceError, with the name of the cluster, for any error of the driver in the block."""
    try:
        yield
    except Unauthorized as error:
        rights = docs_page("how-to/protect-connections")
        raise SetupError(f"{cluster_name}: {error}; docs/grants/cassandra.cql has every right ({rights})") from None
    except InvalidRequest as error:
        raise SetupError(f"{cluster_name}: {error}") from None
    except (DriverException, ConnectionException, NoHostAvailable, UnresolvableContactPoints) as error:
        raise SourceError(f"{cluster_name} does not answer at {consistency}: {describe_error(error)}") from None


def describe_error(error: Exception) -> str:
    """Return what a driver's error says about each node."""
    nodes = getattr(error, "errors", None)
    if isinstance(nodes, dict) and nodes:
        return "; ".join(f"{node}: {_text_of(reason)}" for node, reason in nodes.items())
    if isinstance(error, NoHostAvailable):  # the driver does not know a node that is up, so it has asked none
        return "all connections to its nodes are closed"
    return f"{type(error).__name__}: {_text_of(error)}"


def _text_of(error: object) -> str:
    """Return an error's text. The driver has none for a timeout without details."""
    return "no answer in time" if isinstance(error, OperationTimedOut) and not error.errors else str(error)
