"""Translate the driver's errors into ours: SetupError if an engineer must act, SourceError if a retry can help."""

from collections.abc import Iterator
from contextlib import contextmanager

from cassandra import (
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unauthorized,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage, SyntaxException

from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.cassandra.refusals import cannot_filter, has_too_many_tombstones, is_guardrail

TOMBSTONES_REMEDY = (
    "Compact the table when its gc_grace_seconds have passed (nodetool compact), lower its gc_grace_seconds, or raise "
    "tombstone_failure_threshold in cassandra.yaml"
)


class QueryRefusedError(SetupError):
    """The cluster does not allow the query: a guardrail, too many deleted rows, or a filter that its version does not have."""


class QueryTooHeavyError(SourceError):
    """The cluster gave up on the query: too much work for the time or the memory that a query may take."""


class QueryTimedOutError(QueryTooHeavyError):
    """No node answered the query in time: it is too much work, or the cluster is slow."""


TOO_MUCH = (QueryRefusedError, QueryTooHeavyError)  # the same rows may be read by smaller queries


@contextmanager
def translate_driver_errors(cluster_name: str, consistency: str, subject: str = "") -> Iterator[None]:
    """Raise SetupError or SourceError, with the name of the cluster, for any error of the driver in the block.

    :param subject: what is read, for messages: table and batch
    """
    where = f"{cluster_name}: {subject}" if subject else cluster_name
    try:
        yield
    except Unauthorized as error:
        rights = docs_page("how-to/protect-connections")
        raise SetupError(f"{cluster_name}: {error}; docs/grants/cassandra.cql has every right ({rights})") from None
    except (InvalidRequest, SyntaxException) as error:
        is_refused = is_guardrail(error) or cannot_filter(error)
        raise (QueryRefusedError if is_refused else SetupError)(f"{where}: {error}") from None
    except ReadFailure as error:
        if has_too_many_tombstones(error):
            raise QueryRefusedError(
                f"{where}: too many tombstones (deleted rows and values). {TOMBSTONES_REMEDY}: {describe_error(error)}"
            ) from None
        raise QueryTooHeavyError(
            f"{where}: the read failed: {describe_error(error)}. The log of Cassandra has the reason. If it is too many "
            f"tombstones: {TOMBSTONES_REMEDY}"
        ) from None
    except (DriverException, ConnectionException, ErrorMessage, NoHostAvailable, UnresolvableContactPoints) as error:
        kind = _kind(error)
        raise kind(f"{cluster_name} does not answer at {consistency}: {describe_error(error)}") from None


def describe_error(error: Exception) -> str:
    """Return what a driver's error says about each node."""
    nodes = getattr(error, "errors", None)
    if isinstance(nodes, dict) and nodes:
        return "; ".join(f"{node}: {_text_of(reason)}" for node, reason in nodes.items())
    if isinstance(error, NoHostAvailable):  # the driver does not know a node that is up, so it has asked none
        return "all connections to its nodes are closed"
    return f"{type(error).__name__}: {_text_of(error)}"


def _kind(error: Exception) -> type[SourceError]:
    """Return the kind of an error without an answer. An overloaded node may be one of the reasons of NoHostAvailable."""
    if isinstance(error, (ReadTimeout, OperationTimedOut)):
        return QueryTimedOutError
    reasons = (error.errors or {}).values() if isinstance(error, NoHostAvailable) else [error]
    return QueryTooHeavyError if any(isinstance(reason, OverloadedErrorMessage) for reason in reasons) else SourceError


def _text_of(error: object) -> str:
    """Return an error's text. The driver has none for a timeout without details."""
    return "no answer in time" if isinstance(error, OperationTimedOut) and not error.errors else str(error)
