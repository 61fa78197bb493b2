"""The csv, the package, and the bytes that a rerun makes again."""

import csv
import io
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from progress_exhaust.report import learners
from progress_exhaust.report.csv_file import write_csv
from progress_exhaust.report.hierarchy import Hierarchy, Part
from progress_exhaust.report.layout import columns
from progress_exhaust.report.package import write_zip
from progress_exhaust.report.pivot import CellRules, Learners
from progress_exhaust.report.request import Batch, BatchFacts

HIERARCHY = Hierarchy(
    "do_1",
    3,
    (Part("nested", "n", "Nested, one", 4), Part("nested", "z", "Zero", 0), Part("assessment", "q", "=Quiz")),
    frozenset(),
)
BATCH, FACTS = Batch("t", "R", "org", "0133", "do_1"), BatchFacts("Batch", "=Name", owned=True)


def made(*users: dict[str, Any], **options: Any) -> bytes:
    enrolments = [
        learners.Enrolment(
            user_id=f"u{place}",
            active=True,
            enrolled_at=user.get("enrolled_at", 0),
            enrolled_text=user.get("enrolled_text"),
            completed_at=user.get("completed_at"),
            completed_ids=["c"] * user.get("completed", 0),
            has_certificate=user.get("has_certificate", False),
            certificate_status=user.get("certificate_status"),
        )
        for place, user in enumerate(users)
    ]
    page, _ = learners.enrolled_page(enrolments, frozenset())
    sources = learners.Sources(
        users=lambda _ids: {f"u{place}": user.get("cache", {}) for place, user in enumerate(users)},
        nested=lambda _ids: rows([user.get("nested", []) for user in users], learners.NESTED_PROGRESS),
        attempts=lambda _ids: rows([user.get("attempts", []) for user in users], learners.ATTEMPTS),
    )
    part, _ = learners.make_part(page, learners.Rules(True, "org"), sources)
    rules = CellRules(options.pop("chosen_attempt", "best"), (2,))
    target = io.BytesIO()
    shown = columns(HIERARCHY, named=options.pop("named", False))
    written = write_csv(
        target,
        shown,
        [Learners(part, BATCH, FACTS, HIERARCHY, rules)] if users else [],
        **({"bom": False, "defuse_formulas": True} | options),
    )
    assert written.size_bytes == len(target.getvalue())
    return target.getvalue()


def rows(of_users: list[list[tuple[Any, ...]]], schema: pa.Schema) -> pa.Table:
    return learners.table_of([(f"u{place}", *row) for place, mine in enumerate(of_users) for row in mine], schema)


def cells(label: str, *users: dict[str, Any], **options: Any) -> list[str]:
    return [row[label] for row in csv.DictReader(io.StringIO(made(*users, **options).decode()))]


def test_the_header_has_the_fixed_columns_then_the_collections_own() -> None:
    assert made() == (
        b"Collection Id,Collection Name,Batch Id,Batch Name,User UUID,User Name,State,District,Enrolment Date,"
        b"Completion Date,Progress,Certificate Status,Total Score,n - Progress,z - Progress,q - Score\r\n"
    )


def test_labels_with_names_are_text_cells_too() -> None:
    assert made(named=True).endswith(b'"Nested, one (n) - Progress",Zero (z) - Progress,\'=Quiz (q) - Score\r\n')


def test_lines_end_in_crlf_and_only_what_needs_quotes_has_them() -> None:
    line = made({"cache": {"firstname": 'A "b"', "lastname": "c", "state": "x,y", "district": " d\n"}}).split(b"\r\n")[1]
    assert line == b'do_1,\'=Name,0133,Batch,u0,"A ""b"" c","x,y", d ,1970-01-01 00:00:00:000+0000,,0,,,,,'


def test_the_byte_order_mark_is_a_setting_and_so_is_defusing() -> None:
    assert made(bom=True).startswith(b"\xef\xbb\xbfCollection")
    assert b",=Name," in made({}, defuse_formulas=False)


