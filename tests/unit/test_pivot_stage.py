"""The pivot stage with local files only: which file it writes for which settings, and its manifest."""

import gc
import hashlib
import json
import logging
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.sdk import ObjectStoragePath

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.extract.chunk_files import to_parquet
from progress_exhaust.extract.inputs import make_inputs
from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.operators import pivot as stage
from progress_exhaust.operators.pivot import PivotOperator
from progress_exhaust.report import xlsx_file
from progress_exhaust.report.options import OutputFormat
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

CSV, XLSX = "0133_progress_20220928.csv", "0133_progress_20220928.xlsx"
COLUMNS, SUMMARY = "columns_0133_20220928.csv", "summary_0133_20220928.txt"
AS_OF = datetime(2022, 9, 27, 20, tzinfo=UTC)


def staged(
    folder: Path, *, layout: str | None = None, state: str = "Goa", param: str | None = None, **settings: Any
) -> BatchContext:
    """Write two chunks with three learners, and the manifests, as the stages before do."""
    site = Site(Settings(**settings), "run")
    context = offline_context(site, BATCH, ObjectStoragePath(folder.as_uri()), Stage.PIVOT, layout=layout, output_format=param)
    hierarchy = learners().report.hierarchy
    context.staging.write_manifest(BatchManifest(facts=FACTS))
    context.staging.write_manifest(HierarchyManifest(hierarchy=hierarchy))
    counts = {"enrolled": 4, "reported": 3, "missing": 0, "excluded.other_org": 1}
    inputs = make_inputs(hierarchy, site.layout(context.params))
    context.staging.write_manifest(ExtractManifest(as_of=AS_OF, inputs=inputs, chunks=2, counts=counts))
    for number, rows in enumerate(
        ([{"state": state}, {"attempts": [tried("1", 7.0, total_max_score=10.0)]}], [{"user_id": "z"}])
    ):
        context.staging.write_file(context.staging.facts_chunk(number), to_parquet(part_of(*rows), {}))
    return context


def pivoted(folder: Path, *, as_written: str | None = None, **more: Any) -> PivotManifest:
    """Run the stage; check its counts against its manifest, and return the manifest.

    :param as_written: the format that the run chooses, if it is not that of the setting
    """
    context = staged(folder, **more)
    counts = PivotOperator(task_id="pivot", batch={}).run_stage(context)
    manifest = context.staging.read(PivotManifest)
    data = (folder / manifest.folder / manifest.file_name).read_bytes()
    assert (manifest.rows, manifest.size_bytes, manifest.sha256) == (3, len(data), hashlib.sha256(data).hexdigest())
    sizes = {manifest.file_name: len(data)}
    if manifest.workbook:
        workbook = (folder / manifest.folder / manifest.workbook.name).read_bytes()
        sizes[manifest.workbook.name] = manifest.workbook.size_bytes
        assert (manifest.workbook.size_bytes, manifest.workbook.sha256) == (len(workbook), hashlib.sha256(workbook).hexdigest())
    wanted = OutputFormat(as_written or more.get("output_format", "csv"))
    assert counts == {
        "rows": 3,
        "columns": counts["columns"],
        **{f"{name.rpartition('.')[2]}_bytes": size for name, size in sizes.items()},
        "csv_instead_of_xlsx": int(OutputFormat.XLSX in wanted.endings and XLSX not in sizes),
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


def test_both_formats_are_the_same_files_as_each_alone(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in OutputFormat}
    manifests = {name: pivoted(folder, output_format=name) for name, folder in folders.items()}
    both = manifests[OutputFormat.BOTH]
    assert both.workbook and (both.file_name, both.workbook.name) == (CSV, XLSX)
    assert both.sha256 == manifests[OutputFormat.CSV].sha256
    assert both.workbook.sha256 == manifests[OutputFormat.XLSX].sha256
    assert [manifests[name].workbook for name in (OutputFormat.CSV, OutputFormat.XLSX)] == [None, None]


@pytest.mark.parametrize("killed_in", ["write_lines", "write_workbook"])
def test_a_kill_at_any_file_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str) -> None:
    quiet = pivoted(tmp_path / "quiet", output_format="both", columns_file=True)
    context = staged(tmp_path / "killed", output_format="both", columns_file=True)
    pivot(context)  # the manifest of an earlier attempt
    with monkeypatch.context() as patch:
        patch.setattr(stage, killed_in, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pivot(context)
    assert context.staging.find(PivotManifest) is None, "the package stage must not take half a report"
    pivot(context)
    assert context.staging.read(PivotManifest) == quiet
    for path in (tmp_path / "quiet").rglob("*.csv"):
        assert (tmp_path / "killed" / path.relative_to(tmp_path / "quiet")).read_bytes() == path.read_bytes()


def test_the_manifest_of_an_earlier_version_is_read() -> None:
    old = {"rows": 1, "size_bytes": 2, "sha256": "", "cut_cells": 0, "folder": "pivot-1", "file_name": CSV}
    manifest = PivotManifest.model_validate_json(json.dumps(old | {"summary_name": "summary.txt"}))
    assert (manifest.workbook, manifest.columns_name, manifest.summary_name) == (None, None, "summary.txt")


def test_the_summary_names_both_files(tmp_path: Path) -> None:
    pivoted(tmp_path, output_format="both", summary_file=True)
    assert f"File {CSV}, {XLSX}\r\n" in (tmp_path / SUMMARY).read_bytes().decode()


def test_the_progress_of_both_files_counts_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 0)
    percents: list[int] = []
    monkeypatch.setattr(BatchContext, "report_progress", lambda _, counts: percents.append(counts["percent"]))
    with caplog.at_level(logging.INFO):
        pivoted(tmp_path, output_format="both", processes_per_task=1)
    assert percents == [25, 50, 75, 100]
    assert [message.partition(" chunks written")[0].rpartition(": ")[2] for message in caplog.messages] == [
        f"{number} of 4" for number in (1, 2, 3, 4)
    ]


