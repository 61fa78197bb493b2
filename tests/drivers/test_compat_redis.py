"""Test the private API of the Redis client that compat uses."""

from redis import Redis

from progress_exhaust import compat


def test_arguments_of_a_redis_client_apply_to_its_connections() -> None:
    client = Redis(host="127.0.0.1", port=1)
    compat.set_redis_arguments(client, db=3, socket_timeout=7)
    connection = client.connection_pool.make_connection()
    assert (connection.db, connection.socket_timeout) == (3, 7)
