"""What a person sees after a double click on a report in LibreOffice: the cells as it shows them, with its own settings."""

import csv
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import machine
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.layout import BUILT_IN
from tests.unit.test_pivot import QUIZ, learners, tried
from tests.unit.test_read_report import csv_of
from tests.unit.test_xlsx_file import written

pytestmark = pytest.mark.slow  # it installs LibreOffice: 130 MB

# Comma, quote, UTF-8, from the first row, no formats of columns, any language, no quotes that are not needed, no detection of
# numbers, cells as they are shown, no formulas, blanks stay, first sheet.
AS_SHOWN = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,true,false,false,1"
TEXTS = [
    "013300978801321105614", "12345678901234567890", "0012", "03150400101", "1e5", "1E+10", "TRUE", "1-2", "2020-01-02", "3/4",
    "Mar-5", "12:30", "1/1/2020", "=1+1", "@SUM(A1)", "+91", "10%", "1.50", "1,5", "#N/A", " padded ", "'quoted", 'a "b" c', "-5",
    "முருகன்", "हिन्दी नाम", "বাংলা", "ਪੰਜਾਬ", "اردو", "🙂", "x" * 300,
]  # fmt: skip
SCORES = [7.5, 0.0001, 1234.5678, -0.5, 10.0, 99999999.25, None]
AS_PROPOSED = "--infilter=CSV:44,34,76,1,,0,false,false"  # what its dialog proposes for a csv
AT = 1598363154150  # 2020-08-25 13:45:54.150 in UTC


def page(layout: str) -> Learners:
    rows = [
        {"user_id": f"{number:04}", "state": text, "completed_at": AT + number * 86_400_000, "attempts": [tried("1", score)],
         "district": None if number % 2 else "007"}
        for number, (text, score) in enumerate(zip(TEXTS, SCORES * 9, strict=False))
    ]  # fmt: skip
    return learners(*rows, layout=BUILT_IN[layout], attempted=[QUIZ])


def as_shown(folder: Path, name: str, data: bytes, *options: str) -> list[dict[str, str]]:
    """Open a file as a double click does; return the rows of its first sheet, as they are shown."""
    machine.install_libreoffice()
    (folder / name).write_bytes(data)
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", *options, "--convert-to", AS_SHOWN, "--outdir", folder / "shown", folder / name]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [shown] = (folder / "shown").iterdir()
    return list(csv.DictReader(shown.read_text("utf-8").splitlines(), strict=True))


def in_the_report(made: Learners) -> list[dict[str, str]]:
    return list(csv.DictReader(csv_of(made).decode().splitlines(), strict=True))


def damaged(shown: list[dict[str, str]], report: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the column and the cell of the report that is shown as something else."""
    assert len(shown) == len(report) and list(shown[0]) == list(report[0])
    for one, other in zip(shown, report, strict=True):
        yield from ((label, cell) for label, cell in other.items() if one[label] != cell)


@pytest.mark.parametrize("layout", BUILT_IN)
def test_a_workbook_shows_what_the_csv_has(tmp_path: Path, layout: str) -> None:
    made = page(layout)
    shown = as_shown(tmp_path, "report.xlsx", written(made))
    milliseconds = re.compile(r":[0-9]{3}\+0000$")  # a workbook does not show them
    expected = [{label: milliseconds.sub("", cell) for label, cell in row.items()} for row in in_the_report(made)]
    different = list(damaged(shown, expected))
    # A workbook needs no apostrophe before a text that a csv would run as a formula.
    assert [cell for _, cell in different] == ["'=1+1", "'@SUM(A1)"]
    assert [row["State"] for row in shown] == [text.strip() if made.report.layout.trimmed else text for text in TEXTS]


def test_a_csv_loses_digits_and_zeros(tmp_path: Path) -> None:
    made = page("standard")
    different = set(damaged(as_shown(tmp_path, "report.csv", csv_of(made), AS_PROPOSED), in_the_report(made)))
    assert {label for label, _ in different} == {"Batch Id", "User UUID", "State", "District"}
    assert {cell for label, cell in different if label == "State"} == {
        "013300978801321105614", "12345678901234567890", "0012", "03150400101", "1e5", "1E+10", "+91", "1.50",
    }  # fmt: skip
