"""Lineage for OpenLineage, if its provider is installed: the sources of a batch, and the published file.

The names follow OpenLineage's naming rules. They contain no column, value, login or learner.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import Variable
from airflow.sdk.bases.hook import BaseHook

from progress_exhaust.settings import VARIABLE, Settings, parse_settings

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

Names = tuple[tuple[str, str], ...]  # namespace and name of each data set
DEFAULT_PORTS = {"cassandra": 9042, "redis": 6379, "http": 80, "https": 443}


def extract_facets() -> Any:
    """Return what an extract task reads."""
    return facets(sources(_settings()), ())


def package_facets(batch: Mapping[str, str], task_instance: "RuntimeTaskInstanceProtocol") -> Any:
    """Return the file that a package task published; nothing for a dry run."""
    from progress_exhaust.report.request import Batch
    from progress_exhaust.stages.site_setup import RunParams, report_day

    context, settings = task_instance.get_template_context(), _settings()
    if RunParams.of(context).dry_run:
        return facets((), ())
    key = Batch.from_dict(batch).object_key(report_day(context, settings))
    return facets((), package(settings.reports_container_url, key))


def sources(settings: Settings) -> Names:
    """Return the data sets that extract reads."""
    courses = _namespace(settings.courses_connection, "cassandra")
    return (
        (_namespace(settings.enrolments_connection, "cassandra"), settings.enrolments_table),
        *((courses, f"{settings.courses_keyspace}.{name}") for name in ("user_activity_agg", "assessment_aggregator")),
        (_namespace(settings.hierarchy_connection, "cassandra"), settings.hierarchy_table),
        *_user_sources(settings),
        (_namespace("progress_exhaust_content", "http"), settings.content_search_path),
    )


def _user_sources(settings: Settings) -> Names:
    if settings.user_source == "redis":
        redis = _namespace("progress_exhaust_users", "redis")
        return (redis, str(settings.user_cache_db)), (redis, str(settings.optional_nodes_db))
    users, nodes = (_namespace(name, "cassandra") for name in (settings.courses_connection, settings.hierarchy_connection))
    tables = ((users, f"{settings.users_keyspace}.{name}") for name in ("user", "location", "organisation"))
    return (*tables, (nodes, f"{settings.hierarchy_table.partition('.')[0]}.hierarchy_relations"))


def package(reports_container_url: str, key: str) -> Names:
    """Return the published file: its bucket, or the local disk, and its path there."""
    url = urlsplit(f"{reports_container_url.rstrip('/')}/{key}")
    if url.scheme == "file":
        return (("file", url.path),)
    return ((f"{url.scheme}://{url.netloc}", url.path.lstrip("/")),)


def facets(inputs: Names, outputs: Names) -> Any:
    """Return the data sets in the form that OpenLineage's provider expects from an operator."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[Dataset(namespace=namespace, name=name) for namespace, name in inputs],
        outputs=[Dataset(namespace=namespace, name=name) for namespace, name in outputs],
    )


def _settings() -> Settings:
    """Read the settings alone: OpenLineage asks in a process of its own, which cannot ask Airflow for the installation."""
    return parse_settings(Variable.get(VARIABLE, default=None))


def _namespace(connection_id: str, scheme: str) -> str:
    """Return the address of a connection without its login. If there are several hosts, return the first one."""
    connection = BaseHook.get_connection(connection_id)
    host, port = (connection.host or "").split(",")[0], connection.port
    if scheme == "http" and "https" in (connection.conn_type, connection.schema):
        scheme = "https"
    if "://" in host:  # the host of an HTTP connection may be a complete URL
        url = urlsplit(host)
        scheme, host, port = url.scheme, url.hostname or "", port or url.port
    return f"{scheme}://{host}:{port or DEFAULT_PORTS[scheme]}"
