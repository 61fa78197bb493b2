"""The specification's "File": RFC 4180, UTF-8, CRLF, and cells that run nowhere."""

import csv
import hashlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from progress_exhaust.report.csv_file import chunk_csv, header, write_csv
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts
from tests.oracle import spark_quoted
from tests.parts import part_of

BEFORE, AFTER = "do_1,Collection,01,Batch,u0,,", ",,1970-01-01 00:00:00:000+0000,,,,\r\n"  # the state


def report(
    *,
    collection: str = "Collection",
    parts: tuple[ColumnNode, ...] = (),
    named: bool = False,
    defuse: bool = True,
    layout: Layout = BUILT_IN["standard"],
) -> Report:
    batch, facts = Batch("tag", "R1", "org", "01", "do_1"), BatchFacts("Batch", collection, owned=True)
    hierarchy = Hierarchy("do_1", 0, parts, frozenset(), content_ids=frozenset())
    rules = CellRules("best", (), "name" if named else "id", defuse, "Asia/Kolkata")
    return Report(batch, facts, hierarchy, layout, rules)


def page(*states: str, of: Report = report()) -> bytes:  # noqa: B008
    return chunk_csv(part_of(*({"state": state} for state in states)), of)


def written(*pages: bytes, bom: bool = False) -> bytes:
    target = io.BytesIO()
    write_csv(target, report(), pages, bom=bom)
    return target.getvalue()


def line(state: str, *, defuse: bool = True) -> str:
    """Return how a state stands in the csv, without what stands before and after it."""
    made = page(state, of=report(defuse=defuse)).decode()
    assert made.startswith(BEFORE) and made.endswith(AFTER)
    return made[len(BEFORE) : -len(AFTER)]


def test_a_batch_without_learners_is_a_header() -> None:
    assert written() == written(page()) == header(report())
    assert header(report()).startswith(b"Collection Id,") and header(report()).endswith(b",Total Score\r\n")


def test_lines_end_with_crlf_across_pages() -> None:
    made = written(page("Goa", "Kerala"), page("Punjab")).removeprefix(header(report())).decode()
    assert made == "".join(
        f"{BEFORE.replace('u0', user)}{state}{AFTER}" for user, state in [("u0", "Goa"), ("u1", "Kerala"), ("u0", "Punjab")]
    )


def test_text_is_utf_8() -> None:
    assert page("தமிழ் 🙂") == f"{BEFORE}தமிழ் 🙂{AFTER}".encode()


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
    [row] = csv.reader(io.StringIO(page(state).decode(), newline=""), strict=True)
    assert row[6] == state.replace("\r", " ").replace("\n", " ")


@pytest.mark.parametrize(
    ("state", "cell"),
    [("a\r\nb\tc", "a  b c"), ("a\x00\x1b\x7f\x85b", "ab"), ("\x00=1", "'=1"), ("\t-1 2", "' -1 2")],
)
def test_cells_are_cleaned_before_they_are_defused(state: str, cell: str) -> None:
    assert line(state) == cell


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("state", ["a,b", "a;b", "a|b", 'say "x"', '",;|\n"', "=1;2", "'"])
def test_a_reader_with_the_layouts_delimiter_gets_each_cell_back(delimiter: str, state: str) -> None:
    layout = Layout.model_validate({"like": "standard", "delimiter": delimiter})
    made = page(state, of=report(layout=layout, collection="a;b,c|d")).decode()
    [row] = csv.reader(io.StringIO(made, newline=""), delimiter=delimiter, strict=True)
    shown = state.replace("\n", " ")
    assert (row[1], row[6]) == ("a;b,c|d", "'=1;2" if state == "=1;2" else shown)
    [labels] = csv.reader(io.StringIO(header(report(layout=layout)).decode(), newline=""), delimiter=delimiter, strict=True)
    assert labels[:2] == ["Collection Id", "Collection Name"]
    for quoted, unquoted in ((f"x{delimiter}y", "a"), ("a", "x:y")):
        cells = page(quoted, unquoted, of=report(layout=layout)).decode()
        assert (f'"{quoted}"' in cells) is (delimiter in quoted.replace("\t", " "))
        assert f'"{unquoted}"' not in cells


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ({"field": "total_score"}, "7,5"),
        ({"field": "total_score", "prefix": "P "}, "P 7,5"),
        ({"field": "max_score"}, "10,25"),
        ({"field": "total_score", "format": "percent"}, "74%"),
        ({"field": "progress"}, ""),
        ({"field": "user.state"}, "1.5"),
        ({"field": "enrolment_date", "format": "dd.MM.yyyy"}, "01.01.1970"),
    ],
)
def test_the_decimal_sign_is_that_of_numbers_alone(column: dict[str, str], cell: str) -> None:
    layout = {"columns": [{"label": "It"} | column], "scores": "every", "delimiter": ";", "decimal_sign": ","}
    quiz = ColumnNode("assessment", "do_quiz", "Quiz")
    attempt = {"content_id": "do_quiz", "attempt_id": "1", "total_score": 7.5, "total_max_score": 10.25, "attempted_at": 1}
    of = report(layout=Layout.model_validate(layout), parts=(quiz,))
    assert chunk_csv(part_of({"state": "1.5", "attempts": [attempt]}), of).decode() == f"{cell};7,5\r\n"


