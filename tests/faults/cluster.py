"""Servers of a test's own, to kill, pause and restart: a cluster of three Cassandra nodes, or any single service."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cassandra import ConsistencyLevel, DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, NoHostAvailable
from cassandra.cluster import Cluster as Driver
from cassandra.policies import WhiteListRoundRobinPolicy

from dev import services
from dev.machine import is_free
from dev.servers import Cassandra, Service, Settings

NODES = 3
FIRST_PORT = 23_000
PATIENCE_SECONDS = 120
# Three copies of it in every cluster of three nodes: an answer at ALL says that a node sees all of them.
FROM_EVERY_NODE = "SELECT status FROM system_distributed.view_build_status WHERE keyspace_name = 'none' AND view_name = 'none'"


def own_settings(folder: Path) -> Settings:
    """Return the settings of servers that no other test uses.

    Their ports are far from those that another start tries first: while a server of ours is down, no other may take its port.
    """
    settings = Settings(folder, Settings.from_environment().cache, port_base=None, heap="512M")
    settings.port_file.write_text(str(FIRST_PORT + os.getpid() % 400 * services.PORT_STEP))
    return settings


@contextmanager
def running(*servers: Service) -> Iterator[None]:
    """Start servers of one place, and stop them again."""
    try:
        services.bring_up(servers[0].settings, list(servers))
        yield
    finally:
        for server in servers:
            if server.pid():
                kill(server)  # politeness takes seconds, and all of it is thrown away


def kill(server: Service) -> None:
    """Kill -9, and wait until its port is free: that is later than the end of its first thread."""
    pid = server.pid()
    assert pid, f"{server.name} does not run"
    os.kill(pid, signal.SIGKILL)
    while server.pid() or not is_free(server.port, server.address):
        time.sleep(0.01)


def restart(server: Service) -> None:
    """Stop it as an engineer does, and start it again on the same port."""
    server.stop()
    while not is_free(server.port, server.address):
        time.sleep(0.01)
    services.bring_up(server.settings, [server])


class Cluster:
    """The nodes, on 127.0.0.1 and the addresses after it."""

    def __init__(self, folder: Path) -> None:
        self.settings = own_settings(folder)
        self.nodes = [Cassandra(self.settings, node, NODES) for node in range(1, NODES + 1)]

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def port(self) -> int:
        return self.nodes[0].port

    def kill(self, *addresses: str) -> None:
        """Kill -9 these nodes."""
        for node in self._named(addresses):
            kill(node)

    @contextmanager
    def paused(self) -> Iterator[Callable[[str], None]]:
        """Yield a function that freezes a node, with its connections open, until the block's end."""
        with ExitStack() as stack:

            def pause(address: str) -> None:
                [node] = self._named((address,))
                pid = node.pid()
                assert pid, f"{node.name} does not run"
                os.kill(pid, signal.SIGSTOP)
                stack.callback(os.kill, pid, signal.SIGCONT)

            yield pause

    def whole(self) -> None:
        """Start what does not run, and wait until each node sees all of them."""
        services.bring_up(self.settings, list(self.nodes))
        deadline = time.monotonic() + PATIENCE_SECONDS
        for address in self.addresses:
            while not self._sees_all(address):
                assert time.monotonic() < deadline, f"{address} does not see every node after {PATIENCE_SECONDS} s"
                time.sleep(0.5)

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Connect to load data, onto every node."""
        profile = ExecutionProfile(consistency_level=ConsistencyLevel.ALL, request_timeout=60)
        with self._driver(self.addresses, profile) as driver:
            yield driver.connect()

    def _sees_all(self, address: str) -> bool:
        profile = ExecutionProfile(WhiteListRoundRobinPolicy([address]), consistency_level=ConsistencyLevel.ALL)
        try:
            with self._driver([address], profile) as driver:
                driver.connect().execute(FROM_EVERY_NODE)
        except (DriverException, NoHostAvailable):
            return False
        return True

    def _driver(self, addresses: list[str], profile: ExecutionProfile) -> Driver:
        return Driver(addresses, port=self.port, protocol_version=4, execution_profiles={EXEC_PROFILE_DEFAULT: profile})

    def _named(self, addresses: tuple[str, ...]) -> list[Cassandra]:
        return [node for node in self.nodes if node.address in addresses]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Give a cluster whose nodes see each other."""
    made = Cluster(folder)
    with running(*made.nodes):
        made.whole()
        yield made
