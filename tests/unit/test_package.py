"""The package: the csv under its own name, and the same bytes for the same csv."""

import io
import subprocess
import time
import zipfile
from datetime import date
from pathlib import Path

import pytest

from dev import machine
from progress_exhaust.report.package import MOST_ZIP32_BYTES, chunks_of, write_zip

NAME, DAY = "013307481768378368112_progress_20220927.csv", date(2022, 9, 27)
CSV = "User UUID,State\r\nu1,தமிழ்நாடு\r\n".encode() * 100_000  # more than a chunk
OLD_TOOLS, ZIP64 = 20, 45  # version needed to extract


@pytest.fixture(autouse=True, scope="module")
def tools() -> None:
    """Have what a requester opens the package with."""
    machine.install_packages()


def packed(path: Path, data: bytes = CSV, day: date = DAY, size_bytes: int | None = None) -> Path:
    size_bytes = len(data) if size_bytes is None else size_bytes
    write_zip(chunks_of(io.BytesIO(data)), path, NAME, day, size_bytes=size_bytes)
    return path


def printed(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


SIZES = [pytest.param(None, id="small"), pytest.param(MOST_ZIP32_BYTES + 1, id="as a csv over 4 GB")]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_unzip_and_7z_open_it(tmp_path: Path, size_bytes: int | None) -> None:
    package = packed(tmp_path / "x.zip", size_bytes=size_bytes)
    assert b"No errors detected" in printed("unzip", "-t", package)
    assert printed("unzip", "-p", package) == CSV
    assert b"Everything is Ok" in printed("7z", "t", package)
    assert printed("7z", "e", "-so", package) == CSV


@pytest.mark.parametrize(("size_bytes", "version"), [(MOST_ZIP32_BYTES, OLD_TOOLS), (MOST_ZIP32_BYTES + 1, ZIP64)])
def test_only_a_csv_over_4_gb_asks_for_a_tool_that_knows_zip64(tmp_path: Path, size_bytes: int, version: int) -> None:
    with zipfile.ZipFile(packed(tmp_path / "x.zip", size_bytes=size_bytes)) as package:
        assert package.infolist()[0].extract_version == version
        assert package.read(NAME) == CSV


def test_the_machines_time_zone_is_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed(tmp_path / "a.zip").read_bytes()
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert packed(tmp_path / "b.zip").read_bytes() == first
    finally:
        monkeypatch.undo()
        time.tzset()


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
