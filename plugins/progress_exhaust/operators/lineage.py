"""Lineage for OpenLineage, if its provider is installed: the tables and files that a batch was made from, and its file.

Names follow OpenLineage's naming rules. They contain no column, value, login or learner.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk.bases.hook import BaseHook

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from progress_exhaust.stages.site import Site

Names = tuple[tuple[str, str], ...]  # namespace and name of each data set
PORTS = {"cassandra": 9042, "redis": 6379, "http": 80, "https": 443}  # if a connection names none


def extract_facets(task_instance: "RuntimeTaskInstanceProtocol") -> Any:
    """Return what an extract reads."""
    from progress_exhaust.stages.site import read_site

    return facets(sources(read_site(task_instance.get_template_context())), ())


def package_facets(batch: Mapping[str, str], task_instance: "RuntimeTaskInstanceProtocol") -> Any:
    """Return the file that a package task published; none in a dry run."""
    from progress_exhaust.report.request import Batch
    from progress_exhaust.stages.site import RunParams, read_site, report_day

    context = task_instance.get_template_context()
    site = read_site(context)
    if RunParams.of(context).dry_run:
        return facets((), ())
    key = Batch.from_dict(batch).object_key(report_day(context, site.settings))
    return facets((), package(site.settings.container, key))


def sources(site: "Site") -> Names:
    """Return the data sets that an extract reads."""
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
    """Return data sets in the form of OpenLineage's provider."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[Dataset(namespace=namespace, name=name) for namespace, name in inputs],
        outputs=[Dataset(namespace=namespace, name=name) for namespace, name in outputs],
    )


def _address(connection_id: str, scheme: str) -> str:
    """Return the address of a connection without its login; of several hosts, the first one."""
    connection = BaseHook.get_connection(connection_id)
    host, port = (connection.host or "").split(",")[0], connection.port
    if scheme == "http" and "https" in (connection.conn_type, connection.schema):
        scheme = "https"
    if "://" in host:  # an HTTP connection's may be a whole URL
        url = urlsplit(host)
        scheme, host, port = url.scheme, url.hostname or "", port or url.port
    return f"{scheme}://{host}:{port or PORTS[scheme]}"
