"""The pivot stage with local files only: which file it writes for which settings, and its manifest."""

import gc
import hashlib
import logging
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.extract.chunk_files import to_parquet
from progress_exhaust.extract.inputs import make_inputs
from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.operators.pivot import PivotOperator
from progress_exhaust.report import xlsx_file
from progress_exhaust.report.summary_text import CUT, NO_ROOM
from progress_exhaust.settings import Settings
from progress_exhaust.stages import progress
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.site_setup import Site
from progress_exhaust.staging.manifests import BatchManifest, ExtractManifest, HierarchyManifest, PivotManifest
from tests.parts import part_of
from tests.stage_context import offline_context
from tests.unit.test_pivot import BATCH, FACTS, learners, tried
from tests.unit.test_report_store import file_size_limit, tmpfs

CSV, XLSX, SUMMARY = "0133_progress_20220928.csv", "0133_progress_20220928.xlsx", "summary.txt"
AS_OF = datetime(2022, 9, 27, 20, tzinfo=UTC)


def staged(folder: Path, *, layout: str | None = None, state: str = "Goa", **settings: Any) -> BatchContext:
    """Write two chunks with three learners, and the manifests, as the stages before do."""
    site = Site(Settings(**settings), "run")
    context = offline_context(site, BATCH, ObjectStoragePath(folder.as_uri()), Stage.PIVOT, layout=layout)
    hierarchy = learners().report.hierarchy
    context.staging.write_manifest(BatchManifest(facts=FACTS))
    context.staging.write_manifest(HierarchyManifest(hierarchy=hierarchy))
    counts = {"enrolled": 4, "reported": 3, "missing": 0, "excluded.other_org": 1}
    inputs = make_inputs(hierarchy, site.layout(context.params))
    context.staging.write_manifest(ExtractManifest(as_of=AS_OF, inputs=inputs, chunks=2, counts=counts))
    for number, rows in enumerate(([{"state": state}, {"attempts": [tried("1", 7.0)]}], [{"user_id": "z"}])):
        context.staging.write_file(context.staging.facts_chunk(number), to_parquet(part_of(*rows), {}))
    return context


def pivoted(folder: Path, **more: Any) -> PivotManifest:
    """Run the stage; check its counts against its manifest, and return the manifest."""
    context = staged(folder, **more)
    counts = PivotOperator(task_id="pivot", batch={}).run_stage(context)
    manifest = context.staging.read(PivotManifest)
    data = (folder / manifest.folder / manifest.file_name).read_bytes()
    assert (manifest.rows, manifest.size_bytes, manifest.sha256) == (3, len(data), hashlib.sha256(data).hexdigest())
    ending = manifest.file_name.rpartition(".")[2]
    assert counts == {
        "rows": 3,
        "columns": counts["columns"],
        f"{ending}_bytes": len(data),
        "csv_instead_of_xlsx": int(ending != more.get("output_format", "csv")),
        "cut_cells": manifest.cut_cells,
    }
    return manifest


def pivot(context: BatchContext) -> None:
    """Run the stage as StageOperator does."""
    with context.site.store().translate_store_errors():
        PivotOperator(task_id="pivot", batch={}).run_stage(context)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.suffix in (".csv", ".xlsx", ".txt")}


def test_the_default_is_a_csv(tmp_path: Path) -> None:
    manifest = pivoted(tmp_path)
    assert (manifest.file_name, manifest.summary_name) == (CSV, None)
    assert files(tmp_path) == {CSV}
    assert [line.split(b",")[4] for line in (tmp_path / "pivot-1" / CSV).read_bytes().splitlines()[1:]] == [b"u0", b"u1", b"z"]


def test_a_workbook_and_a_summary_by_setting(tmp_path: Path) -> None:
    manifest = pivoted(tmp_path, output_format="xlsx", summary_file=True)
    assert (manifest.file_name, manifest.summary_name) == (XLSX, SUMMARY)
    assert files(tmp_path) == {XLSX, SUMMARY}
    summary = (tmp_path / SUMMARY).read_bytes().decode()
    assert f"File {XLSX}\r\n" in summary and NO_ROOM not in summary
    assert "As of 2022-09-28 01:30 (Asia/Kolkata)" in summary and "Learners in the file: 3\r\n" in summary


