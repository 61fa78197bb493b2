"""The package stage with local files only: errors of the worker's own disk are not errors of staging."""

import os
import random
import tempfile
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.extract.scan_buckets import ScanBuckets
from progress_exhaust.hooks.report_store import ReportStoreHook, make_folder
from progress_exhaust.hooks.report_store.publishing import longest_put_seconds
from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.operators import package
from progress_exhaust.operators.package import PackageOperator
from progress_exhaust.report.request import Batch
from progress_exhaust.security.levels import Level, Protection
from progress_exhaust.settings import Settings
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.protection import check_container
from progress_exhaust.stages.scratch import scratch_folder
from progress_exhaust.stages.site_setup import Site
from progress_exhaust.staging.manifests import PackageManifest, PivotManifest
from tests.stage_context import offline_context
from tests.unit.test_report_store import file_size_limit, tmpfs

BATCH = Batch("", "", "", "0133", "do_1")
CSV = "0133_progress_20220928.csv"


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchContext:
    """Return the context of a batch whose csv cannot be compressed to 64 KiB."""
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_STORE", "file://")
    settings = Settings(reports_container_url=(tmp_path / "reports").as_uri(), staging_url=(tmp_path / "staging").as_uri())
    site = Site(settings, "run")
    folder = site.store().batch_folder("run", BATCH)
    context = offline_context(site, BATCH, folder, Stage.PACKAGE)
    data = random.Random(1).randbytes(200_000)
    context.staging.write_manifest(
        PivotManifest(
            rows=1, size_bytes=len(data), sha256="", cut_cells=0, folder="pivot-1", file_name=CSV, summary_name=None,
        )
    )  # fmt: skip
    make_folder(folder / "pivot-1")
    Path((folder / "pivot-1" / CSV).path).write_bytes(data)
    return context


def make_package(context: BatchContext) -> None:
    """Run the stage as StageOperator does."""
    with context.site.store().translate_store_errors():
        PackageOperator(task_id="package", batch={}).run_stage(context)


@pytest.mark.parametrize("full_disk", [tmpfs, file_size_limit], ids=["tmpfs", "file size limit"])
def test_the_error_of_a_full_temporary_folder_names_it_and_the_retry_succeeds(
    context: BatchContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    if full_disk is tmpfs and os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with full_disk(disk):
        with pytest.raises(SourceError, match=rf"^The worker's temporary folder {disk}: OSError: .*set TMPDIR"):
            make_package(context)
        assert list(disk.iterdir()) == []
    make_package(context)
    assert context.staging.find(PackageManifest)


def test_the_error_of_a_missing_temporary_folder_names_it(
    context: BatchContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing"
    monkeypatch.setattr(tempfile, "tempdir", str(missing))
    with pytest.raises(SourceError, match=rf"^The worker's temporary folder {missing}: FileNotFoundError: .*set TMPDIR"):
        make_package(context)


def test_a_worker_without_usable_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    error = pytest.raises(SourceError, match=r"^The worker's temporary folder: .*No usable temporary directory.*set TMPDIR")
    with file_size_limit(Path(), most_bytes=0), error, ExitStack() as stack, scratch_folder(stack):
        pass


def test_a_missing_csv_is_an_error_of_staging(context: BatchContext) -> None:
    (context.staging.path / "pivot-1" / CSV).unlink()
    with pytest.raises(SetupError, match=r"^Staging file://"):
        make_package(context)


def test_the_temporary_folder_is_deleted_with_the_stack_not_with_the_block() -> None:
    with ExitStack() as stack:
        with scratch_folder(stack) as scratch:
            (scratch / "rows").write_bytes(b"1")
        assert (scratch / "rows").exists()
    assert not scratch.exists()


def test_rows_of_a_scan_that_do_not_fit_are_an_error_of_the_temporary_folder() -> None:
    rows = pa.table({"user_id": [f"u{number:06}" for number in range(20_000)]})
    error = pytest.raises(SourceError, match=r"^The worker's temporary folder .*: OSError: .*set TMPDIR")
    with file_size_limit(Path()), error, ExitStack() as stack, scratch_folder(stack) as scratch:
        ScanBuckets(scratch, ["u000000"], rows.schema).fill([rows])


@pytest.mark.parametrize(("request_id", "error"), [("R1", RequestError), ("", SetupError)], ids=["a request", "a standalone run"])
def test_a_public_container_gets_no_plain_zip(context: BatchContext, request_id: str, error: type[Exception]) -> None:
    """A standalone run has no requester: its task fails, and is not skipped as if a requester could read the message."""
    settings = context.site.settings.model_copy(update={"allow_public_container": True})
    public = replace(context, site=replace(context.site, settings=settings), batch=replace(BATCH, request_id=request_id))
    store: Any = SimpleNamespace(is_public=lambda: True)
    with pytest.raises(error, match="public"):
        check_container(public, store, Protection(Level.PLAIN))


def test_the_claim_is_locked_for_as_long_as_the_put_of_the_package_may_take(
    context: BatchContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, locked = tmp_path / "big.zip", []
    big.touch()
    os.truncate(big, 2_000_000_000)  # it has no bytes on the disk

    def lock_claim(_: Batch, seconds: float) -> AbstractContextManager[None]:
        locked.append(seconds)
        return nullcontext()

    monkeypatch.setattr(ReportStoreHook, "publish", lambda *_: 0)
    ledger: Any = SimpleNamespace(reserve_bytes=lambda *_: None, record=lambda *_, **__: None)
    locks: Any = SimpleNamespace(lock_claim=lock_claim)
    package.publish(replace(context, ledger=ledger, locks=locks), big, "progress-exhaust/R1/0133.zip", Protection(Level.PASSWORD))
    assert locked[0] > 2 * longest_put_seconds(big, context.site.settings.read_timeout_seconds) > 40_000


@pytest.mark.parametrize("level", Level)
def test_a_dry_run_rejects_the_containers_that_a_run_rejects(
    context: BatchContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    monkeypatch.setattr(ReportStoreHook, "is_public", lambda _: True)
    monkeypatch.setattr(package, "choose_protection", lambda _: Protection(level))
    monkeypatch.setattr(package, "write_package_file", lambda _, path, __: path.write_bytes(b"zip"))
    with pytest.raises(SetupError, match=r"is public: everyone can download from it"):
        make_package(context)
    assert context.staging.find(PackageManifest) is None and not list((tmp_path / "reports").iterdir())


def test_a_dry_run_checks_that_it_could_publish_and_leaves_nothing(context: BatchContext, tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "progress-exhaust"
    folder.write_text("not a folder")
    with pytest.raises((SetupError, SourceError), match="The reports container"):
        make_package(context)
    folder.unlink()
    make_package(context)
    assert context.staging.find(PackageManifest) and not folder.exists()
    (folder / "R1").mkdir(parents=True)
    make_package(context)
    assert list(folder.rglob("*")) == [folder / "R1"]
