"""The command `compare`: on real files of this package's writers, of zip libraries and of the oracle, and on wrong input."""

import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import pyzipper
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.world import sample_world
from progress_exhaust import cli
from progress_exhaust.compare import comparison
from progress_exhaust.compare.comparison import compare_reports
from progress_exhaust.compare.known import Known, Reason, Unknown, layout_of
from progress_exhaust.reading import csv_rows
from progress_exhaust.reading.report_file import ReportFile
from progress_exhaust.report.package import Packed, write_package
from progress_exhaust.security.encryption import read_public_key
from progress_exhaust.security.levels import Level, Protection, ZipCipher
from tests.openssl import key_pair
from tests.oracle import LERN7_LABELS, STATIC_LABELS, Options, expected_lern7_csv, quoted, spark_quoted

PROJECT = Path(__file__).resolve().parents[2]
GOLDEN = PROJECT / "tests/golden"
MIGRATION = (PROJECT / "docs/how-to/migrate-from-the-spark-job.md").read_text()
NAME, WORKBOOK, DAY = "0133_progress_20220927.csv", "0133_progress_20220927.xlsx", date(2022, 9, 27)
SECRET = "S3cret पासवर्ड"
CSV = b"User UUID,User Name,State,Progress\r\nlearner-1,Asha Rao,Kerala,40\r\nlearner-2,Ravi Das,,100\r\n"
PERSONAL = ("learner-1", "learner-2", "Asha", "Ravi", "Kerala", "40")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on two files, given as paths or as csv. Return its exit status, output and errors."""

    def compare(old: bytes | Path, new: bytes | Path, *options: str | Path) -> tuple[int, str, str]:
        paths = [
            data if isinstance(data, Path) else file(tmp_path / f"{name}.csv", data) for name, data in (("a", old), ("b", new))
        ]
        status = cli.main(["compare", *map(str, (*paths, *options))])
        said = capsys.readouterr()
        return status, said.out, said.err

    return compare


def file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def packed(path: Path, protection: Protection, cipher: ZipCipher = ZipCipher.AES_256, csv: bytes = CSV) -> Path:
    notes = {"columns_0133_20220927.csv": b"Column\r\n", "summary_0133_20220927.txt": b"a summary"}
    reports = [Packed(name, io.BytesIO(data), len(data)) for name, data in ((NAME, csv), (WORKBOOK, b"a workbook"))]
    write_package(reports, path, DAY, protection, zip_cipher=cipher, notes=notes)
    return path


def csv_of(rows: list[list[str]], quote: Callable[[str], str] = quoted, line_end: str = "\n", delimiter: str = ",") -> bytes:
    return "".join(delimiter.join(map(quote, row)) + line_end for row in rows).encode()


@pytest.fixture(autouse=True)
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few temporary files, for speed."""
    monkeypatch.setattr(comparison, "PARTS", 3)


def found(old: bytes, new: bytes, folder: Path, key_label: str = "User UUID") -> dict[tuple[str | None, str], int]:
    """Return the number of differences by column and reason."""
    files = [ReportFile(name, file(folder / f"{name}.csv", data), key_source="") for name, data in (("OLD", old), ("NEW", new))]
    result = compare_reports(*files, key_label=key_label, time_zone="Asia/Kolkata")
    return {(one.column, one.reason): one.count for one in result.differences}


# Every form in which a report is stored


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path | None]]:
    """Return the same report in each form, and the file with its key."""
    folder = tmp_path_factory.mktemp("packages")
    private, public = key_pair(folder)
    text = file(folder / "text", f"{SECRET}\n".encode())
    public_key = read_public_key(public.read_bytes())
    forms: dict[str, tuple[Path, Path | None]] = {
        "csv": (file(folder / "clear.csv", CSV), None),
        "plain": (packed(folder / "plain.zip", Protection(Level.PLAIN)), None),
        "aes": (packed(folder / "aes.zip", Protection(Level.PASSWORD, SECRET)), text),
        "zipcrypto": (folder / "old.zip", text),
        "text key": (packed(folder / "text.zip", Protection(Level.TEXT_KEY, SECRET)), text),
        "public key": (packed(folder / "public.zip", Protection(Level.PUBLIC_KEY, public_key=public_key)), private),
    }
    with pytest.MonkeyPatch.context() as patch:  # with some random bytes, one wrong password in 256 is noticed later
        patch.setattr("progress_exhaust.security.zip_cipher.os.urandom", bytes)
        packed(forms["zipcrypto"][0], Protection(Level.PASSWORD, SECRET), ZipCipher.ZIP_CRYPTO)
    with zipfile.ZipFile(forms["text key"][0]) as package:
        forms["encrypted csv"] = (Path(package.extract(NAME, folder)), text)
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as package:
            package.writestr(NAME, CSV)
        forms[name] = (folder / f"{name}.zip", None)
    with pyzipper.AESZipFile(folder / "aes128.zip", "w", compression=pyzipper.ZIP_DEFLATED) as package:
        package.setpassword(SECRET.encode())
        package.setencryption(pyzipper.WZ_AES, nbits=128)
        package.writestr(NAME, CSV)
    forms["aes 128"] = (folder / "aes128.zip", text)
    return forms


