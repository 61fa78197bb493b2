"""A Cassandra of a test's own, whose cassandra.yaml is stricter than the one that all tests share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dev import services
from dev.load import Names
from dev.servers import Cassandra, Settings
from tests.faults.cluster import own_settings, running
from tests.integration.fixtures import emptied
from tests.integration.install import Install


class StrictCassandra(Cassandra):
    """One node with more lines in its cassandra.yaml."""

    def __init__(self, settings: Settings, more: str) -> None:
        super().__init__(settings)
        self._more = more

    def command(self) -> list[str]:
        command = super().command()
        yaml = self.folder / "conf" / "cassandra.yaml"
        yaml.write_text(f"{yaml.read_text()}\n{self._more}\n")
        return command


@contextmanager
def strict_install(install: Install, folder: Path, more: str) -> Iterator[Install]:
    """Give the install with its learner tables in such a node. The DAG's role has the rights of docs/grants/ and no other."""
    server = StrictCassandra(own_settings(folder), more)
    with running(server), services.connected_cassandra(server.port) as session:
        session.default_timeout = 60.0
        made = replace(install, session=session, cassandra_port=server.port, names=Names())
        made.let_into_cassandra()
        yield emptied(made, folder / "site")
