"""The command `open`: every form of a report becomes its clear files, in one folder, or nothing is written."""

import io
import json
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from progress_exhaust import cli
from progress_exhaust.reading.unpacking import SCRATCH
from progress_exhaust.report.package import Packed, write_package
from progress_exhaust.security.encryption import read_public_key
from progress_exhaust.security.levels import Level, Protection, ZipCipher
from tests.openssl import key_pair
from tests.unit.test_compare import CSV, DAY, NAME, SECRET, WORKBOOK, file

NOTES = {"columns_0133_20220927.csv": b"Column\r\n", "summary_0133_20220927.txt": b"a summary"}
XLSX = b"PK\x03\x04 a workbook"
REPORT = {NAME: CSV, WORKBOOK: XLSX}

PROJECT = Path(__file__).resolve().parents[2]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command. Return its exit status, output and errors."""

    def opened(*words: str | Path) -> tuple[int, str, str]:
        status = cli.main(["open", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return opened


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return file(tmp_path / "text", f"{SECRET}\n".encode())


def packed(folder: Path, protection: Protection, cipher: ZipCipher = ZipCipher.AES_256) -> Path:
    target = folder / "0133_progress_20220927.zip"
    reports = [Packed(name, io.BytesIO(data), len(data)) for name, data in REPORT.items()]
    write_package(reports, target, DAY, protection, zip_cipher=cipher, notes=NOTES)
    return target


def found(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("level", "cipher", "was"),
    [
        (Level.PLAIN, ZipCipher.AES_256, "PLAIN_DATASET"),
        (Level.PASSWORD, ZipCipher.AES_256, "PASSWORD_PROTECTED_DATASET, AES-256"),
        (Level.PASSWORD, ZipCipher.ZIP_CRYPTO, "PASSWORD_PROTECTED_DATASET, ZipCrypto"),
        (Level.TEXT_KEY, ZipCipher.AES_256, "TEXT_KEY_ENCRYPTED_DATASET"),
        (Level.PUBLIC_KEY, ZipCipher.AES_256, "PUBLIC_KEY_ENCRYPTED_DATASET"),
    ],
)
def test_each_level_becomes_its_clear_files(
    tmp_path: Path, run: Run, text: Path, keys: tuple[Path, Path], level: Level, cipher: ZipCipher, was: str
) -> None:
    private, public = keys
    path = packed(tmp_path, Protection(level, SECRET, public_key=read_public_key(public.read_bytes())), cipher)
    status, out, err = run(path, "--key-file", private if level is Level.PUBLIC_KEY else text)
    folder = path.with_suffix("")
    assert (status, err) == (0, "")
    assert found(folder) == REPORT | ({} if "ENCRYPTED" in level else NOTES)
    assert [line.split("  ")[0] for line in out.splitlines()[1:]] == [str(folder / name) for name in found_in_order(path)]
    assert all(line.endswith(was) for line in out.splitlines()[1:])
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600} and stat.S_IMODE(
        folder.stat().st_mode
    ) == 0o700


def found_in_order(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as package:
        return package.namelist()


def test_the_encrypted_file_itself_is_opened_and_the_key_may_be_in_the_environment(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path, Protection(Level.TEXT_KEY, SECRET))
    monkeypatch.setenv("PROGRESS_EXHAUST_KEY", SECRET)
    with zipfile.ZipFile(path) as package:
        package.extractall(tmp_path / "unzipped")
    for name, data in REPORT.items():
        assert run(tmp_path / "unzipped" / name, "--to", tmp_path / "clear")[0] == 0
        assert (tmp_path / "clear" / name).read_bytes() == data


def test_the_documented_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    page = (PROJECT / "docs" / "how-to/open-protected-reports.md").read_text()
    [command] = re.findall(r"^PYTHONPATH=PLUGINS_FOLDER python -m progress_exhaust.cli (open .*)$", page, re.MULTILINE)
    packed(tmp_path, Protection(Level.PASSWORD, SECRET)).rename(tmp_path / "FILE.zip")
    text.rename(tmp_path / "KEY_FILE")
    monkeypatch.chdir(tmp_path)
    assert cli.main(command.split()) == 0
    assert found(tmp_path / "FILE") == REPORT | NOTES


def test_json(tmp_path: Path, run: Run, text: Path) -> None:
    path = packed(tmp_path, Protection(Level.PASSWORD, SECRET))
    result = json.loads(run(path, "--key-file", text, "--json")[1])
    assert result["folder"] == str(path.with_suffix(""))
    assert result["files"][0] == {"name": NAME, "size_bytes": len(CSV), "protection": "PASSWORD_PROTECTED_DATASET, AES-256"}


def test_a_file_is_replaced_only_if_the_user_says_so(tmp_path: Path, run: Run, text: Path) -> None:
    path, folder = packed(tmp_path, Protection(Level.PASSWORD, SECRET)), tmp_path / "to"
    folder.mkdir()
    outside = file(tmp_path / "outside", b"stays")
    (folder / WORKBOOK).symlink_to(outside)
    words = (path, "--key-file", text, "--to", folder)
    status, _, err = run(*words)
    assert status == 2 and f"already has {WORKBOOK}" in err and "--overwrite" in err
    assert [one.name for one in folder.iterdir()] == [WORKBOOK]
    assert run(*words, "--overwrite")[0] == 0
    assert found(folder) == REPORT | NOTES and outside.read_bytes() == b"stays" and not (folder / WORKBOOK).is_symlink()
    (folder / "mine.txt").write_text("mine")
    assert run(*words)[0] == 2 and run(*words, "--overwrite")[0] == 0
    assert found(folder) == REPORT | NOTES | {"mine.txt": b"mine"}


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path, run: Run, text: Path) -> None:
    path, folder = packed(tmp_path, Protection(Level.PASSWORD, SECRET)), tmp_path / "to"
    (folder / WORKBOOK).mkdir(parents=True)
    for more in ((), ("--overwrite",)):
        status, _, err = run(path, "--key-file", text, "--to", folder, *more)
        assert status == 2 and f"already has a folder {WORKBOOK}. Choose another folder by --to" in err
        assert [one.name for one in folder.iterdir()] == [WORKBOOK]


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_not_a_report(run: Run, text: Path, tmp_path: Path, name: str) -> None:
    status, out, err = run(name, "--key-file", text)
    assert (status, out) == (2, "") and f"{name} has no ending. Choose a folder by --to" in err
    status, out, err = run(name, "--key-file", text, "--to", tmp_path / "to")
    assert (status, out) == (2, "") and f"{name} cannot be read: Is a directory" in err


def test_a_key_file_of_notepad(tmp_path: Path, run: Run) -> None:
    path = packed(tmp_path, Protection(Level.PASSWORD, SECRET))
    assert run(path, "--key-file", file(tmp_path / "text", f"\ufeff{SECRET}\r\n".encode()))[0] == 0


@pytest.mark.parametrize("level", [Level.PASSWORD, Level.TEXT_KEY])
def test_it_needs_the_documented_packages_only(tmp_path: Path, text: Path, level: Level) -> None:
    page = (PROJECT / "docs" / "how-to/open-protected-reports.md").read_text()
    [packages] = re.findall(r"^python -m pip install (.*)$", page, re.MULTILINE)
    words = ["open", str(packed(tmp_path, Protection(level, SECRET))), "--key-file", str(text)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *words], cwd=PROJECT / "plugins", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == packages


# Run the command, and print the packages that its modules import.
IMPORTS = """
import builtins, sys
found, real_import = {"progress_exhaust"}, builtins.__import__