FORMS = {
    "csv": "not protected",
    "plain": "PLAIN_DATASET",
    "aes": "PASSWORD_PROTECTED_DATASET, AES-256",
    "aes 128": "PASSWORD_PROTECTED_DATASET, AES-128",
    "zipcrypto": "PASSWORD_PROTECTED_DATASET, ZipCrypto",
    "text key": "TEXT_KEY_ENCRYPTED_DATASET",
    "public key": "PUBLIC_KEY_ENCRYPTED_DATASET",
    "encrypted csv": "TEXT_KEY_ENCRYPTED_DATASET",
    "stored": "PLAIN_DATASET",
    "deflated": "PLAIN_DATASET",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read(form: str, run: Run, packages: dict[str, tuple[Path, Path | None]]) -> None:
    path, key = packages[form]
    status, out, err = run(CSV, path, *(["--new-key-file", key] if key else []))
    assert (status, err) == (0, "")
    assert out.splitlines()[1:] == [
        f"NEW  {FORMS[form]}, 2 rows, 4 columns, layout of its own, CRLF, comma",
        "2 learners in both",
        "Unknown differences: 0",
        "Known differences: 0",
    ]


def test_a_key_may_be_in_the_environment(
    run: Run, packages: dict[str, tuple[Path, Path | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRESS_EXHAUST_OLD_KEY", SECRET)
    monkeypatch.setenv("PROGRESS_EXHAUST_NEW_KEY", packages["public key"][1].read_text())
    assert run(packages["zipcrypto"][0], packages["public key"][0])[0] == 0


def test_the_documented_commands(packages: dict[str, tuple[Path, Path | None]], capsys: pytest.CaptureFixture[str]) -> None:
    path, key = packages["zipcrypto"]
    places = {"SPARK.zip": path, "PASSWORD_FILE": key, "BEFORE.zip": packages["plain"][0], "AFTER.zip": packages["plain"][0]}
    page = (PROJECT / "docs" / "how-to/run-shadow-runs.md").read_text()
    commands = re.findall(r"^PYTHONPATH=PLUGINS_FOLDER python -m progress_exhaust.cli (.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert cli.main([str(places.get(word, word)) for word in command.split()]) == 0
    assert capsys.readouterr().err == ""


# What differs


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        ("State\nKerala", "State\nkerala", {("State", Unknown.CELLS): 1}),
        ("State\n", "State\nKerala", {("State", Unknown.OLD_BLANK): 1}),
        ("State\nKerala", "State\n", {("State", Unknown.NEW_BLANK): 1}),
        ("State\nKerala", "District\nKerala", {("State", Unknown.ONLY_OLD): 1, ("District", Unknown.ONLY_NEW): 1}),
        ("a,b\n1,2", "b,a\n2,1", {(None, Unknown.ORDER): 1}),
        ("State,State\n1,2", "State,State\n1,3", {("State (2)", Unknown.CELLS): 1}),
        ("State\n'=1", "State\n=1", {("State", Unknown.CELLS): 1}),  # no rule of the Spark job applies
        ('State\n"a\\"b"', 'State\n"a""b"', {}),
        ('State\n"a\nb"', 'State\n"a\nb"', {}),
        ('State\n"a, \\"B\\" c\\\\d"', 'State\n"a, ""B"" c\\d"', {}),
        ("State\na\\b", "State\na\\b", {}),
    ],
)
def test_cells_and_columns(old: str, new: str, differences: dict[tuple[str | None, str], int], tmp_path: Path) -> None:
    def with_learner(text: str) -> bytes:
        header, _, row = text.partition("\n")
        return f"User UUID,{header}\nu1,{row}\n".encode()

    assert found(with_learner(old), with_learner(new), tmp_path) == differences


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        (["a,1", "b,2"], ["b,2", "a,1"], {}),
        (["a,1", "b,2"], ["a,1"], {(None, Unknown.ONLY_OLD): 1}),
        (["a,1"], ["a,1", "b,2"], {(None, Unknown.ONLY_NEW): 1}),
        (["a,1", "a,2"], ["a,1", "a,2"], {}),
        (["a,1", "a,2"], ["a,1"], {(None, Unknown.ONLY_OLD): 1}),
        ([], ["a,1"], {(None, Unknown.ONLY_NEW): 1}),
        ([], [], {}),
        (["A,1"], ["a,1"], {(None, Unknown.ONLY_OLD): 1, (None, Unknown.ONLY_NEW): 1}),
    ],
)
def test_learners(old: list[str], new: list[str], differences: dict[tuple[str | None, str], int], tmp_path: Path) -> None:
    files = ["\n".join(["User UUID,Progress", *rows]).encode() for rows in (old, new)]
    assert found(*files, tmp_path) == differences


def test_how_a_file_is_written_is_shown_and_counts_as_the_same(run: Run) -> None:
    rows = [["User UUID", "State"], ["b", 'say "x", y'], ["a", ""], ["a", "k\\"]]
    old = csv_of(rows, spark_quoted)
    new = b"\xef\xbb\xbf" + csv_of([rows[0], rows[2], rows[3], rows[1]], line_end="\r\n", delimiter=";")
    status, out, _ = run(old, new)
    assert status == 0
    assert out.splitlines()[:3] == [
        "OLD  not protected, 3 rows, 2 columns, layout of its own, LF, comma, Spark's quotes, 1 learners with several rows",
        "NEW  not protected, 3 rows, 2 columns, layout of its own, CRLF, semicolon, BOM, 1 learners with several rows",
        "2 learners in both. The rows are in another order",
    ]


def test_the_differences_are_printed_unknown_ones_first_and_without_cells(run: Run) -> None:
    new = CSV.replace(b"Kerala", b"Punjab").replace(b",100", b",99").replace(b"learner-1", b"'learner-1")
    status, out, err = run(CSV, new)
    assert (status, err) == (1, "")
    assert out.splitlines()[2:] == [
        "1 learners in both. The rows are in another order",
        "Unknown differences: 3",
        "  COLUMN    REASON           COUNT  ROWS OF OLD AND NEW",
        "  (rows)    only in NEW      1      - and 2",
        "  (rows)    only in OLD      1      2 and -",
        "  Progress  different cells  1      3 and 3",
        "Known differences: 0",
    ]
    assert not any(text in out for text in PERSONAL)


@pytest.mark.parametrize("as_json", [False, True])
def test_cells_are_shown_only_if_asked_for_and_never_another_cell(run: Run, as_json: bool) -> None:
    new = CSV.replace(b",40", b",41")
    options = ["--json"] * as_json
    assert not any(text in run(CSV, new, *options)[1] for text in (*PERSONAL, "41"))
    status, out, _ = run(CSV, new, "--show-cells", *options)
    assert status == 1 and "41" in out and "40" in out
    assert not any(text in out for text in PERSONAL[:-1])


@pytest.mark.parametrize(("options", "rows"), [([], 3), (["--examples", "5"], 5), (["--examples", "0"], 0)])
def test_how_many_examples_are_shown(run: Run, options: list[str], rows: int) -> None:
    old, new = (csv_of([["User UUID", "State"], *([f"u{number}", state] for number in range(9))]) for state in ("a", "b"))
    [difference] = json.loads(run(old, new, "--json", *options)[1])["unknown"]
    assert (difference["count"], len(difference["examples"])) == (9, rows)


def test_json(run: Run) -> None:
    status, out, _ = run(CSV, CSV.replace(b"Kerala", b"Punjab"), "--json")
    result: dict[str, Any] = json.loads(out)
    assert status == 1
    assert result["unknown"] == [
        {"column": "State", "reason": "different cells", "count": 1, "examples": [{"old_row": 2, "new_row": 2}]}
    ]
    assert (result["equal"], result["unknown_differences"], result["known"]) == (False, 1, [])
    assert (result["old"]["rows"], result["new"]["line_end"]) == (2, "CRLF")


# The Spark job's file


def spark_csv(number: int, *, spark: bool = True) -> bytes:
    """Return the file that the Spark job makes of a batch of the sample world."""
    world = sample_world()
    request, batch = {0: (world.requests[0], 0), 2: (world.requests[3], 2)}[number]
    return expected_lern7_csv(world, request, world.batches[batch]["batchid"], options=Options(defuse=False, spark=spark))


@pytest.mark.parametrize(("number", "name"), [(0, "literacy-batch1"), (2, "science-for-another-org")])
def test_the_layout_of_the_spark_job_differs_from_it_only_where_a_spreadsheet_would_run_a_cell(
    number: int, name: str, tmp_path: Path
) -> None:
    differences = found(spark_csv(number), (GOLDEN / f"{name}.sunbird-lern-7.csv").read_bytes(), tmp_path)
    assert {reason for _, reason in differences} == {Reason.FORMULAS}
    assert {column for column, _ in differences} <= {"State", "District", "Org Name"}


def test_layout_standard_differs_from_the_spark_job_for_known_reasons(tmp_path: Path) -> None:
    differences = found(spark_csv(0), (GOLDEN / "literacy-batch1.csv").read_bytes(), tmp_path)
    assert [one for one in differences if isinstance(one[1], Unknown)] == []
    assert differences["Total Score", Reason.NO_TOTAL_SCORE] == 7
    assert differences["Enrolment Date", Reason.DATES] == differences["Batch Id", Reason.BATCH_ID] == 124
    assert differences[None, Reason.MISSING] == 2


SCORE = "do_1 - Score"
DATE = "Enrolment Date"


@pytest.mark.parametrize(
    ("label", "old", "new", "reason"),
    [
        ("Batch Id", "BatchId_1", "1", Reason.BATCH_ID),
        ("Batch Id", "BatchId_1", "2", None),
        ("State", "=1+1", "'=1+1", Reason.FORMULAS),
        ("State", "=1+1", "' =1+1", Reason.BLANKS),
        ("State", "1", "'1", None),
        ("State", "a\tb\x00c", "a bc", Reason.CONTROLS),
        ("State", "\t=1", "' =1", Reason.CONTROLS),
        ("State", "a b", "ab", None),
        ("State", "Salem", " Salem ", Reason.BLANKS),
        ("State", "Salem", "", None),
        (SCORE, "70%", "7", Reason.SCORE),
        (SCORE, "0%", "0", Reason.SCORE),
        (SCORE, "0%", "7", None),
        (SCORE, "70%", "0", None),
        (SCORE, "70%", "", None),
        (SCORE, "70", "7", None),
        (SCORE, "", "7", Reason.ARCHIVED),
        ("Total Score", "88%", "22", Reason.TOTAL_SCORE),
        ("Total Score", "", "0", Reason.TOTAL_SCORE),
        ("Total Score", "0%", "9", Reason.NO_TOTAL_SCORE),
        ("Total Score", "9%", "0", None),
        ("Total Score", "", "5", Reason.ARCHIVED),
        ("Total Score", "88%", "", None),
        ("Progress", "52", "53", Reason.ROUNDING),
        ("Progress", "52", "54", None),
        ("Progress", "80", "60", Reason.REMOVED),
        ("Progress", "", "60", None),
        ("Certificate Status", "", "Failed", Reason.CERTIFICATE),
        ("Certificate Status", "Issued", "Failed", None),
        (DATE, "25/08/2020", "2020-08-25 13:45:54:150+0000", Reason.DATES),
        (DATE, "26/08/2020", "2020-08-25 13:45:54:150+0000", None),
        (DATE, "", "soon", Reason.DATES),
        (DATE, "", "2020-08-25 13:45:54:150+0000", None),
        ("Collection Name", "a", "b", None),
    ],
)
def test_the_reason_of_a_cell(label: str, old: str, new: str, reason: Reason | None) -> None:
    known = Known("sunbird-lern-7", "standard", "Asia/Kolkata")
    assert known.cell(label, old, new, profile_is_blank=False) is reason
    assert Known("standard", "standard", "Asia/Kolkata").cell(label, old, new, profile_is_blank=False) is None
    same_layout = Known("sunbird-lern-7", "sunbird-lern-7", "Asia/Kolkata").cell(label, old, new, profile_is_blank=False)
    assert same_layout is (reason if reason in (Reason.FORMULAS, Reason.CONTROLS) else None)


def row_of(labels: list[str], cells: dict[str, str]) -> list[str]:
    return [cells.get(label.replace(" ", "_"), "") for label in labels]


COLUMNS = {(label, Reason.COLUMNS): 1 for label in {*LERN7_LABELS, *STATIC_LABELS} - (set(LERN7_LABELS) & set(STATIC_LABELS))} | {
    (None, Reason.COLUMNS): 1
}


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        ([], [{"User_UUID": "a"}], {(None, Reason.MISSING): 1}),
        ([], [{"User_UUID": "a", "State": "Kerala"}], {(None, Unknown.ONLY_NEW): 1}),
        ([{"User_UUID": "a"}], [], {(None, Reason.BLANK_DATES): 1}),
        ([{"User_UUID": "a", "Enrolment_Date": "01/01/2020"}], [], {(None, Unknown.ONLY_OLD): 1}),
        ([{"User_UUID": "a", "State": "x"}], [{"User_UUID": "a"}], {("State", Reason.DELETED): 1}),
        ([{"User_UUID": "a", "State": "x"}], [{"User_UUID": "a", "User_Name": "n"}], {("State", Unknown.NEW_BLANK): 1}),
        ([{"User_UUID": "a", "Progress": "100"}], [{"User_UUID": "a"}], {("Progress", Reason.NO_LEAF_COUNT): 1}),
        (
            [{"User_UUID": "a", "Progress": "100"}, {"User_UUID": "b", "Progress": "9"}],
            [{"User_UUID": "a"}, {"User_UUID": "b", "Progress": "9"}],
            {("Progress", Unknown.NEW_BLANK): 1},
        ),
        (  # one is the day in India, the other is the day of a text
            [{"User_UUID": "a", "Enrolment_Date": "26/08/2020"}, {"User_UUID": "b", "Enrolment_Date": "25/08/2020"}],
            [{"User_UUID": one, "Enrolment_Date": "2020-08-25 22:45:54:150+0000"} for one in ("a", "b")],
            {("Enrolment Date", Reason.DATES): 2},
        ),
        (
            [{"User_UUID": "a", "Enrolment_Date": "27/08/2020"}],
            [{"User_UUID": "a", "Enrolment_Date": "2020-08-25 22:45:54:150+0000"}],
            {("Enrolment Date", Unknown.CELLS): 1},
        ),
    ],
)
def test_reasons_that_need_more_than_the_two_cells(
    old: list[dict[str, str]], new: list[dict[str, str]], differences: dict[tuple[str | None, str], int], tmp_path: Path
) -> None:
    files = (
        csv_of([LERN7_LABELS, *(row_of(LERN7_LABELS, row) for row in old)]),
        csv_of([STATIC_LABELS, *(row_of(STATIC_LABELS, row) for row in new)]),
    )
    assert found(*files, tmp_path) == COLUMNS | differences


