"""Installs for the integration tests: real servers, and the real DAG in a process of its own."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dev import services
from dev.servers import all_services
from dev.world import Row, World, batch_world
from tests.integration.install import Airflow, Install, new_install

# The loader's big batches, which the server warns of one by one, would fill the report of a test that fails.
logging.getLogger("cassandra.protocol").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """Start the servers that do not run.

    Many test processes may share them. The last one to end stops them, if a test process started them.
    """
    settings = services.Settings.from_environment()
    settings.data.mkdir(parents=True, exist_ok=True)
    started_by_tests = settings.data / "started-by-tests"
    with (settings.data / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        ran = any(service.pid() for service in all_services(settings))
        services.start()
        if not ran:
            started_by_tests.write_text(running(settings))
        yield
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while another test process uses the servers
            if started_by_tests.exists() and started_by_tests.read_text() == running(settings):
                services.stop()
                started_by_tests.unlink()


def running(settings: services.Settings) -> str:
    """Return which servers run, by process id; it differs after each start."""
    return " ".join(f"{service.name}={service.pid()}" for service in all_services(settings))


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    runner = Airflow(tmp_path_factory.mktemp("airflow"))
    yield runner
    runner.stop()


@pytest.fixture(scope="module")
def install(airflow: Airflow, servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Give one module an install of its own; see `queue` for a fresh job_request on it."""
    with new_install(airflow, tmp_path_factory.mktemp("install")) as made:
        yield made


@pytest.fixture
def queue(install: Install, tmp_path: Path) -> Install:
    """Give one test the module's install with an empty job_request, an empty ledger, and empty folders."""
    return emptied(install, tmp_path)


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    """Load one small batch; nothing is asked for yet. A module may have a world of its own."""
    made = batch_world(12, nested=1, assessments=2, leaves=5)
    asked, made.requests = made.requests, []
    install.load(made)
    made.requests = asked
    return made


@pytest.fixture
def asked(queue: Install, world: World) -> Row:
    """Submit one request that can be met, on an empty job_request; return it."""
    queue.submit(world.requests)
    return world.requests[0]


def emptied(install: Install, folder: Path) -> Install:
    """Empty an install's job_request, ledger and folders: the new ones are in this folder."""
    install.folder = folder
    install.make_tables()
    return install
