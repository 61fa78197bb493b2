"""Files that an attacker has made to stop `compare`, `open`, `erase` or read_report: each is refused, in little time."""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import openpyxl
import pytest

from progress_exhaust.compare.comparison import compare_reports
from progress_exhaust.erase.search import Content, LearnerSearch
from progress_exhaust.errors import InputError
from progress_exhaust.reading.data_frame import load_report
from progress_exhaust.reading.report_file import ReportFile
from progress_exhaust.reading.unpacking import unpack

MAX_ROWS = 1_048_576  # of a sheet
REPORT = b"User UUID,State\n" + b"user-1,Goa\n" * 50
NAME = "0133_progress_20220927.csv"


def report_file(path: Path) -> ReportFile:
    return ReportFile("FILE", path, None, key_source="nothing")


def compare(path: Path) -> None:
    file = report_file(path)
    compare_reports(file, file, key_label="User UUID", time_zone="Asia/Kolkata")


def read(path: Path) -> None:
    load_report(path, None)


def open_(path: Path) -> None:
    unpack(report_file(path), path.with_suffix(""))


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as package:
        for name, data in files:
            package.writestr(name, data)
    return target.getvalue()


def lzma_zip(dictionary_bytes: int) -> bytes:
    """Return a zip whose one file needs so much memory to unpack."""
    package = bytearray(zipped((NAME, REPORT), method=zipfile.ZIP_LZMA))
    properties = package.index(b".csv") + len(".csv") + 5
    package[properties : properties + 4] = dictionary_bytes.to_bytes(4, "little")
    return bytes(package)


@pytest.mark.parametrize("read_file", [compare, read])
@pytest.mark.parametrize(
    ("csv", "message"),
    {
        "columns": (b"User UUID" + b"," * 50_000 + b"\n", "has 50,001 columns"),
        "a label": (b"User UUID," + b"x" * 200_000 + b"\n", "has more than 131,072 characters"),
        "lines of a label": (b'User UUID,"' + b"\n" * 2_000_000 + b'"\n', "has more than 131,072 characters"),
        "the header": (b'User UUID,"' + b"x" * 5_000_000 + b'"\n', "its header has more than 4,194,304 bytes"),
    }.values(),
    ids=["columns", "a label", "lines of a label", "the header"],
)
def test_a_header_is_limited(tmp_path: Path, read_file: Callable[[Path], None], csv: bytes, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(csv)
    with pytest.raises(InputError, match=message):
        read_file(path)


def test_a_label_may_be_like_the_name_of_the_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"User UUID,\0row\nuser-1,7\n")
    compare(path)
    assert load_report(path, None).iloc[0].tolist() == ["user-1", "7"]


def test_a_large_cell_with_spark_quotes_takes_little_memory(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "x.csv"
    path.write_bytes(b'User UUID,State\nuser-1,"\\"x' + b"ab" * 5_000_000 + b'"\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compare(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@pytest.mark.parametrize("read_file", [compare, read, open_])
@pytest.mark.parametrize(
    ("package", "message"),
    [
        (lzma_zip(2**32 - 1), "is packed in a way that is not read here"),
        (zipped((NAME, REPORT), method=zipfile.ZIP_BZIP2), "is packed in a way that is not read here"),
        (zipped(*((f"columns_{number}_1.csv", b"") for number in range(20_000))), "is a zip of 20,000 files"),
    ],
    ids=["lzma", "bzip2", "files"],
)
def test_a_zip_is_limited(tmp_path: Path, read_file: Callable[[Path], None], package: bytes, message: str) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(package)
    with pytest.raises(InputError, match=message):
        read_file(path)
    assert [one.name for one in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("package", [lzma_zip(2**32 - 1), zipped((NAME, REPORT), method=zipfile.ZIP_BZIP2)])
@pytest.mark.parametrize("in_workbook", [False, True])
def test_erase_goes_on_after_a_package_that_it_cannot_unpack(package: bytes, in_workbook: bool) -> None:
    found = zipped(("0133_progress_20220927.xlsx", package)) if in_workbook else package
    assert LearnerSearch("user-1", []).content(io.BytesIO(found)) is Content.DAMAGED


def test_files_that_do_not_fit_on_the_disk_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped((NAME, b"User UUID\n" + b"a" * 3_000_000)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    with pytest.raises(InputError, match=r"FILE has 3,000,010 bytes, and .* has room for 2,000,000"):
        open_(path)
    assert [one.name for one in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize(
    ("size", "rows", "is_read"),
    [
        ("A1:XFD1048576", '<row r="2"><c r="A2"><v>1</v></c></row>', True),
        (f"A1:A{10 * MAX_ROWS}", f'<row r="{10 * MAX_ROWS}"><c r="A1"><v>1</v></c></row>', False),
    ],
    ids=["says that it is large", "ends far away"],
)
def test_a_sheet_is_as_large_as_its_cells(tmp_path: Path, size: str, rows: str, is_read: bool) -> None:
    book, target = openpyxl.Workbook(), io.BytesIO()
    book.save(target)
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f'<dimension ref="{size}"/><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>Label</t></is></c></row>{rows}'
        "</sheetData></worksheet>"
    )
    with zipfile.ZipFile(target) as made:
        files = {name: made.read(name) for name in made.namelist()} | {"xl/worksheets/sheet1.xml": sheet.encode()}
    path = tmp_path / "x.xlsx"
    path.write_bytes(zipped(*files.items()))
    if is_read:
        assert load_report(path, None).shape == (1, 1)
    else:
        with pytest.raises(InputError, match="is not a valid Excel workbook"):
            load_report(path, None)