@pytest.mark.parametrize(
    ("state", "cell"),
    [("0012", "'0012"), ("a,b", '"\'a,b"'), ("=1", "'=1"), (" 1\t", "' 1 "), ("'x", "''x"), ("", ""), (None, "")],
)
def test_excel_text_has_an_apostrophe_before_what_is_not_blank(state: str | None, cell: str) -> None:
    columns = [{"label": "It", "field": "user.state", "format": "excel_text"}, {"label": "Id", "field": "user_id"}]
    of = report(layout=Layout.model_validate({"columns": columns}))
    assert chunk_csv(part_of({"state": state}), of).decode() == f"{cell},u0\r\n"


def test_formulas_are_defused_unless_the_setting_is_off() -> None:
    assert line("=1+1") == "'=1+1"
    assert line("=1+1", defuse=False) == "=1+1"
    assert line("-5") == "-5"


def test_text_is_cleaned_even_where_nothing_is_defused() -> None:
    assert line("=1\x00\n", defuse=False) == "=1 "


def test_labels_follow_the_rules_of_cells() -> None:
    parts = (ColumnNode("assessment", "do_2", '=quiz "1",\n'), ColumnNode("nested", "do_3", "\ud800"))
    made = header(report(parts=parts, named=True)).decode()
    assert made.endswith(',Total Score,"\'=quiz ""1"",  (do_2) - Score",\ufffd (do_3) - Progress\r\n')
    made = header(report(parts=parts, named=True, defuse=False)).decode()
    assert made.endswith(',Total Score,"=quiz ""1"",  (do_2) - Score",\ufffd (do_3) - Progress\r\n')


def test_one_text_for_all_rows_follows_them_too() -> None:
    made = page("a", "b", of=report(collection="=\ud800\n,"))
    assert [line.split(",u")[0] for line in made.decode().splitlines()] == ['do_1,"\'=\ufffd ,",01,Batch'] * 2


def test_the_byte_order_mark_is_a_setting() -> None:
    assert written(page("Goa"), bom=True) == b"\xef\xbb\xbf" + written(page("Goa"))


def test_write_csv_returns_rows_size_and_digest() -> None:
    target = io.BytesIO()
    written_file = write_csv(target, report(), [page("Goa", "é"), page(), page("x")], bom=True)
    data = target.getvalue()
    assert (written_file.rows, written_file.size_bytes, written_file.sha256) == (3, len(data), hashlib.sha256(data).hexdigest())


def test_each_page_is_written_before_the_next_is_made() -> None:
    target, sizes = io.BytesIO(), []

    def pages() -> Iterator[bytes]:
        for state in ("Goa", "Kerala"):
            sizes.append(len(target.getvalue()))
            yield page(state)

    write_csv(target, report(), pages(), bom=False)
    assert sizes == [len(header(report())), len(header(report())) + len(page("Goa"))]


