"""Which packages contain a learner: packages of every level and form, and ids that are parts of others."""

import io
import json
import zipfile
from datetime import date
from pathlib import Path

import pytest

from progress_exhaust.cli_erase import _layouts_without_ids
from progress_exhaust.erase import search
from progress_exhaust.erase.search import Content, LearnerSearch
from progress_exhaust.report.options import OutputFormat
from progress_exhaust.report.package import Packed, write_package
from progress_exhaust.security.encryption import read_public_key
from progress_exhaust.security.levels import Level, Protection, ZipCipher
from progress_exhaust.settings import parse_settings
from tests.openssl import key_pair
from tests.unit.test_pivot import learners
from tests.unit.test_xlsx_file import written

NAME, DAY = "0133_progress_20220927", date(2022, 9, 27)
LEARNER, OTHER = "14de28f4-5b98-4694-bca2-01c6064f4c00", "4b49cc68-107e-4eec-a99c-ff4155d098c5"
CSV = f"User UUID,User Name\r\n{LEARNER},Asha Rao\r\n".encode()
SECRET, PLAIN = "S3cret पासवर्ड", Protection(Level.PLAIN)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """Return a private key in PEM form, and its public key."""
    private, public = key_pair(tmp_path_factory.mktemp("keys"))
    return private.read_text(), public.read_bytes()


def package(folder: Path, report: bytes = CSV, protection: Protection = PLAIN, ending: str = "csv", **options: ZipCipher) -> Path:
    target = folder / f"{NAME}.zip"
    write_package([Packed(f"{NAME}.{ending}", io.BytesIO(report), len(report))], target, DAY, protection, **options)
    return target


def content_of(path: Path, learner: str = LEARNER, *keys: str) -> Content:
    with path.open("rb") as opened:
        return LearnerSearch(learner, keys).content(opened)


def test_a_plain_package_with_the_learner_and_without(tmp_path: Path) -> None:
    assert content_of(package(tmp_path)) is Content.HAS_LEARNER
    assert content_of(package(tmp_path), OTHER) is Content.WITHOUT_LEARNER


@pytest.mark.parametrize("cipher", list(ZipCipher))
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_package_with_a_password(tmp_path: Path, cipher: ZipCipher, ending: str) -> None:
    report = CSV if ending == "csv" else written(learners({"user_id": LEARNER}))
    path = package(tmp_path, report, Protection(Level.PASSWORD, SECRET), ending, zip_cipher=cipher)
    assert content_of(path, LEARNER) is Content.PROTECTED
    assert content_of(path, LEARNER, *(f"wrong-{number}" for number in range(300))) is Content.PROTECTED
    assert content_of(path, LEARNER, "wrong", SECRET) is Content.HAS_LEARNER
    assert content_of(path, OTHER, "wrong", SECRET) is Content.WITHOUT_LEARNER


def test_a_package_of_an_encrypted_csv(tmp_path: Path, keys: tuple[str, bytes]) -> None:
    private, public = keys
    of_text = package(tmp_path, CSV, Protection(Level.TEXT_KEY, SECRET))
    assert content_of(of_text, LEARNER, private) is Content.PROTECTED
    assert content_of(of_text, LEARNER, private, SECRET) is Content.HAS_LEARNER
    assert content_of(of_text, OTHER, SECRET) is Content.WITHOUT_LEARNER
    of_key = package(tmp_path, CSV, Protection(Level.PUBLIC_KEY, public_key=read_public_key(public)))
    assert content_of(of_key, LEARNER, SECRET) is Content.PROTECTED
    assert content_of(of_key, LEARNER, SECRET, private) is Content.HAS_LEARNER
    assert content_of(of_key, OTHER, private) is Content.WITHOUT_LEARNER


@pytest.mark.parametrize("level", [Level.TEXT_KEY, Level.PUBLIC_KEY])
def test_an_encrypted_workbook(tmp_path: Path, keys: tuple[str, bytes], level: Level) -> None:
    private, public = keys
    protection = Protection(level, SECRET, public_key=read_public_key(public))
    path = package(tmp_path, written(learners({"user_id": LEARNER})), protection, ending=OutputFormat.XLSX)
    assert content_of(path) is Content.PROTECTED
    assert content_of(path, LEARNER, private, SECRET) is Content.HAS_LEARNER
    assert content_of(path, OTHER, private, SECRET) is Content.WITHOUT_LEARNER


@pytest.mark.parametrize("level", [Level.PLAIN, Level.PASSWORD, Level.TEXT_KEY])
def test_a_package_of_both_files_and_the_description(tmp_path: Path, level: Level) -> None:
    target = tmp_path / f"{NAME}.zip"
    contents = {f"{NAME}.csv": CSV, f"{NAME}.xlsx": written(learners({"user_id": LEARNER}))}
    reports = [Packed(name, io.BytesIO(data), len(data)) for name, data in contents.items()]
    protection = Protection(level, None if level is Level.PLAIN else SECRET)
    write_package(reports, target, DAY, protection, notes={"columns_0133_20220927.csv": b"Column\r\n"})
    assert content_of(target, LEARNER, SECRET) is Content.HAS_LEARNER
    assert content_of(target, OTHER, SECRET) is Content.WITHOUT_LEARNER


def test_a_workbook(tmp_path: Path) -> None:
    path = package(tmp_path, written(learners({"user_id": LEARNER})), ending=OutputFormat.XLSX)
    assert content_of(path) is Content.HAS_LEARNER
    assert content_of(path, OTHER) is Content.WITHOUT_LEARNER


def test_a_damaged_workbook(tmp_path: Path) -> None:
    assert content_of(package(tmp_path, b"not a workbook", ending=OutputFormat.XLSX)) is Content.DAMAGED


@pytest.mark.parametrize(
    ("row", "has_learner"),
    [
        ("learner-1", True),
        ("x\tlearner-1", True),
        ('"learner-1"', True),
        ("'learner-1", True),  # format excel_text
        ("User_learner-1", True),  # a prefix
        ("learner-12", False),
        ("alearner-1", False),
        ("learner-2", False),
    ],
)
def test_an_id_is_not_found_in_a_longer_one(tmp_path: Path, row: str, has_learner: bool) -> None:
    path = package(tmp_path, row.encode())
    assert (content_of(path, "learner-1") is Content.HAS_LEARNER) == has_learner


@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 11, 64])
@pytest.mark.parametrize("row", ["learner-1", "before\nlearner-1\nafter", "xlearner-1 learner-12 learner-1"])
def test_an_id_is_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, row: str) -> None:
    monkeypatch.setattr(search, "READ_BYTES", size)
    path = package(tmp_path, row.encode())
    assert content_of(path, "learner-1") is Content.HAS_LEARNER
    for longer in ("xlearner-1", "learner-12", "alearner-1 learner-1b", "learner-1" * 9):
        assert content_of(package(tmp_path, longer.encode()), "learner-1") is Content.WITHOUT_LEARNER


def test_a_damaged_package(tmp_path: Path) -> None:
    path = package(tmp_path)
    whole = path.read_bytes()
    for data in (b"", b"x" * 100, whole[:-30], whole[:40] + b"\0" * 20 + whole[60:]):
        path.write_bytes(data)
        assert content_of(path) is Content.DAMAGED
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    assert content_of(empty) is Content.DAMAGED


def test_layouts_whose_reports_have_no_ids() -> None:
    names = {"columns": [{"label": "Name", "field": "user_name"}]}
    assert _layouts_without_ids(parse_settings(json.dumps({"layouts": {"names": names, "other": {"like": "standard"}}}))) == [
        "names"
    ]