def test_columns_of_the_hierarchy(tmp_path: Path) -> None:
    nodes = ["do_1 - Progress", "do_2 - Score"]
    differences = found(csv_of([[*LERN7_LABELS, "do_3 - Score"]]), csv_of([[*STATIC_LABELS, *nodes, "New"]]), tmp_path)
    assert {one: count for one, count in differences.items() if one not in COLUMNS} == {
        ("do_1 - Progress", Reason.NESTED): 1,
        ("do_2 - Score", Reason.ASSESSMENTS): 1,
        ("do_3 - Score", Unknown.ONLY_OLD): 1,
        ("New", Unknown.ONLY_NEW): 1,
    }


@pytest.mark.parametrize("reason", Reason)
def test_the_migration_page_has_each_known_reason(reason: Reason) -> None:
    rows = MIGRATION.partition("## Compare the files")[2].splitlines()
    [row] = [row for row in rows if row.removeprefix("| ").partition(" |")[0].removesuffix(" *") == reason]
    in_both_layouts = reason in (Reason.FORMULAS, Reason.CONTROLS, Reason.DELETED)
    assert row.partition(" |")[0].endswith(" *") is in_both_layouts


def test_the_layout_is_known_by_the_columns() -> None:
    assert layout_of([*reversed(LERN7_LABELS), "do_1 - Score"]) == "sunbird-lern-7"
    assert layout_of(STATIC_LABELS) == "standard"
    assert layout_of(STATIC_LABELS[1:]) is None


