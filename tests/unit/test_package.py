"""The package: the csv under its own name, and the same bytes for the same csv."""

import io
import json
import re
import subprocess
import time
import zipfile
from datetime import date, timedelta
from pathlib import Path

import pytest

from dev import machine
from progress_exhaust.report.choice import Reason, choose_named
from progress_exhaust.report.package import MAX_ZIP32_BYTES, Packed, write_package
from progress_exhaust.report.request import Batch, JobRequest, is_path_part
from progress_exhaust.security.encryption import read_public_key
from progress_exhaust.security.levels import MAX_PASSWORD_BYTES, Level, Protection
from tests.openssl import decrypted, key_pair

NAME, DAY = "013307481768378368112_progress_20220927.csv", date(2022, 9, 27)
WORKBOOK = NAME.replace(".csv", ".xlsx")
CSV = "User UUID,State\r\nu1,தமிழ்நாடு\r\n".encode() * 100_000  # more than a chunk
OLD_TOOLS, ZIP64 = 20, 45  # version needed to extract
PLAIN = Protection(Level.PLAIN)
PASSWORDS = ["S3cret pass-word", "पासवर्ड १२३", "p" * MAX_PASSWORD_BYTES]


@pytest.fixture(autouse=True, scope="module")
def tools() -> None:
    """Have what a requester opens the package with."""
    machine.install_packages()


def packed(
    path: Path,
    data: bytes = CSV,
    day: date = DAY,
    protection: Protection = PLAIN,
    size_bytes: int | None = None,
    zip_cipher: str = "AES-256",
    notes: dict[str, bytes] | None = None,
) -> Path:
    report = Packed(NAME, io.BytesIO(data), len(data) if size_bytes is None else size_bytes)
    write_package([report], path, day, protection, zip_cipher=zip_cipher, notes=notes or {})
    return path


def printed(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def opens(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


SIZES = [pytest.param(None, id="small"), pytest.param(MAX_ZIP32_BYTES + 1, id="as a csv over 4 GB")]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_unzip_and_7z_open_it(tmp_path: Path, size_bytes: int | None) -> None:
    package = packed(tmp_path / "x.zip", size_bytes=size_bytes)
    assert b"No errors detected" in printed("unzip", "-t", package)
    assert printed("unzip", "-p", package) == CSV
    assert b"Everything is Ok" in printed("7z", "t", package)
    assert printed("7z", "e", "-so", package) == CSV


@pytest.mark.parametrize(("size_bytes", "version"), [(MAX_ZIP32_BYTES, OLD_TOOLS), (MAX_ZIP32_BYTES + 1, ZIP64)])
def test_only_a_csv_over_4_gb_asks_for_a_tool_that_knows_zip64(tmp_path: Path, size_bytes: int, version: int) -> None:
    with zipfile.ZipFile(packed(tmp_path / "x.zip", size_bytes=size_bytes)) as package:
        assert package.infolist()[0].extract_version == version
        assert package.read(NAME) == CSV


HOSTILE_IDS = [
    "../../etc/passwd", "..", ".", "/etc/passwd", "C:\\x", "a\\b", "a/b", "a\nb", "a\x00b", "a\u202ecsv.exe", "%2e%2e", "~",
    "-rf", "", " a", "a:b", "a*", "a|b", 'a"b', "COM¹", "é", "a..b", ".hidden", "x" * 201, "0133.bat", "0133", "a-b_c.d",
]  # fmt: skip


@pytest.mark.parametrize("batch_id", HOSTILE_IDS)
def test_an_entry_is_a_plain_name_whatever_the_batch_is_called(tmp_path: Path, batch_id: str) -> None:
    batch = Batch("tag", "A1", "org", batch_id, "do_1")
    if not is_path_part(batch_id):  # then its request is FAILED, and nothing is packed
        request = JobRequest("tag", "A1", json.dumps({"batchFilter": [batch_id]}), "requester", "org", None, ())
        choice = choose_named(request, [batch_id], {batch_id: [("do_1", batch_id, "")]}, {"do_1": {}})
        assert choice.planned == [] and list(choice.rejected.values()) == [Reason.INVALID_ID]
        return
    text = b"../../batch\n/etc/passwd: a name of a collection"
    target = tmp_path / "x.zip"
    reports = [Packed(batch.file_name(DAY, ending), io.BytesIO(b"a\r\n"), 3) for ending in ("csv", "xlsx")]
    write_package(
        reports, target, DAY, PLAIN, notes=dict.fromkeys((batch.columns_file_name(DAY), batch.summary_file_name(DAY)), text)
    )
    with zipfile.ZipFile(target) as package:
        assert package.namelist() == [
            f"{batch_id}_progress_20220927.csv", f"{batch_id}_progress_20220927.xlsx", f"columns_{batch_id}_20220927.csv",
            f"summary_{batch_id}_20220927.txt",
        ]  # fmt: skip
        for entry in package.infolist():
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", entry.orig_filename) and ".." not in entry.orig_filename
            assert (entry.external_attr >> 16) & 0o170000 in (0, 0o100000)  # a file: no folder, no link
            assert (entry.external_attr >> 16) & 0o7777 == 0o644


def test_the_package_does_not_depend_on_the_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_every_user_may_read_an_unpacked_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tmp_path / "x.zip")) as package:
        assert package.infolist()[0].external_attr >> 16 == 0o644


