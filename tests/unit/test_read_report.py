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
NAME, COLUMNS, DAY, SECRET = "0133_progress_20220927", "columns_0133_20220927.csv", date(2022, 9, 27), "S3cret"
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
    notes = {COLUMNS: columns_csv(page.report, bom=False)} if described else {}
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


@pytest.mark.parametrize(("endings", "described"), [(("csv",), True), (("xlsx",), False), (("csv", "xlsx"), False)])
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


def test_without_its_workbook_or_openpyxl_a_csv_of_the_site_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.model_validate({"columns": [{"label": "Points", "field": "total_score"}], "nested_progress": False})
    path = package(tmp_path, learners(*ROWS, layout=layout), endings=("csv", "xlsx"))
    assert str(read_report(path)["Points"].dtype) == "float64"
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert str(read_report(path)["Points"].dtype) == "string"


def test_dates_of_another_form_than_the_built_in_layouts_are_texts(tmp_path: Path) -> None:
    columns = [column.model_dump() for column in BUILT_IN["standard"].columns]
    dated = [column | {"format": "dd/MM/yyyy"} if "Date" in column["label"] else column for column in columns]
    page = learners(*ROWS, layout=Layout.model_validate({"columns": dated}))
    frame = read_report(package(tmp_path, page))
    assert frame["Completion Date"].fillna("").tolist() == ["25/08/2020", "", ""]
    assert str(frame["Enrolment Date"].dtype) == "string" and frame["Total Score"][0] == 7.5
    frame = read_report(package(tmp_path, page, described=True))
    assert str(frame["Completion Date"].dtype) == "datetime64[ms]"


def test_labels_with_the_delimiter_of_another_layout(tmp_path: Path) -> None:
    columns = [{"label": "School, block, district", "field": "user_id"}, {"label": "Points, total", "field": "total_score"}]
    layout = Layout.model_validate({"columns": columns, "scores": "none", "nested_progress": False, "delimiter": ";"})
    for described in (False, True):
        frame = read_report(package(tmp_path, learners(*ROWS, layout=layout), described=described))
        assert list(frame.columns) == ["School, block, district", "Points, total"] and frame.iloc[0, 0] == "0012"
    (tmp_path / "x.csv").write_text("a, b;c, d, e\nx;y, z\n")
    assert list(read_report(tmp_path / "x.csv").columns) == ["a, b", "c, d, e"]


def test_the_labels_decide_about_the_delimiter_first(tmp_path: Path) -> None:
    columns = [column.model_dump() for column in BUILT_IN["standard"].columns]
    layout = Layout.model_validate({"columns": [*columns, {"label": "a;b;c", "field": "progress"}], "delimiter": ","})
    many = Layout.model_validate({"columns": [{"label": "Who", "field": "user_id"}, {"label": "; ; ;", "field": "progress"}],
                                  "scores": "none", "nested_progress": False})  # fmt: skip
    assert "a;b;c" in read_report(package(tmp_path, learners(layout=layout))).columns
    assert "; ; ;" in read_report(package(tmp_path, learners(layout=many), described=True)).columns


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_zip_with_several_reports_is_refused(tmp_path: Path, ending: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        for batch in ("0133", "0134"):
            made.writestr(f"{batch}_progress_20220927.{ending}", "Points\r\n1\r\n")
    with pytest.raises(InputError, match=rf"is a zip with 2 files of type {ending}\. Unzip it, and use one at a time"):
        read_report(tmp_path / "x.zip")


def test_numbers_of_each_size(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a - Score,b - Score\n18446744073709551616,0.5\n-1,-7\n,1e3\n")
    frame = read_report(tmp_path / "x.csv")
    assert frame["a - Score"].fillna(0).tolist() == [2.0**64, -1, 0]
    assert frame["b - Score"].fillna(0).tolist() == [0.5, -7, 1000]


@pytest.mark.parametrize("cell", ["nan", "inf", "-Infinity", "1_000", "1.2.3", "<NA>"])
def test_a_text_is_not_a_number(tmp_path: Path, cell: str) -> None:
    (tmp_path / "x.csv").write_text(f"a - Score,b\n{cell},1\n")
    with pytest.raises(InputError, match="has a text in the column 'a - Score', which has numbers only"):
        read_report(tmp_path / "x.csv")


def test_a_text_that_looks_like_an_escape_of_excel(tmp_path: Path) -> None:
    page = learners({"state": "_x0041_"})
    for ending in ("csv", "xlsx"):
        assert read_report(package(tmp_path, page, endings=(ending,)))["State"].tolist() == ["_x0041_"]


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
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr(f"{NAME}.csv", CELLS)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(with_method(data, 9))
    with pytest.raises(InputError, match="is packed in a way that is not read here"):
        read_report(tmp_path / "x.zip")
    (tmp_path / "x.csv").write_text("Progress,do_1 - Score\n1,a secret\n")
    with pytest.raises(InputError, match="has a text in the column 'do_1 - Score', which has numbers only") as raised:
        read_report(tmp_path / "x.csv")
    assert "secret" not in str(raised.value)


CELLS = b"Points\r\n1\r\n"


def with_method(package: bytes, method: int) -> bytes:
    """Return a zip with one file, whose compression method is changed at both places."""
    changed = bytearray(package)
    for start, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        changed[changed.index(start) + place] = method
    return bytes(changed)


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
        made.writestr(COLUMNS, "Label\r\nPoints\r\n")
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
