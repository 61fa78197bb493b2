"""`progress_exhaust.read_report`: the types of its columns, for each form of a report, and what the docs show."""

import io
import re
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from xlsxwriter import Workbook

from dev import docs
from progress_exhaust import read_report
from progress_exhaust.errors import InputError
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns_file import columns_csv
from progress_exhaust.report.csv_file import chunk_csv, header
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.package import Packed, write_package
from progress_exhaust.security.encryption import read_public_key
from progress_exhaust.security.levels import Level, Protection
from tests.openssl import key_pair
from tests.unit.test_pivot import QUIZ, learners, tried
from tests.unit.test_xlsx_file import written

GOLDEN = docs.PROJECT / "tests" / "golden"
NAME, DAY, SECRET = "0133_progress_20220927", date(2022, 9, 27), "S3cret"
AT = 1598363154150  # 2020-08-25 13:45:54.150 in UTC
ROWS: list[dict[str, Any]] = [
    {"user_id": "0012", "firstname": "முருகன்", "state": "=1+1", "completed_at": AT, "enrolled_at": 0,
     "attempts": [tried("1", 7.5, grand_total="7.5/10", total_max_score=10.0)]},
    {"user_id": "013300978801321105614", "state": "Kerala, \"the\" state", "enrolled_text": "some day", "enrolled_at": None},
    {"user_id": "u3", "district": "007", "enrolled_text": "2019-11-15 05:41:50:382+0000", "enrolled_at": None},
]  # fmt: skip


def csv_of(page: Learners) -> bytes:
    return header(page.report) + chunk_csv(page.chunk, page.report)


def package(
    folder: Path,
    page: Learners,
    protection: Protection | None = None,
    *,
    endings: tuple[str, ...] = ("csv",),
    described: bool = False,
) -> Path:
    data = {"csv": csv_of(page), "xlsx": written(page)}
    notes = {"columns_0133.csv": columns_csv(page.report, bom=False)} if described else {}
    reports = [Packed(f"{NAME}.{ending}", io.BytesIO(data[ending]), len(data[ending])) for ending in endings]
    write_package(reports, folder / f"{NAME}.zip", DAY, protection or Protection(Level.PLAIN), notes=notes)
    return folder / f"{NAME}.zip"


def check_standard(frame: pd.DataFrame, *, formulas: str) -> None:
    """Check the three learners in layout standard.

    :param formulas: what is before a text that a spreadsheet would run
    """
    assert frame["User UUID"].tolist() == ["0012", "013300978801321105614", "u3"]
    assert frame["Batch Id"].tolist() == ["0133"] * 3 and frame["User Name"][0] == "முருகன்"
    assert frame["State"][0] == f"{formulas}=1+1" and frame["State"][1] == 'Kerala, "the" state'
    assert frame["District"].isna().tolist() == [True, True, False] and frame["District"][2] == "007"
    assert {str(frame[label].dtype) for label in ("User UUID", "Batch Id", "State", "District")} == {"string"}
    assert frame["Completion Date"][0] == pd.Timestamp("2020-08-25T13:45:54.150Z") and frame["Completion Date"].isna().sum() == 2
    assert frame["Enrolment Date"].isna().tolist() == [False, True, False]
    assert frame["Enrolment Date"][2] == pd.Timestamp("2019-11-15T05:41:50.382Z")
    assert {str(frame[label].dtype) for label in ("Completion Date", "Enrolment Date")} == {"datetime64[ms, UTC]"}
    assert frame["Total Score"].sum() == 7.5 and frame["do_quiz - Score"].isna().tolist() == [False, True, True]
    numbers = [label for label in frame.columns if label.endswith((" - Score", " - Progress", "Progress", "Total Score"))]
    assert len(numbers) == 5 and {str(frame[label].dtype) for label in numbers} == {"float64"}


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("level", Level)
def test_a_csv_of_each_level(tmp_path: Path, level: Level, described: bool) -> None:
    private, public = key_pair(tmp_path)
    protection = Protection(level, SECRET, public_key=read_public_key(public.read_bytes()))
    path = package(tmp_path, learners(*ROWS), protection, described=described)
    check_standard(read_report(path, private.read_text() if level is Level.PUBLIC_KEY else SECRET), formulas="'")


