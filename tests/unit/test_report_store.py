"""The store in local folders: a file is there whole or not at all, and nothing outside the folders is touched."""

import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.report_store import ReportStoreHook, delete_folder, write_atomically
from progress_exhaust.hooks.report_store.publishing import publish_local
from progress_exhaust.hooks.requests.models import short_installation
from progress_exhaust.report.request import Batch

KEY = "progress-exhaust/R1/B1_progress_20220927.zip"
RUN = "manual__2022-09-27T08:00:00+00:00"
BATCH = Batch("tag", "R1", "org", "B1", "do_1")


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a login, so that Airflow looks for none in its database: a local folder has no use for it."""
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_STORE", "file://")


def store_in(folder: Path, installation: str = "") -> ReportStoreHook:
    return ReportStoreHook(
        container_url=(folder / "reports").as_uri(), staging_url=(folder / "staging").as_uri(), installation=installation
    )


def package(folder: Path, data: bytes = b"package" * 100) -> Path:
    path = folder / "finished.zip"
    path.write_bytes(data)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_package_is_published_under_its_key_alone(tmp_path: Path) -> None:
    assert store_in(tmp_path).publish(package(tmp_path), KEY) == 700
    assert files(tmp_path / "reports") == {KEY: b"package" * 100}


def test_a_file_that_a_dry_run_cannot_delete_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fs = MemoryFileSystem()
    attach("memory", "progress_exhaust_store", fs=fs)
    store = ReportStoreHook(container_url="memory://reports", staging_url=(tmp_path / "staging").as_uri())
    store.check_writable(KEY)
    assert (fs.find("/reports"), capsys.readouterr().out) == ([], "")

    def refuse(*_: Any) -> None:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as patch:
        patch.setattr(fs, "rm_file", refuse)
        store.check_writable(KEY)
    [left] = fs.find("/reports")
    warning = capsys.readouterr().out
    assert left.removeprefix("/reports/") in warning and "Access Denied" in warning


def test_a_package_of_an_earlier_run_of_the_day_is_replaced(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.publish(package(tmp_path), KEY)
    store.publish(package(tmp_path, b"new"), KEY)
    assert files(tmp_path / "reports") == {KEY: b"new"}


def test_two_who_publish_the_same_package_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    store, first, second = store_in(tmp_path), tmp_path / "first", b"b" * 700
    os.mkfifo(first)
    md5 = hashlib.md5(b"a" * ((1 << 20) + 1), usedforsecurity=False).digest()
    here = tmp_path / "reports" / "progress-exhaust" / "R1"
    with ThreadPoolExecutor() as threads:
        one = threads.submit(publish_local, first, here / Path(KEY).name, md5)
        with first.open("wb", buffering=0) as slowly:
            slowly.write(b"a" * (1 << 20))  # the first is half way,
            while not one.done() and not any(path.stat().st_size for path in here.glob(".*")):
                sleep(0.01)
            assert [file.size_bytes for file in store.packages()] == [1 << 20]  # hidden, and the retention sees it,
            assert store.publish(package(tmp_path, second), KEY, "another run") == 700  # when the second begins and ends,
            assert files(tmp_path / "reports")[KEY] == second
            slowly.write(b"a")
        one.result()
    assert files(tmp_path / "reports") == {KEY: b"a" * ((1 << 20) + 1)}


def test_what_a_kill_left_half_done_goes_with_the_next_try_of_its_run(tmp_path: Path) -> None:
    code = (
        "import os, shutil; shutil.copyfileobj = lambda *_: os._exit(9);"
        "import sys; from pathlib import Path; from progress_exhaust.hooks.report_store.publishing import publish_local;"
        "publish_local(Path(sys.argv[1]), Path(sys.argv[2]), b'', 'run')"
    )
    store, zipped = store_in(tmp_path), package(tmp_path)
    environment = os.environ | {"PYTHONPATH": "plugins"}
    killed = subprocess.run([sys.executable, "-c", code, zipped, tmp_path / "reports" / KEY], env=environment, check=False)
    assert killed.returncode == 9
    [left] = files(tmp_path / "reports")
    assert left.endswith(".part")
    store.publish(zipped, KEY, "run")
    assert list(files(tmp_path / "reports")) == [KEY]


@pytest.mark.parametrize("arrived", [b"package" * 50, b"Package" * 100, b""], ids=["short", "spoilt", "empty"])
def test_a_copy_with_other_bytes_takes_nobodys_place_and_the_retry_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrived: bytes
) -> None:
    store = store_in(tmp_path)
    store.publish(package(tmp_path, b"of this morning"), KEY)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", lambda _source, copy, _size: copy.write(arrived))
        with pytest.raises(
            SourceError, match=r"^The reports container file://.*The checksum of the stored .* differs from that of the package$"
        ):
            store.publish(package(tmp_path), KEY)
    assert files(tmp_path / "reports") == {KEY: b"of this morning"}
    assert store.publish(package(tmp_path), KEY) == 700
    assert files(tmp_path / "reports") == {KEY: b"package" * 100}


def test_a_local_folder_is_not_public_and_the_check_leaves_no_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert not store.is_public()
    store.check_staging_is_private("run")
    assert files(tmp_path) == {}


def test_staging_is_private_to_its_user(tmp_path: Path) -> None:
    store_in(tmp_path).shared_folder(RUN)
    assert (tmp_path / "staging").stat().st_mode & 0o077 == 0


def test_a_runs_folder_is_private_in_an_open_staging_folder(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    staging.chmod(0o777)
    store = store_in(tmp_path)
    for _ in range(2):  # a retry too
        store.check_staging_is_private(RUN)
    write_atomically(store.batch_folder(RUN, BATCH) / "batch.json", b"{}")
    assert (staging / RUN).stat().st_mode & 0o077 == 0
    assert staging.stat().st_mode & 0o777 == 0o777


# Errors


@contextmanager
def tmpfs(folder: Path) -> Iterator[None]:
    """Make the folder a disk of 64 KiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def file_size_limit(folder: Path, most_bytes: int = 65536) -> Iterator[None]:
    """Let no file grow beyond a size: what an ordinary user has of a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("full_disk", [tmpfs, file_size_limit], ids=["tmpfs", "file size limit"])
def test_a_full_disk_publishes_nothing_leaves_no_half_copy_and_the_retry_succeeds(tmp_path: Path, full_disk: Any) -> None:
    if full_disk is tmpfs and os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    disk, big = tmp_path / "disk", package(tmp_path, b"x" * 100_000)
    disk.mkdir()
    small = tmp_path / "small.zip"
    small.write_bytes(b"earlier")
    with full_disk(disk):
        store = store_in(disk)
        store.publish(small, KEY)
        with pytest.raises(SourceError, match=r"The reports container file://.*/reports: OSError: .*(No space left|too large)"):
            store.publish(big, KEY)
        assert files(disk / "reports") == {KEY: b"earlier"}
    assert store_in(disk).publish(big, KEY) == 100_000


def test_a_folder_that_the_worker_may_not_write_to_says_who_has_to_be_let_in(tmp_path: Path) -> None:
    (tmp_path / "reports" / "progress-exhaust").mkdir(parents=True)
    (tmp_path / "reports" / "progress-exhaust").chmod(0o500)
    with as_unprivileged_user(tmp_path), pytest.raises(SetupError, match=r"PermissionError.*Let the login"):
        store_in(tmp_path).publish(package(tmp_path), KEY)
    (tmp_path / "reports" / "progress-exhaust").chmod(0o700)
    with as_unprivileged_user(tmp_path):
        assert store_in(tmp_path).publish(package(tmp_path), KEY) == 700


@contextmanager
def as_unprivileged_user(folder: Path) -> Iterator[None]:
    """Act as a user without root rights who owns the folder."""
    if os.geteuid() != 0:
        yield
        return
    subprocess.run(["chown", "-R", "65534", folder], check=True)
    parents = [path for path in folder.parents if path.stat().st_uid == 0 and not path.stat().st_mode & 0o010]
    for path in parents:
        path.chmod(path.stat().st_mode | 0o010)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path in parents:
            path.chmod(path.stat().st_mode & ~0o010)


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="S3's provider is installed here")
def test_a_store_without_its_provider_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(
        SetupError, match=r"Setting reports_container_url, s3://reports: .*apache-airflow-providers-amazon\[s3fs\]"
    ):
        ReportStoreHook(container_url="s3://reports", staging_url=(tmp_path / "staging").as_uri())


def test_a_container_that_cannot_be_made_names_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"Setting reports_container_url, file://.*NotADirectoryError"):
        ReportStoreHook(container_url=(tmp_path / "file" / "reports").as_uri(), staging_url=(tmp_path / "staging").as_uri())


def test_errors_from_elsewhere_are_not_reported_as_store_errors(tmp_path: Path) -> None:
    for error in (ValueError("x"), SetupError("y")):
        with pytest.raises(type(error), match=f"^{error}$"), store_in(tmp_path).translate_store_errors():
            raise error


# What the store contains


def test_every_file_in_staging_is_seen_with_its_run_and_size(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    write_atomically(store.batch_folder(RUN, BATCH) / "batch.json", b"{}")
    (tmp_path / "staging" / "manual__empty" / "R2").mkdir(parents=True)
    found = {file.name: file for _, _, file in store.staged_files()}
    sizes = {re.sub("[0-9a-f]{12}-", "tag-", name): file.size_bytes for name, file in found.items()}
    assert sizes == {f"{RUN}/tag-R1/B1/batch.json": 2, "manual__empty/R2/": 0}
    assert all(abs((datetime.now(UTC) - file.changed_at).total_seconds()) < 3600 for file in found.values())
    delete_folder(store.run_folder(RUN))
    assert [file.name for _, _, file in store.staged_files()] == ["manual__empty/R2/"]


def test_rows_with_one_request_id_and_two_tags_do_not_share_staging(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    folders = [store.batch_folder(RUN, replace(BATCH, tag=tag)) for tag in ("org-a", "org-b", "ORG-A", "org/a", "")]
    assert len({str(folder) for folder in folders}) == len(folders)
    assert all(str(folder).endswith("-R1/B1") for folder in folders)


def test_installations_with_equal_run_ids_do_not_share_staging(tmp_path: Path) -> None:
    ours, other = (store_in(tmp_path, installation=letter * 32) for letter in "ab")
    for store in (ours, other):
        store.check_staging_is_private(RUN)
        write_atomically(store.batch_folder(RUN, BATCH) / "batch.json", b"{}")
    write_atomically(store_in(tmp_path).batch_folder("manual__of_an_earlier_version", BATCH) / "batch.json", b"{}")
    assert (tmp_path / "staging" / ("a" * 12)).stat().st_mode & 0o077 == 0
    runs = [(folder, run_id) for folder, run_id, _ in ours.staged_files()]
    assert dict(runs) == {
        f"{short_installation('a' * 32)}/{RUN}": RUN,
        short_installation("b" * 32): None,
        "manual__of_an_earlier_version": "manual__of_an_earlier_version",
    }
    delete_folder(ours.run_folder(RUN))
    assert (other.batch_folder(RUN, BATCH) / "batch.json").exists()


def test_of_the_container_only_what_bears_a_reports_name_is_a_package(tmp_path: Path) -> None:
    store, base = store_in(tmp_path), tmp_path / "reports" / "progress-exhaust"
    store.publish(package(tmp_path), KEY)
    store.publish(package(tmp_path), "progress-exhaust/B1_progress_20220927.zip")  # of a standalone run
    others = ["notes.txt", "R1/B1_progress_20220927.csv", "R1/userinfo_20220927.zip", "R1/more/B1_progress_20220927.zip"]
    for name in others:
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(b"")
    (base.parent / "B1_progress_20220927.zip").write_bytes(b"")
    (base / "R1" / f".B9_progress_20220927.zip.{'0' * 32}.part").write_bytes(b"half")  # left by a kill
    (base / "R1" / "folder_progress_20220927.zip").mkdir()
    assert sorted(file.name for file in store.packages()) == [
        "progress-exhaust/B1_progress_20220927.zip",
        f"progress-exhaust/R1/.B9_progress_20220927.zip.{'0' * 32}.part",
        KEY,
    ]


def test_no_link_leads_out_of_the_container(tmp_path: Path) -> None:
    store, outside = store_in(tmp_path), tmp_path / "outside"
    (outside / "R1").mkdir(parents=True)
    (outside / "R1" / "B1_progress_20220927.zip").write_bytes(b"not ours")
    base = tmp_path / "reports" / "progress-exhaust"
    base.symlink_to(outside)
    assert list(store.packages()) == []
    base.unlink()
    base.mkdir()
    (base / "R1").symlink_to(outside / "R1")
    (base / "B1_progress_20220927.zip").symlink_to(outside / "R1" / "B1_progress_20220927.zip")
    Path(store.run_folder(RUN).path).symlink_to(outside)
    assert list(store.packages()) == list(store.staged_files()) == []


def test_a_removed_package_takes_its_empty_folder_along_and_no_other(tmp_path: Path) -> None:
    store, other = store_in(tmp_path), KEY.replace("B1", "B2")
    for key in (KEY, other):
        store.publish(package(tmp_path), key)
    store.delete_package(KEY)
    store.delete_package(KEY)
    assert list(files(tmp_path / "reports")) == [other]
    store.delete_package(other)
    assert list((tmp_path / "reports" / "progress-exhaust").iterdir()) == []


def test_a_folder_gives_no_links_and_says_so(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.publish(package(tmp_path), KEY)
    with pytest.raises(SetupError, match="is a local folder and has no links"):
        store.sign(KEY)
