"""Every use of a private or fast-moving API, one function each: after an upgrade, look here first.

Each function has one test that fails if the API changes. Drivers are imported inside the functions, so that this module
stays light.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cassandra.cluster import Cluster
    from cassandra.query import BoundStatement, PreparedStatement

# Cassandra driver


def recreate_cassandra_cluster(made: "Cluster", *, profile: Mapping[str, Any], **changes: Any) -> "Cluster":
    """Return a new cluster with the same settings, and an execution profile; shut down the old one.

    Airflow's hook makes a cluster without execution profiles, and only a profile can read speculatively.

    :param made: the cluster of Airflow's hook, not connected
    :param profile: arguments of the profile; the load balancing policy stays
    :param changes: arguments of the new cluster
    """
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile

    made.shutdown()
    return Cluster(
        made.contact_points,
        port=made.port,
        auth_provider=made.auth_provider,
        ssl_options=made.ssl_options,
        cql_version=made.cql_version,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(load_balancing_policy=made.load_balancing_policy, **profile),
        },
        **changes,
    )


def cassandra_routing_key(partition: Sequence[str]) -> bytes:
    """Return a compound partition key of texts in the form that the cluster hashes."""
    parts = [part.encode() for part in partition]
    return b"".join(len(part).to_bytes(2, "big") + part + b"\0" for part in parts)


def bind_with_routing_key(statement: "PreparedStatement", values: Sequence[Any], routing_key: bytes) -> "BoundStatement":
    """Bind values to a statement that is sent to an owner of `routing_key`. The driver finds no owner for an `IN`."""
    read = _routed_statement_class()(statement)
    read.bind(values)
    read.routing_key = routing_key
    return read


@cache
def _routed_statement_class() -> Any:
    from cassandra.query import BoundStatement

    class RoutedStatement(BoundStatement):  # type: ignore[misc]  # the driver has no types
        routing_key = b""  # in place of the driver's property, which cannot be set

    return RoutedStatement


def make_cassandra_protocol_handler(left_as_bytes: Set[str], repair_text: Callable[[bytes], str]) -> Any:
    """Return a protocol handler (for `Session.client_protocol_handler`) that decodes rows our way.

    The driver decodes each value by its column's type and lets nobody choose another type. It also fails the whole page if
    a text is not UTF-8; then the page is decoded once more.

    :param left_as_bytes: names of columns whose values stay bytes
    :param repair_text: makes a text of any bytes. Text inside maps and lists is not repaired
    """
    from cassandra import DriverException
    from cassandra.cqltypes import BytesType, UTF8Type
    from cassandra.protocol import ProtocolHandler, ResultMessage

    class RepairedText(UTF8Type):  # type: ignore[misc]  # the driver has no types
        @staticmethod
        def deserialize(data: bytes, _protocol_version: int) -> str:
            return repair_text(data)

    def repaired(kind: Any) -> Any:
        return RepairedText if issubclass(kind, UTF8Type) else kind

    driver_result: Any = ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]  # the compiled one, if there is one

    class Result(driver_result):  # type: ignore[misc]
        has_broken_text = False

        def recv_results_rows(self, f: Any, protocol_version: int, user_types: Any, known: Any, *more: Any) -> None:
            start = f.tell()
            try:
                super().recv_results_rows(f, protocol_version, user_types, known, *more)
            except DriverException:
                f.seek(start)
                self.has_broken_text = True
                known = known and [(*column, repaired(kind)) for *column, kind in known]
                super().recv_results_rows(f, protocol_version, user_types, known, *more)

        def recv_results_metadata(self, *args: Any) -> None:
            super().recv_results_metadata(*args)
            self.column_metadata: Any = [
                (*column, name, BytesType if name in left_as_bytes else repaired(kind) if self.has_broken_text else kind)
                for *column, name, kind in self.column_metadata or ()
            ]

    class Handler(ProtocolHandler):  # type: ignore[misc]
        message_types_by_opcode = ProtocolHandler.message_types_by_opcode | {ResultMessage.opcode: Result}

    return Handler
