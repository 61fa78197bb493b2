"""The pivot stage on files alone: which file it makes by the settings, and what it says of it for the next stage."""

import gc
import hashlib
import json
import logging
import os
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from progress_exhaust.operators.site_operator import RunParams, Site
from progress_exhaust.operators.stage import EXTRACT_FILE, FACTS_FILE, HIERARCHY_FILE, PIVOT_FILE, Work

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.extract.chunk_files import to_parquet
from progress_exhaust.operators import stage
from progress_exhaust.operators.pivot import PivotOperator
from progress_exhaust.report import xlsx_file
from progress_exhaust.report.summary_text import NO_ROOM
from progress_exhaust.settings import Settings
from tests.parts import part_of
from tests.unit.test_pivot import BATCH, FACTS, learners, tried
from tests.unit.test_report_store import file_size_limit, tmpfs

DAY = date(2022, 9, 28)
CSV, XLSX, SUMMARY = "0133_progress_20220928.csv", "0133_progress_20220928.xlsx", "summary.txt"


def staged(folder: Path, *, layout: str | None = None, state: str = "Goa", **settings: Any) -> Work:
    """Leave two parts of three learners, as the stages before do."""
    (folder / "parts").mkdir(parents=True)
    work = Work(
        Site(Settings(**settings), "run"),
        RunParams(layout=layout, dry_run=True),
        BATCH,
        DAY,
        ObjectStoragePath(folder.as_uri()),
        None,  # type: ignore[arg-type]  # it asks no server
        logging.getLogger(__name__),
    )
    work.leave(FACTS_FILE, asdict(FACTS))
    work.leave(HIERARCHY_FILE, learners().report.hierarchy.to_dict())
    counts = {"enrolled": 4, "reported": 3, "missing": 0, "excluded.other_org": 1}
    work.leave(EXTRACT_FILE, {"as_of": "2022-09-27T20:00:00+00:00", "parts": 2, "counts": counts})
    for number, rows in enumerate(([{"state": state}, {"attempts": [tried("1", 7.0)]}], [{"user_id": "z"}])):
        (folder / "parts" / f"{number:05}.parquet").write_bytes(to_parquet(part_of(*rows), {}))
    return work


def pivoted(folder: Path, **more: Any) -> dict[str, Any]:
    """Run the stage over them; return what it leaves in pivot.json."""
    told = PivotOperator(task_id="pivot", batch={}).make(staged(folder, **more))
    left: dict[str, Any] = json.loads((folder / PIVOT_FILE).read_text())
    data = (folder / left["folder"] / left["file_name"]).read_bytes()
    assert (left["rows"], left["size_bytes"], left["sha256"]) == (3, len(data), hashlib.sha256(data).hexdigest())
    ending = left["file_name"].rpartition(".")[2]
    assert told == {
        "rows": 3,
        "columns": told["columns"],
        f"{ending}_bytes": len(data),
        "csv_instead_of_xlsx": int(ending != more.get("output_format", "csv")),
        "cut_cells": left["cut_cells"],
    }
    return left


def written(work: Work) -> None:
    """Run the stage as StageOperator does."""
    with work.site.store().telling_staging():
        PivotOperator(task_id="pivot", batch={}).make(work)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.suffix in (".csv", ".xlsx", ".txt")}


def test_the_csv_alone_is_the_default(tmp_path: Path) -> None:
    left = pivoted(tmp_path)
    assert (left["file_name"], left["summary_name"]) == (CSV, None)
    assert files(tmp_path) == {CSV}
    assert [line.split(b",")[4] for line in (tmp_path / "pivot-1" / CSV).read_bytes().splitlines()[1:]] == [b"u0", b"u1", b"z"]


def test_a_workbook_and_a_summary_by_setting(tmp_path: Path) -> None:
    left = pivoted(tmp_path, output_format="xlsx", summary_file=True)
    assert (left["file_name"], left["summary_name"]) == (XLSX, SUMMARY)
    assert files(tmp_path) == {XLSX, SUMMARY}
    summary = (tmp_path / SUMMARY).read_bytes().decode()
    assert f"File {XLSX}\r\n" in summary and NO_ROOM not in summary
    assert "As of 2022-09-28 01:30 (Asia/Kolkata)" in summary and "Learners in the file: 3\r\n" in summary