def test_another_process_can_make_a_page() -> None:
    """What chunk_csv is given, and what it gives, can be pickled."""
    given = pickle.loads(pickle.dumps((part_of({"state": "Goa"}), report())))  # noqa: S301
    assert chunk_csv(*given) == page("Goa")


def test_the_same_rows_are_the_same_bytes() -> None:
    assert written(page("a", "=b"), page("c,")) == written(page("a", "=b"), page("c,"))


TWO: dict[str, Any] = {
    "columns": [{"label": "Id", "field": "user_id"}, {"label": "State", "field": "user.state"}],
    "line_end": "LF",
}


def lines(state: str, **changes: Any) -> str:
    of = report(layout=Layout.model_validate(TWO | changes))
    return (header(of) + page(state, of=of)).decode()


@pytest.mark.parametrize(
    ("changes", "state", "written"),
    [
        ({}, 'say "x", y', 'Id,State\nu0,"say ""x"", y"\n'),
        ({"quoting": "spark"}, 'say "x", y', 'Id,State\nu0,"say \\"x\\", y"\n'),
        ({"quoting": "spark"}, "a\\b", "Id,State\nu0,a\\b\n"),
        ({"quoting": "spark"}, "", 'Id,State\nu0,""\n'),
        ({"quoting": "spark"}, "\x00", 'Id,State\nu0,""\n'),
        ({}, "", "Id,State\nu0,\n"),
        ({"line_end": "CRLF"}, "Goa", "Id,State\r\nu0,Goa\r\n"),
        ({"trimmed": True}, " \u00a0Goa\t", "Id,State\nu0,Goa\n"),
        ({"trimmed": True}, "\t =1", "Id,State\nu0,'=1\n"),
        ({"trimmed": True}, "\x00 Goa", "Id,State\nu0,Goa\n"),
        ({"trimmed": False}, " Goa ", "Id,State\nu0, Goa \n"),
        ({"columns": TWO["columns"][1:]}, "", 'State\n""\n'),
        ({"columns": TWO["columns"][1:]}, "Goa", "State\nGoa\n"),
    ],
)
def test_the_dialect_is_the_layouts(changes: dict[str, Any], state: str, written: str) -> None:
    assert lines(state, **changes) == written


@pytest.mark.parametrize(
    ("state", "written"),
    [
        ("a\\b", "a\\b"),
        ("\\", "\\"),
        ("a,\\", '"a,\\\\"'),
        ("C:\\d, x", '"C:\\\\d, x"'),
        ('\\"', '"\\\\\\""'),
        ('a\\"b', '"a\\\\\\"b"'),
        ('"', '"\\""'),
        ("#x", "#x"),
    ],
)
def test_spark_reads_back_a_cell_with_a_backslash(state: str, written: str) -> None:
    """As univocity-parsers 2.9.1, which is Spark 3.1's, writes and reads them."""
    assert lines(state, quoting="spark") == f"Id,State\nu0,{written}\n"
    assert spark_quoted(state) == written


def test_one_text_for_all_rows_is_trimmed_too() -> None:
    layout = Layout.model_validate(
        TWO | {"columns": [{"label": "C", "field": "collection_name"}, *TWO["columns"]], "trimmed": True}
    )
    assert page("Goa", of=report(layout=layout, collection="\t =A \n")) == b"'=A,u0,Goa\n"


def test_rows_are_counted_in_each_dialect() -> None:
    of = report(layout=Layout.model_validate(TWO))
    assert write_csv(io.BytesIO(), of, [page("a", "b", of=of), page("c\r\n", of=of)], bom=True).rows == 3


GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.csv") if "sunbird" not in path.name))
def test_pandas_reads_what_the_csv_says(name: str) -> None:
    """Every cell as text: long ids keep their digits, and nothing but a blank is blank."""
    data = (GOLDEN / name).read_bytes()
    [header_cells, *rows] = csv.reader(io.StringIO(data.decode(), newline=""))
    frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    assert list(frame.columns) == header_cells
    assert frame.to_numpy().tolist() == rows
    assert frame["Batch Id"].str.fullmatch(r"\d+").all()