def test_an_empty_csv_is_a_package_too(tmp_path: Path) -> None:
    assert zipfile.ZipFile(packed(tmp_path / "x.zip", data=b"")).read(NAME) == b""


# With a password


@pytest.mark.parametrize("password", PASSWORDS, ids=["plain", "hindi", "long"])
@pytest.mark.parametrize("size_bytes", SIZES)
def test_7z_opens_an_aes_zip_with_the_password_alone(tmp_path: Path, password: str, size_bytes: int | None) -> None:
    package = packed(tmp_path / "x.zip", protection=Protection(Level.PASSWORD, password), size_bytes=size_bytes)
    assert printed("7z", "e", "-so", f"-p{password}", package) == CSV
    assert not opens("7z", "t", f"-p{password}x", package)
    assert not opens("7z", "t", "-p", package)
    assert b"Method = AES-256 Deflate" in printed("7z", "l", "-slt", package)


@pytest.mark.parametrize("password", PASSWORDS, ids=["plain", "hindi", "long"])
@pytest.mark.parametrize("size_bytes", SIZES)
def test_old_tools_open_a_zipcrypto_zip_with_the_password_alone(tmp_path: Path, password: str, size_bytes: int | None) -> None:
    package = packed(
        tmp_path / "x.zip", protection=Protection(Level.PASSWORD, password), size_bytes=size_bytes, zip_cipher="ZipCrypto"
    )
    for command in (["unzip", "-p", "-P", password], ["7z", "e", "-so", f"-p{password}"]):
        assert printed(*command, package) == CSV
    with zipfile.ZipFile(package) as opened:
        assert opened.read(NAME, password.encode()) == CSV
    assert not opens("unzip", "-t", "-P", f"{password}x", package)
    assert not opens("7z", "t", "-p", package)
    assert b"Method = ZipCrypto Deflate" in printed("7z", "l", "-slt", package)


@pytest.mark.parametrize("zip_cipher", ["AES-256", "ZipCrypto"])
def test_an_empty_csv_is_protected_too(tmp_path: Path, zip_cipher: str) -> None:
    protection = Protection(Level.PASSWORD, "S3cret")
    package = packed(tmp_path / "x.zip", b"", protection=protection, zip_cipher=zip_cipher)
    assert printed("7z", "e", "-so", "-pS3cret", package) == b""
    assert not opens("7z", "t", "-pother", package)


@pytest.mark.parametrize("zip_cipher", ["AES-256", "ZipCrypto"])
def test_a_protected_zip_is_never_the_same_twice(tmp_path: Path, zip_cipher: str) -> None:
    protection = Protection(Level.PASSWORD, "S3cret")
    first, second = (
        packed(tmp_path / name, protection=protection, zip_cipher=zip_cipher).read_bytes() for name in ("a.zip", "b.zip")
    )
    assert first != second


def test_an_unknown_cipher_never_makes_an_open_zip(tmp_path: Path) -> None:
    package = packed(tmp_path / "x.zip", protection=Protection(Level.PASSWORD, "S3cret"), zip_cipher="unheard of")
    assert printed("7z", "e", "-so", "-pS3cret", package) == CSV
    assert not opens("7z", "t", "-pother", package)


@pytest.mark.parametrize("level", [Level.PASSWORD, Level.TEXT_KEY, Level.PUBLIC_KEY])
@pytest.mark.parametrize("text", [None, ""])
def test_a_level_without_its_key_makes_no_file(tmp_path: Path, level: Level, text: str | None) -> None:
    with pytest.raises(ValueError, match="without its key"):
        packed(tmp_path / "x.zip", protection=Protection(level, text))
    assert not (tmp_path / "x.zip").exists()


NOTES = {"columns_0133_20220927.csv": b"Column\r\n", "summary_0133_20220927.txt": b"Enrolled 3, reported 2\r\n"}


@pytest.mark.parametrize("zip_cipher", ["AES-256", "ZipCrypto"])
def test_notes_are_packed_with_the_csv_and_protected_like_it(tmp_path: Path, zip_cipher: str) -> None:
    plain = packed(tmp_path / "plain.zip", notes=NOTES)
    for name, content in ({NAME: CSV} | NOTES).items():
        assert printed("unzip", "-p", plain, name) == content
    locked = packed(
        tmp_path / "x.zip", CSV[:1000], protection=Protection(Level.PASSWORD, "pw"), zip_cipher=zip_cipher, notes=NOTES
    )
    for name, content in ({NAME: CSV[:1000]} | NOTES).items():
        assert printed("7z", "e", "-so", "-ppw", locked, name) == content
        assert not opens("7z", "t", "-pwrong", locked, name)


