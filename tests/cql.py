"""Values as Cassandra's driver writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cassandra.cqltypes import Int32Type, ListType, MapType, UTF8Type

PROTOCOL = 5


def cql_map(statuses: Mapping[str, int] | None) -> bytes | None:
    """Return a map<text, int>."""
    return None if statuses is None else bytes(MapType.apply_parameters([UTF8Type, Int32Type]).serialize(statuses, PROTOCOL))


def cql_list(certificates: Sequence[Mapping[str, str]] | None) -> bytes | None:
    """Return a list<frozen<map<text, text>>>."""
    kind: Any = ListType.apply_parameters([MapType.apply_parameters([UTF8Type, UTF8Type])])
    return None if certificates is None else bytes(kind.serialize(certificates, PROTOCOL))