def test_the_param_decides_about_the_format_then_the_layout_then_the_setting(tmp_path: Path) -> None:
    settings: Any = {"layouts": {"mine": {"like": "standard", "output_format": "xlsx"}}, "layout": "mine", "output_format": "csv"}
    assert pivoted(tmp_path / "layout", **settings, as_written="xlsx").file_name == XLSX
    manifest = pivoted(tmp_path / "param", **settings, param="both", as_written="both")
    assert manifest.workbook and manifest.file_name == CSV


@pytest.mark.parametrize(
    ("setting", "of_layout", "is_written"), [(False, None, False), (True, None, True), (True, False, False), (False, True, True)]
)
def test_a_file_that_describes_the_columns(tmp_path: Path, setting: bool, of_layout: bool | None, is_written: bool) -> None:
    layouts = {"mine": {"like": "standard", "columns_file": of_layout, "bom": True}}
    manifest = pivoted(tmp_path, columns_file=setting, layouts=layouts, layout="mine")
    assert manifest.columns_name == (COLUMNS if is_written else None)
    assert files(tmp_path) == ({CSV, COLUMNS} if is_written else {CSV})
    if is_written:
        lines = (tmp_path / COLUMNS).read_bytes().decode().split("\r\n")
        assert lines[0] == "\ufeffColumn,Id,Name,Kind,Format,Maximum Score,Blank,Meaning"
        assert lines[-3] == "do_quiz - Score,do_quiz,Quiz,number,,10,not attempted,points of the best attempt at Quiz"
        assert len(lines) == manifest_columns(tmp_path / "pivot-1" / CSV) + 2


def test_the_layout_of_the_spark_job_has_the_csv_alone(tmp_path: Path) -> None:
    """Tools that read the Spark job's package expect one file."""
    manifest = pivoted(tmp_path, layout="sunbird-lern-7", columns_file=True, output_format="both", as_written="csv")
    assert (manifest.workbook, manifest.columns_name, files(tmp_path)) == (None, None, {CSV})
    assert pivoted(tmp_path / "param", layout="sunbird-lern-7", param="xlsx", as_written="xlsx").file_name == XLSX


def manifest_columns(csv: Path) -> int:
    return len(csv.read_bytes().split(b"\r\n")[0].split(b","))


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
@pytest.mark.parametrize("output_format", ["xlsx", "both"])
def test_a_report_too_large_for_a_sheet_is_a_csv_and_the_counts_and_the_summary_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int, output_format: str
) -> None:
    monkeypatch.setattr(xlsx_file, name, most)
    manifest = pivoted(tmp_path, output_format=output_format, summary_file=True)
    assert (manifest.file_name, manifest.workbook) == (CSV, None)
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
