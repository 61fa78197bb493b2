"""The workbook as Excel reads it: what is a number, a date and text, and that the same rows are the same bytes."""

import io
import re
import tempfile
import zipfile
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns_file import LABELS, description
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.xlsx_file import MAX_COLUMNS, MAX_ROWS, fits, write_xlsx
from tests.unit.test_pivot import QUIZ, learners, tried

DAY = date(2022, 9, 28)
NAMES = {"": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def written(*pages: Learners, cut_cells: int | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        workbook = Path(folder, "report.xlsx")
        rows, cut = write_xlsx(workbook, pages[0].report, (one.chunk for one in pages), DAY)
        assert rows == sum(len(one) for one in pages) and cut_cells in (None, cut)
        assert list(Path(folder).iterdir()) == [workbook]
        return workbook.read_bytes()


def sheet(data: bytes, number: int = 1) -> ElementTree.Element:
    return ElementTree.fromstring(zipfile.ZipFile(io.BytesIO(data)).read(f"xl/worksheets/sheet{number}.xml"))  # noqa: S314


def unescaped(text: str) -> str:
    """Read a text as Excel does, which writes what XML cannot hold as `_x0001_`."""
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), text)


def cells(*rows: dict[str, Any], **more: Any) -> list[list[str | float | None]]:
    """Return the sheet's rows below the header, as the types that they have in it."""
    return rows_of(sheet(written(learners(*rows, **more))))[1:]


def rows_of(made: ElementTree.Element) -> list[list[str | float | None]]:
    found: list[list[str | float | None]] = []
    width = None
    for row in made.iterfind(".//row", NAMES):
        values: list[str | float | None] = []
        for cell in row.iterfind("c", NAMES):
            text, value = cell.find("is/t", NAMES), cell.find("v", NAMES)
            column = re.match("[A-Z]+", cell.attrib["r"])
            assert column
            place = 0
            for letter in column[0]:
                place = place * 26 + ord(letter) - 64
            values += [None] * (place - 1 - len(values))
            values.append(unescaped(text.text or "") if text is not None else float(value.text) if value is not None else None)  # type: ignore[arg-type]
        width = width or len(values)
        found.append(values + [None] * (width - len(values)))
    return found


def column(*columns: dict[str, Any], **more: Any) -> Layout:
    labelled = [{"label": f"L{place}"} | one for place, one in enumerate(columns)]
    return Layout.model_validate({"columns": labelled, "nested_progress": False, "scores": "none"} | more)


def excel(moment: datetime) -> float:
    return (moment - datetime(1899, 12, 30)) / timedelta(days=1)


def test_a_row_has_text_numbers_and_dates() -> None:
    [row] = cells(
        {"user_id": "0012", "state": "=1+1", "completed_at": 1598363154150, "attempts": [tried("1", 7.5)], "enrolled_at": 0}
    )
    moment = datetime(2020, 8, 25, 13, 45, 54, 150000)
    assert row[:8] == ["do_1", "Course", "0133", "Batch1", "0012", None, "=1+1", None]
    assert row[8] == excel(datetime(1970, 1, 1)) and row[9] == pytest.approx(excel(moment), abs=1e-9)
    assert row[10:] == [100, None, 7.5, None, 7.5, None]


@pytest.mark.parametrize(
    "state", ["001", "013300978801321105614", "=1+1", "-5", "1e5", "TRUE", "#N/A", " padded ", "முருகன் 🙂", "https://x.in",
              "{=1}", "_x0041_", "\ufffe", "<&>\"'"]
)  # fmt: skip
def test_text_stays_text(state: str) -> None:
    assert cells({"state": state}, layout=column({"field": "user.state"})) == [[state]]


def test_text_is_cleaned_and_trimmed_as_in_the_csv() -> None:
    rows = [{"state": " a\r\nb\x00\t"}, {"state": "\x07"}]
    fields = ({"field": "user_id"}, {"field": "user.state"})
    assert cells(*rows, layout=column(*fields)) == [["u0", " a  b "], ["u1", None]]
    assert cells(*rows, layout=column(*fields, trimmed=True)) == [["u0", "a  b"], ["u1", None]]


@pytest.mark.parametrize(
    ("score", "cell"), [(7.0, 7.0), (-0.5, -0.5), (1e21, "1" + "0" * 21), (123456789012345.0, 123456789012345.0), (None, None)]
)
def test_a_number_that_excel_would_round_is_text(score: float | None, cell: float | str | None) -> None:
    rows = {"attempts": [tried("1", score)]}
    assert cells({}, rows, layout=column({"field": "user_id"}, {"field": "total_score"}))[1][1] == cell