# Wrong input


def zipped(folder: Path, **entries: bytes) -> Path:
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w") as package:
        for name, data in entries.items():
            package.writestr(name.replace("_", "."), data)
    return path


def damaged(package: Path, folder: Path) -> Path:
    data = bytearray(package.read_bytes())
    middle = data.index(NAME.encode()) + len(NAME) + 40
    data[middle : middle + 8] = bytes(8)
    return file(folder / "damaged.zip", bytes(data))


WRONG = {
    "no such file": (lambda folder, _: (folder / "none.csv", None), "OLD cannot be read: No such file or directory"),
    "a folder": (lambda folder, _: (folder, None), "OLD cannot be read: Is a directory"),
    "not a zip": (lambda folder, _: (file(folder / "x.zip", CSV), None), "OLD is not a zip, although its name ends with .zip"),
    "half a zip": (
        lambda folder, forms: (file(folder / "x.zip", forms["aes"][0].read_bytes()[:-600]), None),
        "OLD cannot be read to its end: it is damaged",
    ),
    "damaged in the middle": (
        lambda folder, forms: (damaged(forms["plain"][0], folder), None),
        "OLD cannot be read to its end: it is damaged",
    ),
    "damaged and protected": (
        lambda folder, forms: (damaged(forms["aes"][0], folder), forms["aes"][1]),
        "OLD cannot be read to its end: it is damaged, or its key is not the right one",
    ),
    "no csv": (lambda folder, _: (zipped(folder, learner_txt=CSV), None), "OLD is a zip without a csv"),
    "two csv": (
        lambda folder, _: (zipped(folder, a_csv=CSV, b_csv=CSV), None),
        "OLD is a zip with 2 files of type csv. Unzip it, and use one at a time",
    ),
    "a workbook": (lambda folder, _: (zipped(folder, a_xlsx=CSV), None), "OLD is an Excel workbook. Make the report as csv"),
    "no password": (
        lambda _, forms: (forms["aes"][0], None),
        "OLD needs a password. Give it by --old-key-file or PROGRESS_EXHAUST_OLD_KEY",
    ),
    "wrong password": (lambda folder, forms: (forms["aes"][0], file(folder / "k", b"x")), "The password of OLD is wrong"),
    "wrong password of ZipCrypto": (
        lambda folder, forms: (forms["zipcrypto"][0], file(folder / "k", b"wrong")),
        "The password of OLD is wrong",
    ),
    "no text": (lambda _, forms: (forms["text key"][0], None), "OLD needs the text of its request"),
    "wrong text": (
        lambda folder, forms: (forms["text key"][0], file(folder / "k", b"x")),
        "OLD cannot be read to its end: it is damaged, or its key is not the right one",
    ),
    "no private key": (lambda _, forms: (forms["public key"][0], None), "OLD needs the private key of the org"),
    "no key at all": (
        lambda folder, forms: (forms["public key"][0], file(folder / "k", b"x")),
        "The key of OLD is not an RSA private key in PEM form without a passphrase",
    ),
    "another private key": (  # it makes a random file key, and then a csv that is not UTF-8, or fails at once
        lambda folder, forms: (forms["public key"][0], key_pair(folder)[0]),
        "OLD (cannot be read to its end: it is damaged, or its key is not the right one|is not UTF-8, .* check its key)",
    ),
    "no key file": (lambda folder, forms: (forms["aes"][0], folder / "none"), "The key file of OLD cannot be read: No such file"),
    "no UTF-8": (
        lambda folder, _: (file(folder / "x.csv", CSV.replace(b"Ravi", b"R\xe1vi")), None),
        "OLD is not UTF-8, near row 3. Save it as UTF-8",
    ),
    "UTF-16": (lambda folder, _: (file(folder / "x.csv", CSV.decode().encode("utf-16")), None), "OLD is not UTF-8, near row 1"),
    "empty": (lambda folder, _: (file(folder / "x.csv", b""), None), "OLD is empty: it has no header"),
    "no column of the learner": (
        lambda folder, _: (file(folder / "x.csv", CSV.partition(b"\n")[2]), None),
        "OLD has no column 'User UUID'. Name the column of the learner's id by --learner-column",
    ),
    "a short row": (
        lambda folder, _: (file(folder / "x.csv", CSV.replace(b",100", b"")), None),
        "OLD is not a valid csv: row 3 has 3 cells, and the header has 4",
    ),
    "an open quote": (
        lambda folder, _: (file(folder / "x.csv", CSV.replace(b"Ravi", b'"Ravi')), None),
        "OLD is not a valid csv: a quote is not closed, after row 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_has_a_message_without_data_of_a_learner(
    case: str, run: Run, tmp_path: Path, packages: dict[str, tuple[Path, Path | None]]
) -> None:
    make, message = WRONG[case]
    path, key = make(tmp_path, packages)
    status, out, err = run(path, CSV, *(["--old-key-file", key] if key else []))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.match(f"progress-exhaust: error: {message}", err)
    assert not any(text in err for text in (*PERSONAL, SECRET))


def test_a_wrong_time_zone(run: Run) -> None:
    message = "progress-exhaust: error: --timezone 'Mars' is not an IANA time zone, such as Asia/Kolkata\n"
    assert run(CSV, CSV, "--timezone", "Mars")[::2] == (2, message)


def test_without_a_temporary_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    status, out, err = run(CSV, CSV)
    assert (status, out) == (3, "")
    assert (
        err.partition(": error: ")[2]
        == "No such file or directory. Rows are stored in the temporary folder: set TMPDIR to one with space\n"
    )


def test_it_needs_no_airflow(tmp_path: Path) -> None:
    path = file(tmp_path / "a.csv", CSV)
    code = "import sys; sys.modules['airflow'] = None; from progress_exhaust import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", path, path], capture_output=True, text=True, check=False, cwd=PROJECT / "plugins"
    )
    assert (done.returncode, done.stderr) == (0, "")


