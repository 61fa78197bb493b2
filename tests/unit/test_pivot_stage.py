"""The pivot stage on files alone: which file it makes by the settings, and what it says of it for the next stage."""

import hashlib
import json
import logging
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from progress_exhaust.operators.pivot import PivotOperator
from progress_exhaust.operators.site_operator import RunParams, Site
from progress_exhaust.operators.stage import EXTRACT_FILE, FACTS_FILE, HIERARCHY_FILE, PIVOT_FILE, Work
from progress_exhaust.report import xlsx_file
from progress_exhaust.report.learners import to_parquet
from progress_exhaust.report.summary_text import NO_ROOM
from progress_exhaust.settings import Settings
from tests.parts import part_of
from tests.unit.test_pivot import BATCH, FACTS, learners, tried

DAY = date(2022, 9, 28)
CSV, XLSX, SUMMARY = "0133_progress_20220928.csv", "0133_progress_20220928.xlsx", "summary.txt"


def pivoted(folder: Path, *, layout: str | None = None, **settings: Any) -> dict[str, Any]:
    """Run the stage over two parts of three learners; return what it leaves in pivot.json."""
    (folder / "parts").mkdir()
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
    counts = {"enrolled": 4, "reported": 3, "missing": 0, "left_out.other_org": 1}
    work.leave(EXTRACT_FILE, {"as_of": "2022-09-27T20:00:00+00:00", "parts": 2, "counts": counts})
    for number, rows in enumerate(([{"state": "Goa"}, {"attempts": [tried("1", 7.0)]}], [{"user_id": "z"}])):
        (folder / "parts" / f"{number:05}.parquet").write_bytes(to_parquet(part_of(*rows), {}))
    told = PivotOperator(task_id="pivot", batch={}).make(work)
    left: dict[str, Any] = json.loads((folder / PIVOT_FILE).read_text())
    data = (folder / left["folder"] / left["file_name"]).read_bytes()
    assert (left["rows"], left["size_bytes"], left["sha256"]) == (3, len(data), hashlib.sha256(data).hexdigest())
    assert told == {"rows": 3, "columns": told["columns"], f"{left['file_name'][-4:].strip('.')}_bytes": len(data)}
    return left


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


@pytest.mark.parametrize(("name", "most"), [("MOST_ROWS", 3), ("MOST_COLUMNS", 15)])
def test_what_no_sheet_has_room_for_is_a_csv_and_the_summary_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(xlsx_file, name, most)
    assert pivoted(tmp_path, output_format="xlsx", summary_file=True)["file_name"] == CSV
    assert files(tmp_path) == {CSV, SUMMARY}
    assert NO_ROOM in (tmp_path / SUMMARY).read_bytes().decode()


def test_text_that_a_sheet_cuts_is_told_in_the_log_and_the_summary(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = {"like": "standard", "columns": [{"label": label * 32_768, "field": "user.state"} for label in "ab"]}
    pivoted(tmp_path, output_format="xlsx", summary_file=True, layouts={"mine": long}, layout="mine")
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