# XlsxWriter leaves its files open where it could not write them; the task's end closes them.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("full_disk", [tmpfs, file_size_limit], ids=["tmpfs", "file size limit"])
def test_a_full_temporary_folder_is_told_by_its_name_and_the_retry_writes_the_workbook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    if full_disk is tmpfs and os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    disk, work = tmp_path / "disk", staged(tmp_path / "staged", state="🙂" * 16_383, output_format="xlsx")
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with full_disk(disk):
        with pytest.raises(SourceError, match=rf"^The worker's temporary folder {disk}: OSError: .*set TMPDIR"):
            written(work)
        gc.collect()
        assert list(disk.iterdir()) == []
    written(work)
    assert files(tmp_path) == {XLSX} and list(disk.iterdir()) == []


def test_a_temporary_folder_that_is_not_there_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = staged(tmp_path, output_format="xlsx")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SourceError, match=rf"^The worker's temporary folder {tmp_path}/gone: FileNotFoundError: .*set TMPDIR"):
        written(work)


def test_a_part_that_is_gone_is_told_of_staging(tmp_path: Path) -> None:
    work = staged(tmp_path, output_format="xlsx")
    (tmp_path / "parts" / "00001.parquet").unlink()
    with pytest.raises(SetupError, match=r"^Staging file://.*00001.parquet.*clear that stage"):
        written(work)


@pytest.mark.parametrize("output_format", ["csv", "xlsx"])
def test_how_far_it_is_is_told_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, output_format: str
) -> None:
    monkeypatch.setattr(stage, "SECONDS_BETWEEN_NEWS", 0)
    with caplog.at_level(logging.INFO):
        pivoted(tmp_path, output_format=output_format, processes_per_task=1)
    assert [" of 2 parts written, " in message for message in caplog.messages] == [True, True]


@pytest.mark.parametrize(("name", "most"), [("MOST_ROWS", 3), ("MOST_COLUMNS", 15)])
def test_what_no_sheet_has_room_for_is_a_csv_and_the_counts_and_the_summary_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(xlsx_file, name, most)
    assert pivoted(tmp_path, output_format="xlsx", summary_file=True)["file_name"] == CSV
    assert files(tmp_path) == {CSV, SUMMARY}
    assert NO_ROOM in (tmp_path / SUMMARY).read_bytes().decode()


def test_text_that_a_sheet_cuts_is_told_in_the_log_and_the_summary_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = {"like": "standard", "columns": [{"label": label * 32_768, "field": "user.state"} for label in "ab"]}
    left = pivoted(tmp_path, output_format="xlsx", summary_file=True, layouts={"mine": long}, layout="mine")
    assert left["cut_cells"] == 2
    words = "Excel holds 32,767 characters in a cell: longer texts are cut in 2 cells. The csv has them whole."
    assert f"\r\n{words}\r\n" in (tmp_path / SUMMARY).read_bytes().decode()
    assert [message.endswith(words) for message in caplog.messages] == [True]


@pytest.mark.parametrize(("bom", "of_layout", "has_one"), [(True, None, True), (False, True, True), (True, False, False)])
def test_the_layout_has_the_last_word_on_the_byte_order_mark(
    tmp_path: Path, bom: bool, of_layout: bool | None, has_one: bool
) -> None:
    pivoted(tmp_path, csv_bom=bom, layouts={"mine": {"like": "standard", "bom": of_layout}}, layout="mine")
    assert (tmp_path / "pivot-1" / CSV).read_bytes().startswith(b"\xef\xbb\xbf") is has_one


def test_the_params_layout_goes_before_the_sites(tmp_path: Path) -> None:
    pivoted(tmp_path, layout="sunbird-lern-7")
    header = (tmp_path / "pivot-1" / CSV).read_bytes().splitlines()[0]
    assert header.startswith(b"Declared Board,") and header.endswith(b",Total Score,do_quiz - Score")
