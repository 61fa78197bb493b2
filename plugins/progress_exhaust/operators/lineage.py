"""What OpenLineage is told, where its provider is installed: which tables and files a batch was made from, and the file made.

Names as OpenLineage's naming rules want them; no column, no value, no login, and no learner.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk.bases.hook import BaseHook

if TYPE_CHECKING:
    from progress_exhaust.operators.site_operator import Site

Names = tuple[tuple[str, str], ...]  # namespace and name of each data set
PORTS = {"cassandra": 9042, "redis": 6379, "http": 80, "https": 443}  # where a connection names none


def wanted() -> bool:
    return find_spec("airflow.providers.openlineage") is not None


def sources(site: "Site") -> Names:
    """Return what an extract reads."""
    settings = site.settings
    courses = _address(settings.courses_connection, "cassandra")
    users = _address("progress_exhaust_users", "redis")
    return (
        (_address(settings.enrolments_connection, "cassandra"), settings.enrolments_table),
        *((courses, f"{settings.courses_keyspace}.{name}") for name in ("user_activity_agg", "assessment_aggregator")),
        (_address(settings.hierarchy_connection, "cassandra"), settings.hierarchy_table),
        (users, str(settings.user_cache_db)),
        (users, str(settings.relation_cache_db)),
        (_address("progress_exhaust_content", "http"), settings.content_search_path),
    )


def package(container: str, key: str) -> Names:
    """Return a published file: a bucket, or the local disk, and the path in it."""
    url = urlsplit(f"{container.rstrip('/')}/{key}")
    if url.scheme == "file":
        return (("file", url.path),)
    return ((f"{url.scheme}://{url.netloc}", url.path.lstrip("/")),)


def facets(inputs: Names, outputs: Names) -> Any:
    """Return them as OpenLineage's provider wants them of an operator."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[Dataset(namespace=namespace, name=name) for namespace, name in inputs],
        outputs=[Dataset(namespace=namespace, name=name) for namespace, name in outputs],
    )


def _address(connection_id: str, scheme: str) -> str:
    """Return where a connection leads, without its login; of several hosts, the first one."""
    connection = BaseHook.get_connection(connection_id)
    host, port = (connection.host or "").split(",")[0], connection.port
    if scheme == "http" and "https" in (connection.conn_type, connection.schema):
        scheme = "https"
    if "://" in host:  # an HTTP connection's may be a whole URL
        url = urlsplit(host)
        scheme, host, port = url.scheme, url.hostname or "", port or url.port
    return f"{scheme}://{host}:{port or PORTS[scheme]}"
