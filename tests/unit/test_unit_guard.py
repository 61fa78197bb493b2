"""The guard of the unit tests (tests/unit_guard.py) fails what it must fail."""

import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def test_a_connection_fails_the_test() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="A unit test uses a socket"):
        client.connect(("127.0.0.1", 9))


@pytest.mark.skipif(version("apache-airflow-core").startswith("3.1."), reason="Airflow 3.1 imports a driver itself")
def test_a_driver_fails_a_run_of_unit_tests(tmp_path: Path) -> None:
    folder = tmp_path / "unit"
    folder.mkdir()
    (folder / "conftest.py").write_text((PROJECT / "tests" / "unit" / "conftest.py").read_text())
    (folder / "test_driver.py").write_text("def test_it(): import redis")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, tmp_path], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "imported the drivers ['redis']" in done.stdout
