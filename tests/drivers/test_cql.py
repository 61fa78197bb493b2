"""The collections that tests write by hand are those of Cassandra's driver."""

from collections.abc import Mapping
from typing import Any

from cassandra.cqltypes import Int32Type, ListType, MapType, UTF8Type
from hypothesis import given
from hypothesis import strategies as st

from tests.cql import cql_list, cql_map

PROTOCOL_VERSION = 4
INTS = st.integers(-(2**31), 2**31 - 1)


@given(st.dictionaries(st.text(), INTS))
def test_a_map_has_the_bytes_of_the_driver(statuses: Mapping[str, int]) -> None:
    kind: Any = MapType.apply_parameters([UTF8Type, Int32Type])
    assert cql_map(statuses) == kind.serialize(statuses, PROTOCOL_VERSION)


@given(st.lists(st.dictionaries(st.text(), st.text())))
def test_a_list_of_maps_has_the_bytes_of_the_driver(certificates: list[Mapping[str, str]]) -> None:
    kind: Any = ListType.apply_parameters([MapType.apply_parameters([UTF8Type, UTF8Type])])
    assert cql_list(certificates) == kind.serialize(certificates, PROTOCOL_VERSION)
