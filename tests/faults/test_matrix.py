"""Each server of a run × each fault on the connection to it × before the stage and in its middle.

A short fault costs a try and no byte: the task fails with a message that names connection and cause, is tried again,
and the run publishes what an undisturbed one does. What is only slow costs not even the try.
"""

import importlib.util
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dev.world import World
from tests.fault_proxy import CUT, DELAY, HANG, REFUSE, RESET, TRICKLE, FaultProxy, proxy_to, saying
from tests.integration.install import Install, Row, RunResult

# Three parts in two processes; and no patience with what is down.
SETTINGS = {"learners_per_chunk": 5, "processes_per_task": 2, "read_strategy": "partitions"}
TIMEOUT = {"read_timeout_seconds": 2}
S3_CLIENT = {"connect_timeout": 2, "read_timeout": 2, "retries": {"max_attempts": 1}}
RETRIES = 8  # more than a fault lasts: it ends once the log has it

SLOW = (DELAY, TRICKLE)
# What a message calls a fault, as the client of each server sees it: that of S3 tries a put again until its time limit.
CAUSES = {
    # Cassandra's driver waits five seconds for a connection that ends in the middle of its handshake.
    REFUSE: r"refused|closed|reset|could not connect|aborted|incomplete|disconnected|shut ?down|timed out creating connection",
    HANG: r"timed? ?out|no answer|not answered|timeout",
    CUT: r"timed out|no answer|closed|aborted|broken|incomplete|disconnected|lost|shut ?down|EOF",
    RESET: r"reset|no answer|closed|aborted|lost|could not connect|disconnected|shut ?down",
}


@dataclass(frozen=True)
class Server:
    """A server of a run."""

    connection: str  # the end of the connection's name
    port: Callable[[Install], int]
    before: str  # the first task that uses it
    middle: str  # the task in whose middle the fault begins
    at: bytes  # what that task says first
    after_bytes: int  # of the answers from then on


SERVERS = {
    "cassandra": Server(
        "CASSANDRA", lambda install: install.cassandra_port, "list_batches", "batch.extract", b"assessment_aggregator", 200
    ),
    "redis": Server(
        "USERS",
        lambda install: install.users.connection_pool.connection_kwargs["port"],
        "batch.fetch_hierarchy",
        "batch.extract",
        b"firstname",
        100,
    ),
    "postgres": Server(
        "REQUESTS",
        lambda install: urlsplit(install.postgres).port or 0,
        "wait_for_requests",
        "batch.package",
        b"released_at IS NULL FOR SHARE",
        0,
    ),
    "content": Server("CONTENT", lambda install: install.content.server_port, "list_batches", "list_batches", b"/v1/search", 250),
}
STORE = Server("STORE", lambda _: 0, "list_batches", "batch.package", b".zip HTTP/1.1", 20)
FAULTS = [REFUSE, HANG, CUT, RESET, DELAY, TRICKLE]
QUICK = {("cassandra", HANG, "middle"), ("redis", CUT, "middle"), ("postgres", HANG, "middle"), ("content", RESET, "before")}


def marks(row: tuple[str, str, str]) -> list[Any]:
    return [] if row in QUICK else [pytest.mark.slow]


def matrix(servers: list[str]) -> list[Any]:
    return [
        pytest.param(server, fault, moment, marks=marks((server, fault, moment)))
        for server in servers
        for fault in FAULTS
        for moment in ("before", "middle")
    ]