# Files of any size, and any cell


TEXTS = st.text(
    st.sampled_from('ab,"\\;\n\té') | st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=9
)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6),
    dialect=st.sampled_from([quoted, spark_quoted]),
    data=st.data(),
)
def test_any_cell_in_any_form_is_read_and_a_changed_one_is_found(
    rows: list[tuple[str, str]], dialect: Callable[[str], str], data: st.DataObject
) -> None:
    learners = [["User UUID", "a", "b"], *([f"u{number}", *row] for number, row in enumerate(rows))]
    # A line with a \" that is followed by a letter proves that the file is Spark's.
    learners.append(["proof", '"x"', ""])
    changed = [list(row) for row in learners]
    place = data.draw(st.integers(1, len(rows)))
    changed[place][1] += "z"

    def spark(cell: str) -> str:  # which quotes a line end, too
        return dialect(cell) if "\n" not in cell else '"' + dialect(cell + ',"').removeprefix('"')[: -len(',\\""')] + '"'

    quote = spark if dialect is spark_quoted else quoted
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(csv_rows, "BLOCK_BYTES", 1)
        patch.setattr("progress_exhaust.reading.report_file.READ_BYTES", 7)
        same = csv_of([learners[0], learners[-1], *learners[1:-1]], quote)
        assert found(same, csv_of(learners, line_end="\r\n"), Path(folder)) == {}
        assert sum(found(same, csv_of(changed), Path(folder)).values()) == 1


def test_a_file_larger_than_a_block_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["User UUID", "Progress"], *([f"u{number}", str(number % 100)] for number in range(5000))]
    changed = [[user, "x" if user in ("u7", "u4999") else progress] for user, progress in rows]
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 5000)
    tables = list(
        csv_rows.CsvRows("OLD", iter([csv_of(rows)[at : at + 1000] for at in range(0, 60_000, 1000)]), "User UUID").tables()
    )
    assert len(tables) > 5 and sum(map(len, tables)) == 5000
    assert found(csv_of(rows), csv_of(changed), tmp_path) == {("Progress", Unknown.CELLS): 2}


def test_nothing_stays_in_the_temporary_folder_even_if_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    seen = []
    compare_part = comparison._Tally.compare_part

    def looked_at(tally: comparison._Tally, *tables: Any) -> None:
        seen.append(list(folder.iterdir()))
        compare_part(tally, *tables)

    monkeypatch.setattr(comparison._Tally, "compare_part", looked_at)
    assert found(CSV, CSV, tmp_path) == {}
    assert seen == [[]] * comparison.PARTS
