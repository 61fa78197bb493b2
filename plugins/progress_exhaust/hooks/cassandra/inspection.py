"""What a cluster says about itself and about the rights of the login, for the checks of an installation."""

import ssl
from dataclasses import dataclass

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.cluster import ClusterConnection
from progress_exhaust.security.tls import Tls
from progress_exhaust.sql import inspection as cql


@dataclass(frozen=True)
class ClusterState:
    """A cluster as one connection sees it.

    :param excess_rights: what the login may do that no run needs; None if the cluster checks no rights
    """

    versions: tuple[str, ...]
    protocol_version: int
    nodes: int
    tls: Tls
    excess_rights: list[str] | None


def inspect_cluster(connection: ClusterConnection) -> ClusterState:
    """Return the state of a cluster."""
    cluster = connection.cluster
    hosts = list(cluster.metadata.all_hosts())
    addresses = [str(host.address) for host in hosts]
    options = cluster.ssl_options or {}
    return ClusterState(
        versions=tuple(sorted({str(host.release_version) for host in hosts})),
        protocol_version=cluster.protocol_version,
        nodes=len(hosts),
        tls=Tls(
            host=next((address for address in addresses if Tls(address, False).leaves_the_machine), addresses[0]),
            is_encrypted=cluster.ssl_options is not None,
            is_verified=options.get("cert_reqs") == ssl.CERT_REQUIRED and bool(options.get("check_hostname")),
        ),
        excess_rights=_excess_rights(connection),
    )


def _excess_rights(connection: ClusterConnection) -> list[str] | None:
    login = connection.cluster.auth_provider
    if login is None:
        return None
    try:
        roles = list(connection.query(cql.ROLES.format(role=quoted_name(login.username))))
        permissions = list(connection.query(cql.PERMISSIONS.format(role=quoted_name(login.username))))
    except SetupError:  # AllowAllAuthorizer has no permissions to list
        return None
    if any(is_super for _, is_super, *_ in roles):
        return ["everything, as a superuser"]
    return sorted({permission for _, _, _, permission, *_ in permissions} - {"SELECT"})


def quoted_name(name: str) -> str:
    """Return a name as CQL has it in a statement that takes no values."""
    return '"' + name.replace('"', '""') + '"'