@pytest.fixture(scope="module")
def undisturbed(install: Install, world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what a run publishes that nothing disturbs."""
    install.folder = tmp_path_factory.mktemp("undisturbed")
    new_request(install, world)
    assert install.run_dag(settings=SETTINGS).state == "success"
    published = install.published()
    assert len(published) == 1
    return published


def new_request(install: Install, world: World) -> None:
    install.make_tables()
    install.submit(world.requests)


@contextmanager
def ended_once_logged(proxy: FaultProxy, logs: Path, words: str) -> Iterator[None]:
    """End the fault once the newest log has a failed task with these words."""
    over = threading.Event()
    known = set(logs.glob("run-*.log"))

    def watch() -> None:
        while not over.wait(0.05):
            for log in set(logs.glob("run-*.log")) - known:
                if any("SourceError" in line and words in line for line in log.read_text(errors="replace").splitlines()):
                    proxy.end()
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        proxy.end()


@dataclass
class Disturbed:
    """A run with a fault on the connection to one server."""

    install: Install
    server: Server
    proxy: FaultProxy
    settings: Row = field(default_factory=dict)

    @property
    def connection_id(self) -> str:
        return f"progress_exhaust_{self.server.connection.lower()}"

    def run(self, connection: str, fault: str, moment: str) -> RunResult:
        if moment == "before":
            self.proxy.begin(fault)
        else:
            self.proxy.begin(fault, saying(self.server.at), self.server.after_bytes)
        # A slow server is not logged.
        with ended_once_logged(self.proxy, self.install.airflow.home, self.connection_id):
            result = self.install.run_dag(
                settings=SETTINGS | self.settings | ({} if fault in SLOW else TIMEOUT),
                connections={self.server.connection: connection},
                retries=RETRIES,
            )
        assert self.proxy.met > 0, "the fault was never felt"
        return result

    def check(self, result: RunResult, fault: str, moment: str) -> None:
        """Hold the run's tasks and messages against what such a fault is to cost."""
        assert result.state == "success"
        tries = {task["task_id"]: task["tries"] for task in result.tasks}
        task_id = self.server.before if moment == "before" else self.server.middle
        if fault in SLOW:
            assert set(tries.values()) == {1}, tries
            return
        assert tries[task_id] > 1
        assert all(number == 1 for one, number in tries.items() if one != task_id)
        told = [line for line in result.log.splitlines() if "SourceError" in line and self.connection_id in line]
        assert any(re.search(CAUSES[fault], line, re.IGNORECASE) for line in told), told


@pytest.mark.parametrize(("name", "fault", "moment"), matrix(list(SERVERS)))
def test_a_fault_of_a_moment_costs_a_try_and_no_byte(
    install: Install, world: World, undisturbed: dict[str, bytes], tmp_path: Path, name: str, fault: str, moment: str
) -> None:
    server = SERVERS[name]
    install.folder = tmp_path
    new_request(install, world)
    port = server.port(install)
    with proxy_to(port) as proxy:
        run = Disturbed(install, server, proxy)
        uri = install.connections()[server.connection].replace(f":{port}", f":{proxy.port}")
        if name == "cassandra":
            uri = uri.partition("?")[0]  # the protocol's version is the package's own choice, as at a site
        result = run.run(uri, fault, moment)
    run.check(result, fault, moment)
    assert install.published() == undisturbed
    assert install.row(world.requests[0])["status"] == "SUCCESS"
    assert install.staged() == []


@pytest.mark.skipif(not importlib.util.find_spec("s3fs"), reason="the stores' environment has s3fs: make test-faults")
@pytest.mark.parametrize(("name", "fault", "moment"), matrix(["store"]))
def test_a_fault_on_the_way_to_the_store_costs_a_try_and_no_byte(
    install: Install,
    world: World,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fault: str,
    moment: str,
) -> None:
    from dev import stores
    from tests.stores.conftest import CONNECTION, Buckets

    install.folder = tmp_path
    new_request(install, world)
    with stores.s3(tmp_path) as store, proxy_to(store.port) as proxy:
        monkeypatch.setenv(CONNECTION, store.connection())
        buckets = Buckets(store, "faults")
        for which in ("reports", "private"):
            buckets.make(which)
        run = Disturbed(install, STORE, proxy, dict(buckets.settings))
        result = run.run(store.connection(proxy.port, config_kwargs=S3_CLIENT), fault, moment)
        run.check(result, fault, moment)
        assert buckets.published() == undisturbed
        assert buckets.staged() == []
    assert install.row(world.requests[0])["status"] == "SUCCESS"