@pytest.mark.parametrize(
    ("pattern", "at", "cell"),
    [
        ("dd/MM/yyyy", 1598382054150, excel(datetime(2020, 8, 25))),
        ("yyyyMMdd", 1598382054150, excel(datetime(2020, 8, 25))),
        ("MM/yyyy", 1598382054150, "08/2020"),
        ("dd%MM%yyyy", 1598382054150, excel(datetime(2020, 8, 25))),
        ("dd/MM/yyyy", -2203977600000, "28/02/1900"),
        ("dd/MM/yyyy", -2203891200000, excel(datetime(1900, 3, 1))),
    ],
)
def test_a_date_that_excel_holds_is_a_date(pattern: str, at: int, cell: float | str) -> None:
    layout = column({"field": "completion_date", "format": pattern})
    assert cells({"completed_at": at}, layout=layout) == [[cell]]


def test_a_text_date_that_does_not_parse_stays_as_it_stands() -> None:
    rows = [{"enrolled_at": None, "enrolled_text": text} for text in ("some day", "2019-11-15", "=1")]
    assert cells(*rows, layout=column({"field": "enrolment_date"})) == [["some day"], [excel(datetime(2019, 11, 15))], ["=1"]]


def test_the_header_is_frozen_and_holds_the_labels() -> None:
    made = sheet(written(learners()))
    [pane] = made.iterfind(".//pane", NAMES)
    assert (pane.attrib["ySplit"], pane.attrib["state"]) == ("1", "frozen")
    labels = [text.text for text in made.iterfind(".//t", NAMES)]
    assert labels[:2] == ["Collection Id", "Collection Name"] and labels[-1] == "do_practice - Score"


def test_the_second_sheet_describes_the_columns_and_a_maximum_is_a_number() -> None:
    page = learners()
    made = replace(page.report, max_scores={QUIZ: Decimal("7.5")})
    labels, *found = rows_of(sheet(written(Learners(page.chunk, made)), 2))
    assert labels == list(LABELS)
    assert [tuple(cell or "" for cell in row) for row in found] == [
        tuple(float(cell) if cell in ("100", "7.5") else cell for cell in row) for row in description(made)[1:]
    ]


def test_columns_say_how_excel_shows_them() -> None:
    data = written(learners({"completed_at": 0}, layout=BUILT_IN["sunbird-lern-7"], attempted=[QUIZ]))
    styles = zipfile.ZipFile(io.BytesIO(data)).read("xl/styles.xml").decode()
    assert r"dd\/mm\/yyyy" in styles
    standard = zipfile.ZipFile(io.BytesIO(written(learners()))).read("xl/styles.xml").decode()
    assert "yyyy-mm-dd hh:mm:ss" in standard


def test_the_same_rows_are_the_same_bytes_whenever_they_are_written() -> None:
    page = learners({"state": "Goa"}, {"state": "Kerala"})
    data = written(page, page)
    assert data == written(page, page)
    with zipfile.ZipFile(io.BytesIO(data)) as workbook:
        assert {entry.date_time[:3] for entry in workbook.infolist()} <= {(1980, 1, 1), (1980, 1, 31)}
        assert workbook.read("docProps/core.xml").count(b"2022-09-28T00:00:00Z") == 2


def test_text_that_a_cell_has_no_room_for_is_cut_and_counted() -> None:
    most, smileys = "x" * 32_767, "🙂" * 20_000  # the latter count twice
    layout = column({"field": "user.state"}, {"field": "user.district"})
    states = [most, most + "y", smileys, "Goa", most + "y"]
    rows = [{"state": state, "district": most + "z"} for state in states]
    shown = [most, most, smileys[:16_383], "Goa", most]
    assert cells(*rows, layout=layout) == [[state, most] for state in shown]
    page = learners(*rows, layout=layout)
    assert written(page, page, cut_cells=2 * 8)
    long = Layout.model_validate({"columns": [{"label": most + "y", "field": "user.state"}], "scores": "none"})
    assert written(learners(layout=long), cut_cells=1)


def test_temporary_files_are_written_next_to_the_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/none")
    assert write_xlsx(tmp_path / "report.xlsx", learners().report, [], DAY) == (0, 0)


def test_what_a_sheet_holds() -> None:
    assert fits(MAX_ROWS - 1, MAX_COLUMNS)
    assert not fits(MAX_ROWS, 1)
    assert not fits(1, MAX_COLUMNS + 1)