def test_names_are_joined_by_one_space_and_trimmed() -> None:
    names = [("Asha", "Rao"), (" Asha ", " Rao\t"), ("Asha", None), (None, "Rao"), (None, None), ("\x00", "-")]
    users = [{"cache": {key: name for key, name in zip(("firstname", "lastname"), both, strict=True) if name}} for both in names]
    assert cells("User Name", *users) == ["Asha Rao", "Asha Rao", "Asha", "Rao", "", "'-"]


def test_progress_is_half_up_at_most_100_and_100_once_completed() -> None:
    users = [{"completed": 0}, {"completed": 1}, {"completed": 2}, {"completed": 9}, {"completed": 0, "completed_at": 5}]
    assert cells("Progress", *users) == ["0", "33", "67", "100", "100"]


def test_nested_progress_is_blank_without_an_entry_or_without_leaves() -> None:
    users = [
        {},
        {"nested": [("n", 0.5)]},
        {"nested": [("n", 3.0), ("z", 3.0)]},
        {"nested": [("n", 9.0)]},
        {"nested": [("n", -1.0)]},
    ]
    assert cells("n - Progress", *users) == ["", "13", "75", "100", "0"]
    assert cells("z - Progress", *users) == [""] * 5


def test_certificates_are_issued_failed_or_blank() -> None:
    users = [{"has_certificate": True, "certificate_status": 2}, {"certificate_status": 2}, {"certificate_status": 1}, {}]
    assert cells("Certificate Status", *users) == ["Issued", "Failed", "", ""]


def test_the_best_attempt_counts_or_the_latest_and_a_tie_goes_to_the_later_then_the_greater_id() -> None:
    attempts = [("q", "a", 7.0, None, 1), ("q", "b", 5.0, None, 9), ("q", "c", None, "6/10", 9)]
    assert cells("q - Score", {"attempts": attempts}) == ["7"]
    assert cells("q - Score", {"attempts": attempts}, chosen_attempt="latest") == ["6"]
    assert cells("q - Score", {"attempts": [("q", "a", 1.0, None, 5), ("q", "b", 2.0, None, None)]}, chosen_attempt="latest") == [
        "1"
    ]


def test_a_score_is_total_score_else_what_stands_before_the_slash_else_blank() -> None:
    scores = [(7.25, "1/2"), (None, "3/4"), (None, " 4 "), (None, "a/b"), (None, None), (float("nan"), "2/2"), (None, "1e3/5")]
    users = [{"attempts": [("q", "a", score, grand, 1)]} for score, grand in scores]
    assert cells("q - Score", *users) == ["7.25", "3", "4", "", "", "2", ""]


def test_the_total_sums_the_collections_assessments_and_is_blank_where_none_was_attempted() -> None:
    users = [
        {"attempts": [("q", "a", 0.1, None, 1), ("elsewhere", "b", 50.0, None, 1)]},
        {"attempts": [("elsewhere", "b", 5.0, None, 1)]},
        {},
    ]
    assert cells("Total Score", *users) == ["0.1", "", ""]


def test_dates_are_those_of_the_timestamp_else_of_the_text() -> None:
    users = [
        {"enrolled_at": 1598363154150, "enrolled_text": "x"},
        {"enrolled_at": None, "enrolled_text": "=today"},
        {"completed_at": 0},
    ]
    assert cells("Enrolment Date", *users) == ["2020-08-25 13:45:54:150+0000", "'=today", "1970-01-01 00:00:00:000+0000"]
    assert cells("Completion Date", *users) == ["", "", "1970-01-01 00:00:00:000+0000"]


def test_the_package_holds_the_csv_under_its_name_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_zip(io.BytesIO(b"a,b\r\n" * 1000), tmp_path / name, "0133_progress_20220927.csv", date(2022, 9, 27))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as package:
        [entry] = package.infolist()
        assert (entry.filename, entry.date_time[:3], entry.compress_type) == ("0133_progress_20220927.csv", (2022, 9, 27), 8)
        assert package.read(entry) == b"a,b\r\n" * 1000
