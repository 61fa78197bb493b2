"""Whole runs of the DAG with the container and the staging folder on a store: the same packages as in local folders."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dev.world import sample_world
from tests.fault_proxy import REPLY, proxy_to
from tests.integration.install import Install
from tests.openssl import decrypted
from tests.stores.conftest import Buckets
from tests.stores.test_errors import REFUSALS, of_many, refusal

NOBODY = "redis://127.0.0.1:1"  # where no server is
# Several pages, parts and sorted runs even of the sample's batches.
SMALL = {"learners_per_chunk": 25}
TEXT = "the requester's text"


def new_requests(install: Install, encryption_key: str | None = None) -> None:
    """Ask for everything again."""
    install.make_tables()
    install.submit([request | {"encryption_key": encryption_key} for request in sample_world().requests])


def csvs(packages: dict[str, bytes], text: str | None = None) -> dict[str, bytes]:
    """Return the csv of each package, decrypted by the requester's text if it is given."""
    found = {}
    for key, data in packages.items():
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            [name] = package.namelist()
            csv = package.read(name)
        found[key] = decrypted(csv, text=text) if text else csv
    return found


@pytest.fixture(scope="module", autouse=True)
def _loaded(install: Install) -> None:
    install.load(sample_world())


@pytest.fixture(scope="module", params=["by batch", "by user"])
def in_folders(request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return the settings of a run in local folders, and what it published."""
    install.folder = tmp_path_factory.mktemp("local")
    new_requests(install)
    table = install.names.enrolments_by_batch if request.param == "by batch" else install.names.enrolments_by_user
    settings = SMALL | {"enrolments_table": table}
    assert install.run_dag(settings=settings).failed() == []
    assert len(install.published()) > 3
    return settings, install.published()


def test_a_run_on_a_store_publishes_the_same_bytes_and_leaves_no_staging(
    install: Install, in_folders: tuple[Any, Any], buckets: Buckets
) -> None:
    settings, published = in_folders
    settings |= buckets.settings
    text = None
    if buckets.store.scheme == "gs":  # its emulator checks no login: staging there is refused, and a plain zip
        settings |= {"staging_url": install.staging.as_uri(), "allow_public_container": True}
        text = TEXT
    new_requests(install, text)
    done = install.run_dag(settings=settings, connections={"STORE": buckets.store.connection()})
    assert (done.state, done.failed()) == ("success", [])
    if text:  # no two encrypted packages are the same
        assert csvs(buckets.published(), text) == csvs(published)
    else:
        assert buckets.published() == published
    assert (buckets.staged(), install.staged()) == ([], [])
    urls = [url for row in install.rows().values() for url in row["download_urls"] or () if row["status"] == "SUCCESS"]
    assert set(urls) == set(published)


def test_a_failed_run_on_s3_leaves_its_staging_for_the_retention(install: Install, s3_buckets: Buckets, tmp_path: Path) -> None:
    new_requests(install)
    connections, settings = {"STORE": s3_buckets.store.connection()}, SMALL | s3_buckets.settings
    failed = install.run_dag(settings=settings, connections=connections | {"USERS": NOBODY})
    assert "batch.fetch_hierarchy" in failed.failed()
    left = s3_buckets.staged()
    assert left and all(name.startswith(f"{failed.run_id}/") for name in left)
    for days, gone in ((1, False), (0.0000001, True)):
        clean = install.run_dag(
            settings=settings | {"staging_days": days}, connections=connections, dag_id="progress_exhaust_retention"
        )
        assert clean.state == "success"
        assert (s3_buckets.staged() == []) is gone
        assert clean.says("Deleted staging of run", failed.run_id) is gone


def test_a_public_container_gets_no_package_until_the_setting_allows_it(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install, TEXT)
    s3_buckets.make_public()
    connections, settings = {"STORE": s3_buckets.store.connection()}, SMALL | s3_buckets.settings
    refused = install.run_dag(settings=settings, connections=connections)
    assert refused.failed() == ["batch.package"]
    assert refused.says(f"The reports container {s3_buckets.container} is public", "allow_public_container")
    assert s3_buckets.published() == {}
    assert install.run_dag(settings=settings | {"allow_public_container": True}, connections=connections).failed() == []
    found = csvs(s3_buckets.published(), TEXT)
    assert len(found) > 3 and all(b"User UUID" in csv for csv in found.values())


def test_an_allowed_public_container_gets_no_plain_zip(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install)
    keyed = sample_world().requests[0]["request_id"]
    install.sql("UPDATE job_request SET encryption_key = %s WHERE request_id = %s", [TEXT, keyed])
    s3_buckets.make_public()
    settings = SMALL | s3_buckets.settings | {"allow_public_container": True}
    done = install.run_dag(settings=settings, connections={"STORE": s3_buckets.store.connection()})
    assert (done.state, done.failed()) == ("success", [])
    rows = install.rows()
    row = rows.pop(keyed)
    assert (row["status"], list(csvs(s3_buckets.published(), TEXT))) == ("SUCCESS", row["download_urls"])
    plain = [row for row in rows.values() if "without protection" in (row["err_message"] or "")]
    assert len(plain) > 1 and {row["status"] for row in plain} == {"FAILED"}
    assert not [row for row in rows.values() if row["status"] == "SUCCESS"]
    # A standalone run has no request, and so no row for a message.
    batch = sample_world().requests[0]["request_data"]["batchId"]
    alone = install.run_dag({"batch_ids": [batch]}, settings=settings, connections={"STORE": s3_buckets.store.connection()})
    assert alone.failed() == ["batch.package"]
    assert alone.says(f"The reports container {s3_buckets.container} is public", "A run without a request")


def test_an_allowed_public_container_gets_no_zip_whose_cipher_is_broken(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install, TEXT)
    s3_buckets.make_public()
    settings = SMALL | s3_buckets.settings | {"allow_public_container": True, "zip_cipher": "ZipCrypto"}
    settings |= {"default_security_level": "PASSWORD_PROTECTED_DATASET"}
    connections = {"STORE": s3_buckets.store.connection()}
    refused = install.run_dag(settings=settings, connections=connections)
    assert refused.failed() == ["batch.package"]
    assert refused.says(f"The reports container {s3_buckets.container} is public", "zip_cipher to AES-256")
    assert s3_buckets.published() == {}
    assert install.run_dag(settings=settings | {"zip_cipher": "AES-256"}, connections=connections).failed() == []
    assert len(s3_buckets.published()) > 3


def test_no_learner_stands_in_what_airflow_keeps_of_a_run_on_s3(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install)
    settings = SMALL | s3_buckets.settings
    done = install.run_dag(settings=settings, connections={"STORE": s3_buckets.store.connection()})
    assert done.failed() == []
    kept = install.airflow.all_that_is_kept() + done.log
    names = {key.decode().removeprefix("user:") for key in install.users.keys("user:*")}
    assert len(names) > 50
    assert not [name for name in names if name in kept]


def test_a_run_of_the_same_day_on_s3_replaces_the_packages_and_adds_none(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install)
    settings, connections = SMALL | s3_buckets.settings, {"STORE": s3_buckets.store.connection()}
    assert install.run_dag(settings=settings, connections=connections).failed() == []
    first, fs = s3_buckets.published(), s3_buckets.hook()._container.fs
    spoilt = next(iter(first))
    fs.pipe_file(f"reports-{s3_buckets.name}/{spoilt}", b"of an earlier run")
    assert install.run_dag({"force": True}, settings=settings, connections=connections).failed() == []
    assert (s3_buckets.published(), s3_buckets.staged()) == (first, [])


def of_parquet(before: bytes, now: bytes) -> bool:
    """Be the moments when several objects, or one with data of learners, are to be deleted."""
    return of_many(before, now) or (now.startswith(b"DELETE ") and b".parquet" in now.split(b"\r\n")[0])


def test_a_store_that_refuses_to_delete_several_keeps_no_staging(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install)
    with proxy_to(s3_buckets.store.port) as proxy:
        proxy.begin(REPLY, of_many, reply=refusal(*REFUSALS["not implemented"]))
        connections = {"STORE": s3_buckets.store.connection(proxy.port)}
        done = install.run_dag(settings=SMALL | s3_buckets.settings, connections=connections)
        assert proxy.met
    assert (done.state, done.failed()) == ("success", [])
    assert (len(s3_buckets.published()) > 3, s3_buckets.staged()) == (True, [])


def test_data_of_learners_that_a_store_does_not_delete_is_reported_until_it_is_deleted(
    install: Install, s3_buckets: Buckets
) -> None:
    settings = SMALL | s3_buckets.settings
    with proxy_to(s3_buckets.store.port) as proxy:
        proxy.begin(REPLY, of_parquet, reply=refusal(*REFUSALS["not allowed"]))
        connections = {"STORE": s3_buckets.store.connection(proxy.port)}
        first = None
        for _ in range(2):
            new_requests(install)
            done = install.run_dag(settings=settings, connections=connections)
            assert (done.state, done.failed()) == ("success", [])
            assert done.says("Learner data stays in staging", "files could not be deleted", done.run_id)
            assert first is None or done.says(f"Learner data of run {first} stays in staging: undeleted_folders=1")
            first = first or done.run_id
            left = s3_buckets.staged()
            assert {name.rpartition(".")[2] for name in left} == {"parquet", "json"}
            assert {name for name in left if name.endswith(".json")} >= {f"{done.run_id}/undeleted.json"}
    new_requests(install)
    healthy = install.run_dag(settings=settings, connections={"STORE": s3_buckets.store.connection()})
    assert healthy.state == "success" and not healthy.says("Learner data")
    assert s3_buckets.staged() == []


def test_a_file_that_cannot_be_deleted_does_not_stop_the_retention(install: Install, s3_buckets: Buckets) -> None:
    new_requests(install)
    settings = SMALL | s3_buckets.settings
    assert install.run_dag(settings=settings, connections={"STORE": s3_buckets.store.connection()}).failed() == []
    kept, *others = s3_buckets.published()
    old = settings | {"retention_days": 0.0000001}

    def of_kept(_before: bytes, now: bytes) -> bool:
        return now.startswith(b"DELETE ") and kept.encode() in now.split(b"\r\n")[0]

    with proxy_to(s3_buckets.store.port) as proxy:
        proxy.begin(REPLY, of_kept, reply=refusal(*REFUSALS["not allowed"]))
        connections = {"STORE": s3_buckets.store.connection(proxy.port)}
        clean = install.run_dag(settings=old, connections=connections, dag_id="progress_exhaust_retention")
    assert clean.failed() == ["remove_old_files"]
    assert clean.says(f"Not deleted: {kept}: ", "Access Denied") and clean.says("Deleted: ", f"packages={len(others)}")
    assert list(s3_buckets.published()) == [kept]
