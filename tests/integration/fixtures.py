"""Installs for the integration tests: real servers, and the real DAG in a process of its own."""

import logging
from collections.abc import Iterator
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
    """Start what is not running; what ran already goes on afterwards."""
    ran = any(service.pid() for service in all_services(services.Settings.from_environment()))
    services.start()
    yield
    if not ran:
        services.stop()


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
