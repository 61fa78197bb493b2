"""The package stage on files alone: what is wrong with the worker's own disk is not told of staging."""

import logging
import os
import random
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from progress_exhaust.operators.site_operator import RunParams, Site
from progress_exhaust.operators.stage import PACKAGE_FILE, PIVOT_FILE, Work, scratch_folder

from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.hooks.report_store import make_folder
from progress_exhaust.operators.package import PackageOperator
from progress_exhaust.report.request import Batch
from progress_exhaust.report.security import Level, Protection
from progress_exhaust.settings import Settings
from tests.unit.test_report_store import file_size_limit, tmpfs

BATCH = Batch("", "", "", "0133", "do_1")
CSV = "0133_progress_20220928.csv"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Give a dry run's batch whose csv no zip makes smaller than 64 KiB."""
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_STORE", "file://")
    settings = Settings(container=(tmp_path / "reports").as_uri(), staging=(tmp_path / "staging").as_uri())
    site = Site(settings, "run")
    folder = site.store().batch_folder("run", BATCH)
    work = Work(site, RunParams(dry_run=True), BATCH, date(2022, 9, 28), folder, None, logging.getLogger(__name__))  # type: ignore[arg-type]
    data = random.Random(1).randbytes(200_000)
    work.leave(PIVOT_FILE, {"folder": "pivot-1", "file_name": CSV, "summary_name": None, "size_bytes": len(data)})
    make_folder(folder / "pivot-1")
    Path((folder / "pivot-1" / CSV).path).write_bytes(data)
    return work


def packed(work: Work) -> None:
    """Run the stage as StageOperator does."""
    with work.site.store().telling_staging():
        PackageOperator(task_id="package", batch={}).make(work)


@pytest.mark.parametrize("full_disk", [tmpfs, file_size_limit], ids=["tmpfs", "file size limit"])
def test_a_full_temporary_folder_is_told_by_its_name_and_the_retry_succeeds(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    if full_disk is tmpfs and os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with full_disk(disk):
        with pytest.raises(SourceError, match=rf"^The worker's temporary folder {disk}: OSError: .*set TMPDIR"):
            packed(work)
        assert list(disk.iterdir()) == []
    packed(work)
    assert (work.folder / PACKAGE_FILE).exists()


def test_a_temporary_folder_that_is_not_there_is_told_by_its_name(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    with pytest.raises(SourceError, match=rf"^The worker's temporary folder {gone}: FileNotFoundError: .*set TMPDIR"):
        packed(work)


def test_no_usable_temporary_folder_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    told = pytest.raises(SourceError, match=r"^The worker's temporary folder: .*No usable temporary directory.*set TMPDIR")
    with file_size_limit(Path(), most_bytes=0), told, ExitStack() as stack, scratch_folder(stack):
        pass


def test_a_csv_that_is_gone_is_told_of_staging(work: Work) -> None:
    (work.folder / "pivot-1" / CSV).unlink()
    with pytest.raises(SetupError, match=r"^Staging file://"):
        packed(work)


def test_a_csv_of_before_each_try_had_a_folder_is_packed(work: Work) -> None:
    """An upgrade may come between a batch's pivot and its package."""
    written = work.read(PIVOT_FILE)
    del written["folder"]
    work.leave(PIVOT_FILE, written)
    Path((work.folder / "pivot-1" / CSV).path).rename((work.folder / CSV).path)
    packed(work)
    assert (work.folder / PACKAGE_FILE).exists()


def test_the_folder_outlives_the_block_and_goes_with_the_stack() -> None:
    with ExitStack() as stack:
        with scratch_folder(stack) as scratch:
            (scratch / "rows").write_bytes(b"1")
        assert (scratch / "rows").exists()
    assert not scratch.exists()


def test_a_scans_rows_that_find_no_room_are_told_of_the_temporary_folder() -> None:
    rows = pa.table({"user_id": [f"u{number:06}" for number in range(20_000)]})
    told = pytest.raises(SourceError, match=r"^The worker's temporary folder .*: OSError: .*set TMPDIR")
    with file_size_limit(Path()), told, ExitStack() as stack, scratch_folder(stack) as scratch:
        ScanBuckets(scratch, ["u000000"], rows.schema).fill([rows])


@pytest.mark.parametrize(("request_id", "error"), [("R1", RequestError), ("", SetupError)], ids=["a request", "a standalone run"])
def test_no_plain_zip_goes_where_anybody_may_read_and_who_can_mend_it_is_told(
    work: Work, request_id: str, error: type[Exception]
) -> None:
    """A standalone run has no requester: its task fails, and is not skipped as if there were one to be told."""
    settings = work.site.settings.model_copy(update={"allow_public_container": True})
    public = replace(work, site=replace(work.site, settings=settings), batch=replace(BATCH, request_id=request_id))
    store: Any = SimpleNamespace(answers_strangers=lambda: True)
    with pytest.raises(error, match="anybody"):
        PackageOperator(task_id="package", batch={})._check_strangers(public, store, Protection(Level.PLAIN))