@pytest.mark.parametrize("level", [Level.PLAIN, Level.PASSWORD, Level.TEXT_KEY])
def test_a_workbook_of_each_level(tmp_path: Path, level: Level) -> None:
    path = package(tmp_path, learners(*ROWS), Protection(level, SECRET), endings=("xlsx",))
    check_standard(read_report(str(path), SECRET), formulas="")


def test_a_workbook_needs_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = package(tmp_path, learners(*ROWS), endings=("xlsx",))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"is an Excel workbook\. To read it, install openpyxl"):
        read_report(path)


def test_the_file_in_the_package_and_both_files(tmp_path: Path) -> None:
    path = package(tmp_path, learners(*ROWS), endings=("csv", "xlsx"), described=True)
    with zipfile.ZipFile(path) as opened:
        opened.extractall(tmp_path)
    check_standard(read_report(path), formulas="'")
    check_standard(read_report(tmp_path / f"{NAME}.csv"), formulas="'")
    check_standard(read_report(tmp_path / f"{NAME}.xlsx"), formulas="")


@pytest.mark.parametrize("endings", [("csv",), ("xlsx",)])
def test_the_layout_of_the_spark_job(tmp_path: Path, endings: tuple[str, ...]) -> None:
    frame = read_report(package(tmp_path, learners(*ROWS, layout=BUILT_IN["sunbird-lern-7"], attempted=[QUIZ]), endings=endings))
    assert frame["Batch Id"].tolist() == ["BatchId_0133"] * 3
    assert frame["Completion Date"][0] == pd.Timestamp("2020-08-25") and str(frame["Completion Date"].dtype) == "datetime64[ms]"
    assert frame["Total Score"].tolist()[0] == 75 and frame["do_quiz - Score"].tolist()[0] == 75


@pytest.mark.parametrize(("endings", "described"), [(("csv",), True), (("xlsx",), False)])
def test_a_layout_of_the_site_by_its_description(tmp_path: Path, endings: tuple[str, ...], described: bool) -> None:
    columns = [
        {"label": "Who", "field": "user_id"},
        {"label": "When", "field": "completion_date", "format": "dd.MM.yyyy"},
        {"label": "Points", "field": "total_score"},
        {"label": "Month", "field": "completion_date", "format": "MM/yyyy"},
    ]
    layout = Layout.model_validate({"columns": columns, "scores": "none", "nested_progress": False, "delimiter": ";",
                                    "decimal_sign": ",", "bom": True})  # fmt: skip
    frame = read_report(package(tmp_path, learners(*ROWS, layout=layout), endings=endings, described=described))
    assert frame["Who"][0] == "0012" and frame["Points"][0] == 7.5 and frame["Month"][0] == "08/2020"
    assert frame["When"][0] == pd.Timestamp("2020-08-25") and str(frame["When"].dtype) == "datetime64[ms]"


def test_a_csv_of_the_site_without_its_description_is_text(tmp_path: Path) -> None:
    layout = Layout.model_validate({"columns": [{"label": "Points", "field": "total_score"}], "nested_progress": False})
    frame = read_report(package(tmp_path, learners(*ROWS, layout=layout)))
    assert [str(frame[label].dtype) for label in frame.columns] == ["string", "float64", "float64"]


def test_a_report_without_learners_has_the_types_too(tmp_path: Path) -> None:
    for endings in (("csv",), ("xlsx",)):
        frame = read_report(package(tmp_path, learners(), endings=endings))
        assert len(frame) == 0
        assert [str(frame[label].dtype) for label in ("User UUID", "Enrolment Date", "Total Score")] == [
            "string", "datetime64[ms, UTC]", "float64",
        ]  # fmt: skip