def noted(name, globals=None, *more, **named):
    if globals and str(globals.get("__name__")).startswith("progress_exhaust"):
        found.add(name.partition(".")[0])
    return real_import(name, globals, *more, **named)

builtins.__import__ = noted
from progress_exhaust import cli
status = cli.main(sys.argv[1:])
print(*sorted(found - {"progress_exhaust"} - sys.stdlib_module_names))
sys.exit(status)
"""


@pytest.mark.parametrize(
    "name",
    ["../x.csv", "/etc/x.csv", "a/x.csv", "..", "a\\x.csv", "C:x.csv", ".x.csv", "-x.csv", "x\n.csv", "folder/", "x" * 201],
)
def test_a_name_that_leads_elsewhere_writes_nothing(tmp_path: Path, run: Run, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as package:
        package.writestr(NAME, CSV)
        package.writestr(name, b"elsewhere")
    status, _, err = run(tmp_path / "x.zip", "--to", tmp_path / "to")
    assert status == 2 and "is not a plain file name" in err and name not in err
    assert [one.name for one in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [NAME, NAME.upper()])
def test_two_files_of_one_name_write_nothing(tmp_path: Path, run: Run, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as package:
        package.writestr(NAME, CSV)
        package.writestr(name, b"another")
    status, _, err = run(tmp_path / "x.zip")
    assert status == 2 and "two files of the same name" in err
    assert [one.name for one in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("level", [Level.PASSWORD, Level.TEXT_KEY, Level.PUBLIC_KEY])
def test_without_the_right_key_nothing_is_written(
    tmp_path: Path, run: Run, text: Path, keys: tuple[Path, Path], level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROGRESS_EXHAUST_KEY", raising=False)
    path = packed(tmp_path, Protection(level, SECRET, public_key=read_public_key(keys[1].read_bytes())))
    other = key_pair(tmp_path)[0] if level is Level.PUBLIC_KEY else file(tmp_path / "other", b"another")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = run(path)
    assert (status, out) == (2, "") and f"{path.name} needs " in err and "--key-file or PROGRESS_EXHAUST_KEY" in err
    status, out, err = run(path, "--key-file", other)
    assert (status, out) == (2, "") and ("is wrong" in err or "its key is not the right one" in err)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "random"), [(NAME, b"\xff\xfe\x9d" * 9), (WORKBOOK, b"not a zip" * 9)])
def test_random_bytes_are_not_taken_for_a_report(tmp_path: Path, run: Run, text: Path, name: str, random: bytes) -> None:
    """A wrong key sometimes decrypts a file without an error."""
    target = tmp_path / "x.zip"
    write_package([Packed(name, io.BytesIO(random), len(random))], target, DAY, Protection(Level.TEXT_KEY, SECRET))
    status, _, err = run(target, "--key-file", text)
    assert status == 2 and "its key is not the right one" in err and not target.with_suffix("").exists()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (CSV, "x.csv", "is neither a zip nor encrypted"),
        (b"", "x.csv", "is neither a zip nor encrypted"),
        (b"not a zip", "x.zip", "is not a zip"),
        (b"PK\x03\x04" + bytes(60), "x.zip", "is damaged"),
        (b"TEXT_KEY_ENCRYPTED_DATASET\n", "x.csv", "is damaged, or its key"),
        (b"TEXT_KEY_ENCRYPTED_DATASET\nAAAA\nabc", "x.csv", "is damaged, or its key"),
        (None, "x.csv", "cannot be read: No such file"),
        (CSV, "x", "has no ending"),
        (b"PK\x05\x06" + bytes(18), "x.zip", "is a zip without a report"),
    ],
)
def test_what_is_not_a_report(tmp_path: Path, run: Run, text: Path, content: bytes | None, name: str, message: str) -> None:
    if content is not None:
        file(tmp_path / name, content)
    status, out, err = run(tmp_path / name, "--key-file", text)
    assert (status, out) == (2, "") and message in err and "Traceback" not in err
    assert not [one for one in tmp_path.iterdir() if one.is_dir()]


def test_a_folder_that_cannot_be_written(tmp_path: Path, run: Run, text: Path) -> None:
    path = packed(tmp_path, Protection(Level.PLAIN))
    status, _, err = run(path, "--to", file(tmp_path / "a file", b"") / "in it")
    assert status == 3 and "cannot be written: Not a directory" in err


def test_a_damaged_package_leaves_no_file(tmp_path: Path, run: Run, text: Path) -> None:
    path = packed(tmp_path, Protection(Level.PASSWORD, SECRET))
    data = bytearray(path.read_bytes())
    data[data.index(WORKBOOK.encode()) + 60] ^= 1
    path.write_bytes(data)
    assert run(path, "--key-file", text, "--to", tmp_path / "to")[0] == 2
    assert not (tmp_path / "to").exists() and not list(tmp_path.rglob(f"{SCRATCH}*"))
