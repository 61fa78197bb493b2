"""Keep unit tests light: none opens a connection, and a run of unit tests alone imports no driver."""

import socket
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, NoReturn

import pytest

UNIT_FOLDERS = {"unit", "dag"}
DRIVERS = {"cassandra", "psycopg", "psycopg2", "redis"}


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that connects to a server, or waits for clients."""

    def refuse(_: socket.socket, *address: Any) -> NoReturn:
        pytest.fail(f"A unit test uses a socket: {address}. Move the test to tests/integration.")

    for method in ("connect", "connect_ex", "listen"):
        monkeypatch.setattr(socket.socket, method, refuse)


@pytest.fixture(scope="session", autouse=True)
def no_drivers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a run of unit tests that imports a driver; in a run of other tests too, those may have imported it."""
    yield
    if version("apache-airflow-core").startswith("3.1."):
        return  # its settings import psycopg2
    folders = {item.path.parent.name for item in request.session.items}
    imported = sorted(DRIVERS & set(sys.modules))
    if folders <= UNIT_FOLDERS and imported:
        pytest.fail(f"Unit tests imported the drivers {imported}. Move the tests that need them to tests/drivers.")
