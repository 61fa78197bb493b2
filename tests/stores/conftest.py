"""Stores for the tests: real servers of S3, Azure and Google Cloud Storage, which speak to Airflow's own providers.

The providers are in an environment of their own (`make stores`); in any other, nothing here is collected.
"""

import importlib.util
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev import stores

collect_ignore_glob = [] if importlib.util.find_spec("s3fs") else ["test_*"]

# Read when gcsfs is imported: the emulator has no gRPC, which this tries first, for a minute.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
PROJECT = Path(__file__).resolve().parents[2]
CONNECTION = "AIRFLOW_CONN_PROGRESS_EXHAUST_STORE"
ANYBODY_MAY_READ = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": ["*"]}],
}


def pytest_configure(config: pytest.Config) -> None:
    if not collect_ignore_glob:
        config.pluginmanager.import_plugin("tests.integration.fixtures")


@dataclass
class Buckets:
    """A store with a container and a private bucket of one test's own."""

    store: stores.Store
    name: str

    @property
    def container(self) -> str:
        return f"{self.store.scheme}://reports-{self.name}"

    @property
    def staging(self) -> str:
        return f"{self.store.scheme}://private-{self.name}/staging"

    @property
    def settings(self) -> dict[str, str]:
        return {"reports_container_url": self.container, "staging_url": self.staging}

    @property
    def urls(self) -> dict[str, str]:
        return {"container_url": self.container, "staging_url": self.staging}

    def hook(self, connection: str | None = None, **more: Any) -> Any:
        """Return the hook as a new task has it, without the caches of other tasks."""
        from airflow.sdk.io import store as airflow_stores

        from progress_exhaust.hooks.report_store import ReportStoreHook

        os.environ[CONNECTION] = connection or self.store.connection()
        airflow_stores._STORE_CACHE.clear()
        return ReportStoreHook(**self.urls, **more)

    def elsewhere(self, code: str, connection: str | None = None) -> subprocess.Popen[bytes]:
        """Run code that knows a `hook`, as a task on another worker."""
        imports = "import os; from pathlib import Path; from progress_exhaust.hooks.report_store import *"
        script = f"{imports}; hook = ReportStoreHook(**{self.urls!r}); {code}"
        environment = os.environ | {CONNECTION: connection or self.store.connection(), "PYTHONPATH": f"{PROJECT}/plugins"}
        return subprocess.Popen([sys.executable, "-c", script], env=environment)

    def make(self, which: str = "reports") -> None:
        fs = self._fs()
        if self.store.scheme == "s3":
            place = {"LocationConstraint": stores.S3_REGION}
            fs.call_s3("create_bucket", Bucket=f"{which}-{self.name}", CreateBucketConfiguration=place)
        else:
            fs.mkdir(f"{which}-{self.name}")

    def make_public(self, which: str = "reports") -> None:
        fs, bucket = self._fs(), f"{which}-{self.name}"
        if self.store.scheme == "s3":
            fs.call_s3("put_bucket_policy", Bucket=bucket, Policy=json.dumps(ANYBODY_MAY_READ))
        else:
            from azure.storage.blob import BlobServiceClient

            text = json.loads(_extra(self.store.connection()))["connection_string"]
            with BlobServiceClient.from_connection_string(text) as service:
                service.get_container_client(bucket).set_container_access_policy({}, public_access="blob")

    def published(self) -> dict[str, bytes]:
        """Return what is in the container, by key, as a new client sees it."""
        fs = self._fs()
        fs.invalidate_cache()
        bucket = f"reports-{self.name}"
        return {path.removeprefix(f"{bucket}/"): fs.cat_file(path) for path in fs.find(bucket)}

    def staged(self) -> list[str]:
        """Return what is in staging, by the path below the folder of its installation."""
        fs = self._fs()
        fs.invalidate_cache()
        paths = (path.removeprefix(f"private-{self.name}/staging/") for path in fs.find(f"private-{self.name}"))
        return sorted(re.sub("^[0-9a-f]{12}/", "", path) for path in paths)

    def _fs(self) -> Any:
        return self.hook()._container.fs


def _extra(connection: str) -> str:
    from urllib.parse import parse_qs, urlsplit

    return parse_qs(urlsplit(connection).query)["__extra__"][0]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a store when it is first asked for, and stop it at the end."""
    folder, started = tmp_path_factory.mktemp("stores"), {}
    with ExitStack() as stack:

        def start(kind: str) -> stores.Store:
            if kind not in started:
                started[kind] = stack.enter_context(getattr(stores, kind)(folder))
            return started[kind]

        yield start


@pytest.fixture(params=["s3", "azure", "gcs"])
def store(request: pytest.FixtureRequest, running: Any) -> stores.Store:
    if request.param == "azure" and not stores.AZURITE.exists():
        pytest.skip("Azurite is not installed: npm was missing when `make stores` ran")
    return running(request.param)


@pytest.fixture
def s3(running: Any) -> stores.Store:
    return running("s3")


@pytest.fixture
def buckets(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """Give one test an empty container and an empty private bucket."""
    return _made(store, monkeypatch)


@pytest.fixture
def s3_buckets(s3: stores.Store, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    return _made(s3, monkeypatch)


def _made(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    monkeypatch.setenv(CONNECTION, store.connection())
    made = Buckets(store, secrets.token_hex(4))
    for which in ("reports", "private"):
        made.make(which)
    return made
