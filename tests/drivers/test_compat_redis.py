"""Test the private API of the Redis client that compat uses."""

import socket
import threading

from redis import Redis, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

from progress_exhaust import compat


def test_arguments_of_a_redis_client_apply_to_its_connections() -> None:
    client = Redis(host="127.0.0.1", port=1)
    compat.set_redis_arguments(client, db=3, socket_timeout=7)
    connection = client.connection_pool.make_connection()
    assert (connection.db, connection.socket_timeout) == (3, 7)


def test_a_redis_server_answers_commands_in_one_go_and_again_after_a_lost_connection() -> None:
    """Against a stand-in: it closes the first connection in the middle of the answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen: list[bytes] = []

        def serve() -> None:
            for answers in (b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\na\r\n-WRONGTYPE no hash\r\n:1\r\n"):
                connection, _ = server.accept()
                with connection:
                    while b"EXISTS" not in (received := connection.recv(4096)).upper():
                        connection.sendall(b"+OK\r\n" * received.count(b"*"))  # how a client introduces itself
                    seen.append(received)
                    connection.sendall(answers)

        thread = threading.Thread(target=serve)
        thread.start()
        client = Redis(
            port=server.getsockname()[1], decode_responses=True, protocol=2, socket_timeout=10, retry=Retry(NoBackoff(), 1)
        )
        first, second, third = compat.redis_answers(client, [("HMGET", "a", "b"), ("HMGET", "c", "b"), ("EXISTS", "d")])
        thread.join()
        client.close()
    assert (first, third) == (["a"], 1)
    assert isinstance(second, ResponseError) and "WRONGTYPE" in str(second)
    assert len(seen) == 2 and seen[0] == seen[1]