# XlsxWriter leaves files open that it could not write; the end of the task closes them.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("full_disk", [tmpfs, file_size_limit], ids=["tmpfs", "file size limit"])
def test_the_error_of_a_full_temporary_folder_names_it_and_the_retry_writes_the_workbook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    if full_disk is tmpfs and os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    disk, context = tmp_path / "disk", staged(tmp_path / "staged", state="🙂" * 16_383, output_format="xlsx")
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with full_disk(disk):
        with pytest.raises(SourceError, match=rf"^The worker's temporary folder {disk}: OSError: .*set TMPDIR"):
            pivot(context)
        gc.collect()
        assert list(disk.iterdir()) == []
    pivot(context)
    assert files(tmp_path) == {XLSX} and list(disk.iterdir()) == []


def test_the_error_of_a_missing_temporary_folder_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = staged(tmp_path, output_format="xlsx")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(SourceError, match=rf"^The worker's temporary folder {tmp_path}/missing: FileNotFoundError: .*set TMPDIR"):
        pivot(context)


def test_a_missing_chunk_is_an_error_of_staging(tmp_path: Path) -> None:
    context = staged(tmp_path, output_format="xlsx")
    (tmp_path / "facts" / "00001.parquet").unlink()
    with pytest.raises(SetupError, match=r"^Staging file://.*00001.parquet.*clear that stage"):
        pivot(context)


@pytest.mark.parametrize("output_format", ["csv", "xlsx"])
def test_the_log_has_the_progress_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, output_format: str
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 0)
    for_the_page: list[int] = []
    monkeypatch.setattr(BatchContext, "report_progress", lambda _context, counts: for_the_page.append(counts["percent"]))
    with caplog.at_level(logging.INFO):
        pivoted(tmp_path, output_format=output_format, processes_per_task=1)
    assert [" of 2 chunks written, " in message for message in caplog.messages] == [True, True]
    assert for_the_page == [50, 100]


@pytest.mark.parametrize(("name", "most"), [("MAX_ROWS", 3), ("MAX_COLUMNS", 15)])
def test_a_report_too_large_for_a_sheet_is_a_csv_and_the_counts_and_the_summary_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(xlsx_file, name, most)
    assert pivoted(tmp_path, output_format="xlsx", summary_file=True).file_name == CSV
    assert files(tmp_path) == {CSV, SUMMARY}
    assert NO_ROOM in (tmp_path / SUMMARY).read_bytes().decode()


def test_log_summary_and_counts_have_the_texts_that_a_sheet_cuts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = {"like": "standard", "columns": [{"label": label * 32_768, "field": "user.state"} for label in "ab"]}
    manifest = pivoted(tmp_path, output_format="xlsx", summary_file=True, layouts={"mine": long}, layout="mine")
    assert manifest.cut_cells == 2
    words = CUT.format(2)
    assert f"\r\n{words}\r\n" in (tmp_path / SUMMARY).read_bytes().decode()
    assert [message.endswith(words) for message in caplog.messages] == [True]


@pytest.mark.parametrize(("bom", "of_layout", "has_one"), [(True, None, True), (False, True, True), (True, False, False)])
def test_the_layout_decides_about_the_byte_order_mark(tmp_path: Path, bom: bool, of_layout: bool | None, has_one: bool) -> None:
    pivoted(tmp_path, csv_bom=bom, layouts={"mine": {"like": "standard", "bom": of_layout}}, layout="mine")
    assert (tmp_path / "pivot-1" / CSV).read_bytes().startswith(b"\xef\xbb\xbf") is has_one


def test_the_param_layout_overrides_the_setting(tmp_path: Path) -> None:
    pivoted(tmp_path, layout="sunbird-lern-7")
    header = (tmp_path / "pivot-1" / CSV).read_bytes().splitlines()[0]
    assert header.startswith(b"Declared Board,") and header.endswith(b",Total Score,do_quiz - Score")
