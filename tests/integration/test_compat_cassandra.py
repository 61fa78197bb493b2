"""What compat.py uses of the Cassandra driver: each test fails if the driver changes that part."""

from typing import Any

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.policies import DCAwareRoundRobinPolicy
from cassandra.query import tuple_factory

from progress_exhaust import compat
from tests.integration.install import Install

SURROGATE = "0x61eda080"  # "a" and half a character: Cassandra accepts it as text, Python does not


@pytest.fixture(scope="module")
def table(install: Install) -> str:
    name = f"{install.names.courses}.compat"
    install.session.execute(f"CREATE TABLE {name} (a text, b text, counted list<text>, PRIMARY KEY ((a, b)))")
    return name


def test_a_routing_key_is_the_drivers(install: Install, table: str) -> None:
    statement = install.session.prepare(f"SELECT a FROM {table} WHERE a = ? AND b = ?")
    bound = statement.bind(("é", "x" * 300))
    assert compat.cassandra_routing_key(("é", "x" * 300)) == bound.routing_key


def test_the_driver_finds_no_owner_for_an_in_and_takes_ours(install: Install, table: str) -> None:
    install.session.execute(f"INSERT INTO {table} (a, b) VALUES ('1', '2')")
    statement = install.session.prepare(f"SELECT a FROM {table} WHERE a IN ? AND b = ?")
    values = (["1", "none"], "2")
    assert statement.bind(values).routing_key is None
    key = compat.cassandra_routing_key(("1", "2"))
    ours = compat.bind_with_routing_key(statement, values, key)
    assert ours.routing_key == key
    assert [row[0] for row in install.session.execute(ours)] == ["1"]


def test_a_cluster_is_made_again_with_a_profile(install: Install) -> None:
    session: Any = install.session
    given = session.cluster
    policy = DCAwareRoundRobinPolicy()
    made = Cluster(given.contact_points, port=given.port, auth_provider=given.auth_provider, load_balancing_policy=policy)
    again = compat.recreate_cassandra_cluster(
        made,
        profile={"row_factory": tuple_factory, "consistency_level": ConsistencyLevel.ONE, "request_timeout": 60},
        protocol_version=4,
    )
    try:
        assert made.is_shutdown
        profile = again.profile_manager.default
        assert profile.load_balancing_policy is policy and profile.consistency_level == ConsistencyLevel.ONE
        [row] = again.connect().execute("SELECT key FROM system.local")
        assert row == ("local",)
    finally:
        again.shutdown()


@pytest.mark.parametrize("prepared", [True, False])
def test_rows_are_decoded_our_way(install: Install, table: str, prepared: bool) -> None:
    """A prepared statement sends no column types with its rows, another one does."""
    install.session.execute(f"INSERT INTO {table} (a, b, counted) VALUES ('x', blobAsText({SURROGATE}), ['one', 'two'])")
    session: Any = install.session.cluster.connect()
    session.client_protocol_handler = compat.make_cassandra_protocol_handler({"counted"}, lambda data: f"{len(data)} bytes")
    query = f"SELECT a, b, counted FROM {table} WHERE a = 'x' ALLOW FILTERING"
    try:
        [row] = session.execute(session.prepare(query) if prepared else query)
        other = session.execute(f"SELECT a, b FROM {table} WHERE a = '1' ALLOW FILTERING").one()
    finally:
        session.shutdown()
    assert tuple(row)[:2] == ("1 bytes", "4 bytes")  # all text of a page with one broken text
    assert row[2] == b"\0\0\0\2\0\0\0\3one\0\0\0\3two"
    assert tuple(other or ("1", "2")) == ("1", "2")
