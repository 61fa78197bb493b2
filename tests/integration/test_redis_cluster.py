"""A user cache in a Redis Cluster: three real nodes, which this file starts and stops."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from airflow.providers.redis.hooks.redis import RedisHook

from dev import machine
from progress_exhaust import compat
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.user_cache import UserCacheHook

GRANTS = Path(__file__).parents[2] / "docs" / "grants"
NODES = 3
SLOTS = 16384
START_TIMEOUT_SECONDS = 30
USERS = {f"user-{number:04d}": {"firstname": f"Name {number}", "email": "never read"} for number in range(5000)}


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[redis.Redis]]:
    """Start the nodes, share the slots among them, and load the users; yield a client of each node."""
    machine.install_packages()
    ports = free_ports(2 * NODES)
    with ExitStack() as stack:
        clients = []
        for port, bus_port in zip(ports[:NODES], ports[NODES:], strict=True):
            folder = tmp_path_factory.mktemp("node")
            process = subprocess.Popen(
                ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--cluster-port", str(bus_port), "--save", "",
                 "--cluster-enabled", "yes", "--dir", str(folder)],
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            clients.append(stack.enter_context(redis.Redis(port=port)))
        for number, client in enumerate(clients):
            wait_for(client.ping)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", number * SLOTS // NODES, (number + 1) * SLOTS // NODES - 1)
            if number:
                clients[0].execute_command("CLUSTER MEET", "127.0.0.1", ports[number], ports[NODES + number])
        for client in clients:
            wait_for(lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        wait_for(lambda: all(len(client.execute_command("CLUSTER SLOTS")) == NODES for client in clients))
        with redis.RedisCluster(host="127.0.0.1", port=ports[0]) as cluster:
            pipeline = cluster.pipeline()
            for user_id, fields in USERS.items():
                pipeline.hset(f"user:{user_id}", mapping=fields)
            pipeline.hset("user:nameless", "email", "never read")
            pipeline.set("user:wrong", "a text")
            pipeline.sadd("do_1:do_1:optionalnodes", "do_11", "do_12")
            pipeline.set("do_2:do_2:optionalnodes", "a text")
            pipeline.execute()
        yield clients


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            if condition():  # type: ignore[operator]
                return
        except redis.ConnectionError:
            pass
        assert time.monotonic() < deadline, "the cluster does not start"
        time.sleep(0.05)


def port_of(node: redis.Redis) -> int:
    return int(node.connection_pool.connection_kwargs["port"])


def log_in(monkeypatch: pytest.MonkeyPatch, port: int, login: str = "", **extra: object) -> None:
    query = f"/?__extra__={quote(json.dumps(extra))}" if extra else ""
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_USERS", f"redis://{login}127.0.0.1:{port}{query}")


def cache() -> UserCacheHook:
    """Return the hook as a site with the default settings has it: a cluster has neither of these databases."""
    return UserCacheHook(user_db=12, relation_db=5, timeout_seconds=5)


def test_users_and_optional_nodes_are_read_from_all_nodes(nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [*USERS, "nameless", "wrong", "unknown"]
    for node in nodes:
        log_in(monkeypatch, port_of(node), cluster=True)
        with cache() as users:
            found = users.users(asked, ["firstname", "state"])
            assert users.optional_nodes("do_1") == {"do_11", "do_12"}
            assert users.optional_nodes("do_3") == frozenset()
            with pytest.raises(SetupError, match=r"the key do_2:do_2:optionalnodes in database 0 is not a set"):
                users.optional_nodes("do_2")
        assert found == {user: {"firstname": fields["firstname"]} for user, fields in USERS.items()} | {"nameless": {}}


def test_a_round_trip_goes_to_each_node_once(nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch, port_of(nodes[0]), cluster=True)

    def calls() -> int:
        return sum(node.info("stats")["total_reads_processed"] for node in nodes)

    with cache() as users:
        users.users(["unknown"], ["firstname"])
        before = calls()
        users.users([*USERS][:2000], ["firstname"])
        assert calls() - before < 100


def test_another_start_node_is_used_if_the_host_does_not_answer(
    nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(monkeypatch, 1, cluster=True, startup_nodes=f"127.0.0.1:{port_of(nodes[1])}")
    with cache() as users:
        assert users.users(["user-0001"], ["firstname"]) == {"user-0001": {"firstname": "Name 1"}}


def test_a_cluster_that_does_not_answer_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch, 1, cluster=True)
    with cache() as users, pytest.raises(SourceError, match=r"Redis at 127\.0\.0\.1:1 \(connection .*does not answer"):
        users.optional_nodes("do_1")


def test_a_cluster_that_is_down_is_a_transient_error(nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot without a node, as during a fail-over: the node answers CLUSTERDOWN."""
    log_in(monkeypatch, port_of(nodes[0]), cluster=True)
    with cache() as users:
        users.optional_nodes("do_1")
        nodes[0].execute_command("CLUSTER DELSLOTS", 0)
        try:
            wait_for(lambda: nodes[0].execute_command("CLUSTER INFO")["cluster_state"] == "fail")
            with pytest.raises(SourceError, match="does not answer: The cluster is down"):
                users.users([*USERS][:100], ["firstname"])
            with pytest.raises(SourceError, match="does not answer"):
                read_optional_nodes(users)
        finally:
            nodes[0].execute_command("CLUSTER ADDSLOTS", 0)
            wait_for(lambda: nodes[0].execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def test_the_timeout_applies_while_the_client_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        log_in(monkeypatch, silent.getsockname()[1], cluster=True)
        started = time.monotonic()
        with pytest.raises(redis.exceptions.RedisClusterException):
            compat.connect_redis_cluster(RedisHook("progress_exhaust_users"), socket_timeout=0.2, socket_connect_timeout=0.2)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("database", [12, 0])
def test_a_node_of_a_cluster_without_the_extra_is_explained(
    nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch, database: int
) -> None:
    log_in(monkeypatch, port_of(nodes[0]))
    words = r"is a node of a Redis Cluster\. Add \"cluster\": true to the extra of connection progress_exhaust_users"
    with UserCacheHook(user_db=database, relation_db=database, timeout_seconds=5) as users:
        with pytest.raises(SetupError, match=words) as caught:
            users.users([*USERS], ["firstname"])
        assert "user:" not in str(caught.value)
        with pytest.raises(SetupError, match=words):
            read_optional_nodes(users)


def read_optional_nodes(users: UserCacheHook) -> None:
    """Ask for so many collections that the node does not have the keys of all."""
    for number in range(10):
        users.optional_nodes(f"do_{number}")


def test_the_extra_for_a_server_that_is_not_a_cluster_is_explained(install: object, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch, port_of(install.users), cluster=True)  # type: ignore[attr-defined]
    words = r"does not answer as a Redis Cluster.*remove \"cluster\" from the extra.*docs/grants/redis-cluster\.acl"
    with cache() as users, pytest.raises(SetupError, match=words):
        users.optional_nodes("do_1")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"startup_nodes": "a:b"}, "Invalid port in `startup_nodes`"),
        ({"startup_nodes": ["a:1"]}, "must be a comma-separated string"),
    ],
)
def test_a_wrong_extra_is_explained(monkeypatch: pytest.MonkeyPatch, extra: dict[str, object], words: str) -> None:
    log_in(monkeypatch, 1, cluster=True, **extra)
    with cache() as users, pytest.raises(SetupError, match=f"connection progress_exhaust_users.*{words}"):
        users.optional_nodes("do_1")


def rules() -> list[str]:
    _, _, *found = (GRANTS / "redis-cluster.acl").read_text().split()
    return found


RULES = ("+hmget", "+exists", "+smembers", "~user:*", "~*:optionalnodes", "+cluster|slots", "+command")


@pytest.mark.parametrize("missing", ["", *RULES])
def test_each_right_of_a_cluster_is_needed_from_the_start(
    nodes: list[redis.Redis], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for node in nodes:
        node.execute_command(
            "ACL SETUSER", "few", "reset", *(rule.replace("PASSWORD", "few") for rule in rules() if rule != missing)
        )
    log_in(monkeypatch, port_of(nodes[0]), "few:few@", cluster=True)
    with cache() as users:
        if not missing:
            assert users.users(["user-0001", "unknown"], ["firstname"]) == {"user-0001": {"firstname": "Name 1"}}
            assert users.optional_nodes("do_1") == {"do_11", "do_12"}
            return
        # No learner is missing from the cache, and yet the right to ask for one is needed.
        with pytest.raises(SetupError, match=r"docs/grants/redis-cluster\.acl") as caught:
            users.optional_nodes("do_1")
        assert "do_1" not in str(caught.value)