def test_notes_are_never_in_clear_next_to_an_encrypted_csv(tmp_path: Path) -> None:
    package = packed(tmp_path / "x.zip", protection=Protection(Level.TEXT_KEY, "text"), notes=NOTES)
    with zipfile.ZipFile(package) as made:
        assert made.namelist() == [NAME]


def test_notes_of_two_batches_or_days_have_different_names() -> None:
    for batch_id in ("0133", "0134"):
        batch = Batch("tag", "A1", "org", batch_id, "do_1")
        for day, digits in ((DAY, "20220927"), (DAY + timedelta(days=7), "20221004")):
            assert batch.summary_file_name(day) == f"summary_{batch_id}_{digits}.txt"
            assert batch.columns_file_name(day) == f"columns_{batch_id}_{digits}.csv"


# A csv and a workbook


def test_both_files_over_4_gb_together_ask_for_a_tool_that_knows_zip64(tmp_path: Path) -> None:
    """The directory of the zip may start after 4 GiB then."""
    target, half = tmp_path / "x.zip", MAX_ZIP32_BYTES // 2 + 1
    reports = [Packed(name, io.BytesIO(data), half) for name, data in ((NAME, CSV), (WORKBOOK, b"a workbook"))]
    write_package(reports, target, DAY, PLAIN)
    assert b"Everything is Ok" in printed("7z", "t", target)
    with zipfile.ZipFile(target) as package:
        assert [entry.extract_version for entry in package.infolist()] == [ZIP64, ZIP64]


@pytest.mark.parametrize("level", [Level.PLAIN, Level.PASSWORD, Level.TEXT_KEY])
def test_both_files_of_a_report_are_packed_and_protected(tmp_path: Path, level: Level) -> None:
    target, names, text = tmp_path / "x.zip", (NAME, WORKBOOK), None if level is Level.PLAIN else "S3cret"
    contents = dict(zip(names, (CSV, b"a workbook"), strict=True))
    write_package(
        [Packed(name, io.BytesIO(data), len(data)) for name, data in contents.items()], target, DAY, Protection(level, text)
    )
    for name, data in contents.items():
        found = printed("7z", "e", "-so", f"-p{text}", target, name)
        assert (decrypted(found, text=text) if level is Level.TEXT_KEY else found) == data
    if level is Level.TEXT_KEY:
        keys = {printed("7z", "e", "-so", target, name).split(b"\n", 2)[1] for name in names}
        assert len(keys) == 2, "each file has a key of its own"


# What the zip says to its receiver

KEY_OF = {Level.PASSWORD: "S3cret", Level.TEXT_KEY: "S3cret"}
COMMENTS = [
    (Level.PLAIN, "AES-256", []),
    (Level.PASSWORD, "AES-256", ["a password", "AES-256", "7-Zip", "Windows Explorer"]),
    (Level.PASSWORD, "ZipCrypto", ["a password"]),
    (Level.TEXT_KEY, "AES-256", [Level.TEXT_KEY, "decryption tool", "progress-exhaust open", "the text"]),
    (Level.PUBLIC_KEY, "AES-256", [Level.PUBLIC_KEY, "decryption tool", "progress-exhaust open", "the private key"]),
]


@pytest.mark.parametrize(("level", "zip_cipher", "parts"), COMMENTS)
@pytest.mark.parametrize("size_bytes", SIZES)
def test_the_comment_says_how_to_open_it_and_every_tool_still_does(
    tmp_path: Path, level: Level, zip_cipher: str, parts: list[str], size_bytes: int | None
) -> None:
    public_key = read_public_key(key_pair(tmp_path)[1].read_bytes()) if level is Level.PUBLIC_KEY else None
    protection = Protection(level, KEY_OF.get(level), public_key=public_key)
    package, again = (
        packed(tmp_path / name, CSV[:1000], protection=protection, zip_cipher=zip_cipher, size_bytes=size_bytes)
        for name in ("a.zip", "b.zip")
    )
    with zipfile.ZipFile(package) as opened, zipfile.ZipFile(again) as other:
        comment = opened.comment.decode("ascii")
        assert other.comment == opened.comment and opened.namelist() == [NAME]
    assert [part for part in parts if part not in comment] == [] and bool(comment) == bool(parts)
    assert ("AES" in comment) == ("AES-256" in parts)
    assert printed("unzip", "-z", package).decode().replace("\r", "").strip().endswith(comment.replace("\r", "").strip())
    assert b"Everything is Ok" in printed("7z", "t", "-pS3cret", package)
    content = printed("7z", "e", "-so", "-pS3cret", package)
    assert (content == CSV[:1000]) == (level in (Level.PLAIN, Level.PASSWORD))
    if zip_cipher == "ZipCrypto":
        assert printed("unzip", "-p", "-P", "S3cret", package) == CSV[:1000]
