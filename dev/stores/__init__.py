"""S3, Azure Blob Storage and Google Cloud Storage on 127.0.0.1, each in a process of its own, for the tests of the stores.

They are moto's server, Azurite and gcp-storage-emulator. What runs against them needs Airflow's providers for the stores:
`make stores` makes that environment, `.venv-stores`.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

AZURITE = Path(__file__).resolve().parent / "node_modules" / ".bin" / "azurite-blob"
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 15
# What Azurite is made with: public, and the same everywhere.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
S3_REGION = "ap-south-1"


@dataclass(frozen=True)
class Store:
    """A store that answers."""

    scheme: str
    port: int

    def connection(self, port: int | None = None, **changes: Any) -> str:
        """Return the URI of Airflow's connection; another port is that of a proxy."""
        url = f"http://127.0.0.1:{port or self.port}"
        if self.scheme == "s3":
            extra = {"endpoint_url": url, "region_name": S3_REGION} | changes
            return f"aws://test:test@/?__extra__={quote(json.dumps(extra))}"
        if self.scheme == "abfs":
            parts = {
                "DefaultEndpointsProtocol": "http",
                "AccountName": AZURE_ACCOUNT,
                "AccountKey": AZURE_KEY,
                "BlobEndpoint": f"{url}/{AZURE_ACCOUNT}",
            }
            extra = {"connection_string": ";".join(f"{name}={value}" for name, value in (parts | changes).items())}
            return f"wasb:///?__extra__={quote(json.dumps(extra))}"
        extra = {"gcs.endpoint": url, "is_anonymous": True, "project": "test"} | changes
        return f"google-cloud-platform:///?__extra__={quote(json.dumps(extra))}"


@contextmanager
def s3(folder: Path) -> Iterator[Store]:
    port = _free_port()
    with _running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, folder / "s3.log"):
        yield Store("s3", port)


@contextmanager
def azure(folder: Path) -> Iterator[Store]:
    port = _free_port()
    options = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    command = [str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    with _running(command, port, folder / "azure.log"):
        yield Store("abfs", port)


@contextmanager
def gcs(folder: Path) -> Iterator[Store]:
    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    with _running(command, port, folder / "gcs.log"):
        yield Store("gs", port)


@contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