@pytest.mark.parametrize("name", ["literacy-batch1", "teachers", "science-for-another-org"])
def test_the_reports_of_the_sample_data(name: str) -> None:
    frame = read_report(GOLDEN / f"{name}.csv")
    cells = pd.read_csv(GOLDEN / f"{name}.csv", dtype=str, keep_default_na=False)
    assert list(frame.columns) == list(cells.columns) and len(frame) == len(cells) > 0
    for label in ("User UUID", "User Name", "State", "Batch Id"):
        assert frame[label].fillna("").tolist() == cells[label].tolist()
    scores = pd.to_numeric(cells["Total Score"].replace("", None)).astype("float64")
    assert frame["Total Score"].equals(scores.rename("Total Score"))
    assert frame["Completion Date"].notna().sum() == (cells["Completion Date"] != "").sum()


@pytest.mark.parametrize(
    ("key", "message"), [(None, "needs a password. Give it by the argument password"), ("wrong", "The password of .* is wrong")]
)
def test_the_wrong_password(tmp_path: Path, key: str | None, message: str) -> None:
    path = package(tmp_path, learners(*ROWS), Protection(Level.PASSWORD, SECRET))
    with pytest.raises(InputError, match=message):
        read_report(path, key)


def test_what_is_not_a_report(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("x.txt", b"text")
    with pytest.raises(InputError, match="is a zip without a report"):
        read_report(tmp_path / "x.zip")
    (tmp_path / "x.csv").write_text("Progress,do_1 - Score\n1,a secret\n")
    with pytest.raises(InputError, match="has a text in the column 'do_1 - Score', which has numbers only") as raised:
        read_report(tmp_path / "x.csv")
    assert "secret" not in str(raised.value)


def empty_workbook(*sheets: str) -> bytes:
    with io.BytesIO() as made:
        with Workbook(made) as workbook:
            for sheet in sheets:
                workbook.add_worksheet(sheet)
        return made.getvalue()


@pytest.mark.parametrize("content", [b"PK damaged", empty_workbook("Report"), empty_workbook("Report", "Columns")])
def test_a_workbook_that_is_not_valid(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr(f"{NAME}.xlsx", content)
    with pytest.raises(InputError, match=r"x\.zip is not a valid Excel workbook"):
        read_report(tmp_path / "x.zip")


def test_a_description_that_is_not_ours_is_not_used(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr(f"{NAME}.csv", "Points,Points\r\n1,2\r\n")
        made.writestr("columns_0133.csv", "Label\r\nPoints\r\n")
    frame = read_report(tmp_path / "x.zip")
    assert (list(frame.columns), frame["Points"][0]) == (["Points", "Points (2)"], "1")


def test_the_package_imports_pandas_only_when_a_report_is_read() -> None:
    heavy = ["airflow", "numpy", "openpyxl", "pandas", "pyarrow", "pyzipper"]
    code = f"import sys, progress_exhaust; sys.exit(bool({{*{heavy}}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=docs.PROJECT / "plugins", check=False).returncode == 0


def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (docs.PROJECT / "docs" / "how-to/read-reports-with-pandas.md").read_text()
    script, output = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    rows = [
        {"user_id": "14de28f4-5b98-4694-bca2-01c6064f4c00", "completed_at": AT // 1000 * 1000, "attempts": [tried("1", 7.5)]},
        {"user_id": "4b49cc68-107e-4eec-a99c-ff4155d098c5"},
    ]
    path = package(tmp_path, learners(*rows), Protection(Level.PASSWORD, "the password"))
    path.rename(tmp_path / "013307481768378368112_progress_20220927.zip")
    monkeypatch.chdir(tmp_path)
    exec(script, {})  # noqa: S102
    assert capsys.readouterr().out == output
