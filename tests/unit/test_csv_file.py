"""The specification's "File": RFC 4180, UTF-8, CRLF, and cells that run nowhere."""

import csv
import hashlib
import io

import pandas as pd
import pytest

from progress_exhaust.report.csv_file import write_csv
from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.report.layout import Column
from progress_exhaust.report.pivot import CellRules, Learners
from progress_exhaust.report.request import Batch, BatchFacts
from tests.parts import part_of

BATCH = Batch("tag", "R1", "org", "01", "do_1")
FACTS = BatchFacts("Batch", "Collection", owned=True)
LABELS = ["User UUID", "State"]


def page(*states: str) -> Learners:
    part = part_of(*({"state": state} for state in states))
    return Learners(part, BATCH, FACTS, Hierarchy("do_1", 0, (), frozenset()), CellRules("best", ()))


def columns(*labels: str) -> list[Column]:
    fields = ("user_id", "state")
    return [
        Column(label, lambda learners, field=field: learners.text(field)) for label, field in zip(labels, fields, strict=True)
    ]


def written(*pages: Learners, labels: list[str] = LABELS, bom: bool = False, defuse: bool = True) -> bytes:
    target = io.BytesIO()
    write_csv(target, columns(*labels), pages, bom=bom, defuse_formulas=defuse)
    return target.getvalue()


def line(state: str, **more: bool) -> str:
    """Return how a state stands in the csv, without the learner's id before it."""
    return written(page(state), **more).decode().removeprefix("User UUID,State\r\nu0,").removesuffix("\r\n")


def test_a_batch_of_nobody_is_a_header() -> None:
    assert written() == written(page()) == b"User UUID,State\r\n"


def test_lines_end_with_crlf_across_pages() -> None:
    assert written(page("Goa", "Kerala"), page("Punjab")) == b"User UUID,State\r\nu0,Goa\r\nu1,Kerala\r\nu0,Punjab\r\n"


def test_text_is_utf_8() -> None:
    assert written(page("தமிழ் 🙂")).endswith("u0,தமிழ் 🙂\r\n".encode())


@pytest.mark.parametrize(
    ("state", "quoted"),
    [
        ("a,b", '"a,b"'),
        ('say "x"', '"say ""x"""'),
        ('"', '""""'),
        (" padded ", " padded "),
        ("a;b|c'd\\", "a;b|c'd\\"),
        ("", ""),
        ("a\u2028b", "a\u2028b"),
        ("NaN", "NaN"),
        ("001", "001"),
        ("1e5", "1e5"),
        ("NULL", "NULL"),
    ],
)
def test_quotes_stand_only_where_they_are_needed(state: str, quoted: str) -> None:
    assert line(state) == quoted


@pytest.mark.parametrize("state", ["a,b", 'say "x"', '",\n"', "a\r\n b", '""', ",", "'"])
def test_a_reader_gets_each_cell_back(state: str) -> None:
    _, row = csv.reader(io.StringIO(written(page(state)).decode(), newline=""), strict=True)
    assert row == ["u0", state.replace("\r", " ").replace("\n", " ")]


@pytest.mark.parametrize(
    ("state", "cell"),
    [("a\r\nb\tc", "a  b c"), ("a\x00\x1b\x7f\x85b", "ab"), ("\x00=1", "'=1"), ("\t-1 2", "' -1 2")],
)
def test_cells_are_cleaned_before_they_are_defused(state: str, cell: str) -> None:
    assert line(state) == cell


def test_formulas_are_defused_unless_the_setting_is_off() -> None:
    assert line("=1+1") == "'=1+1"
    assert line("=1+1", defuse=False) == "=1+1"
    assert line("-5") == "-5"


def test_text_is_cleaned_even_where_nothing_is_defused() -> None:
    assert line("=1\x00\n", defuse=False) == "=1 "


def test_labels_follow_the_rules_of_cells() -> None:
    header = written(labels=['=quiz "1",\n - Score', "\ud800 - Progress"]).decode()
    assert header == '"\'=quiz ""1"",  - Score",\ufffd - Progress\r\n'


def test_one_text_for_all_rows_follows_them_too() -> None:
    target = io.BytesIO()
    column = Column("Collection Name", lambda _: "=\ud800\n")
    write_csv(target, [column], [page("a", "b")], bom=False, defuse_formulas=True)
    assert target.getvalue().decode() == "Collection Name\r\n" + "'=\ufffd \r\n" * 2


def test_the_byte_order_mark_is_a_setting() -> None:
    assert written(page("Goa"), bom=True) == b"\xef\xbb\xbf" + written(page("Goa"))


def test_what_was_written_is_told() -> None:
    target = io.BytesIO()
    told = write_csv(target, columns(*LABELS), [page("Goa", "é"), page("x")], bom=True, defuse_formulas=True)
    data = target.getvalue()
    assert (told.rows, told.size_bytes, told.sha256) == (3, len(data), hashlib.sha256(data).hexdigest())


def test_the_same_rows_are_the_same_bytes() -> None:
    assert written(page("a", "=b"), page("c,")) == written(page("a", "=b"), page("c,"))


def test_pandas_options_of_a_site_do_not_show() -> None:
    with pd.option_context("display.precision", 2, "display.width", 10, "display.max_colwidth", 5):
        assert line("a long state's name") == "a long state's name"
