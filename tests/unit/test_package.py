"""The package: the csv under its own name, and the same bytes for the same csv."""

import io
import zipfile
from datetime import date
from pathlib import Path

from progress_exhaust.report.package import write_zip

NAME, DAY = "013307481768378368112_progress_20220927.csv", date(2022, 9, 27)
CSV = "User UUID,State\r\nu1,தமிழ்நாடு\r\n".encode() * 1000


def packed(path: Path, data: bytes = CSV, day: date = DAY) -> Path:
    write_zip(io.BytesIO(data), path, NAME, day)
    return path


def test_the_zip_holds_the_csv_alone_under_its_own_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tmp_path / "x.zip")) as package:
        assert package.testzip() is None
        assert package.namelist() == [NAME]
        assert package.read(NAME) == CSV


def test_it_is_compressed(tmp_path: Path) -> None:
    assert packed(tmp_path / "x.zip").stat().st_size < len(CSV) / 10


def test_it_is_dated_by_the_reports_day(tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tmp_path / "x.zip")) as package:
        assert package.infolist()[0].date_time == (2022, 9, 27, 0, 0, 0)


def test_the_same_csv_is_the_same_bytes(tmp_path: Path) -> None:
    assert packed(tmp_path / "a.zip").read_bytes() == packed(tmp_path / "b.zip").read_bytes()


def test_another_day_or_csv_is_not(tmp_path: Path) -> None:
    first = packed(tmp_path / "a.zip").read_bytes()
    assert packed(tmp_path / "b.zip", day=date(2022, 9, 28)).read_bytes() != first
    assert packed(tmp_path / "c.zip", data=CSV[:-1]).read_bytes() != first


def test_a_package_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"half a file" * 10_000)
    assert zipfile.ZipFile(packed(tmp_path / "x.zip")).read(NAME) == CSV


def test_whoever_unpacks_it_may_read_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tmp_path / "x.zip")) as package:
        assert package.infolist()[0].external_attr >> 16 == 0o644


def test_an_empty_csv_is_a_package_too(tmp_path: Path) -> None:
    assert zipfile.ZipFile(packed(tmp_path / "x.zip", data=b"")).read(NAME) == b""
