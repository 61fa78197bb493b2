"""The description of a report's columns: as a csv, and as the second sheet of a workbook."""

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust.extract.chunk_files import max_scores, to_parquet
from progress_exhaust.report.columns import FIELDS, columns
from progress_exhaust.report.columns_file import LABELS, NEVER, columns_csv
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.report import Report
from tests.parts import part_of
from tests.unit.test_pivot import PRACTICE, QUIZ, cells, learners, tried

MAXIMA = {QUIZ: Decimal("7.5"), PRACTICE: Decimal(10)}


def rows(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(columns_csv(report, bom=False).decode(), newline=""), strict=True))


def report(max_scores: dict[str, Decimal] | None = None, **more: Any) -> Report:
    made = learners(**more).report
    return Report(made.batch, made.facts, made.hierarchy, made.layout, made.rules, made.attempted, max_scores or {})


def test_the_description_of_the_standard_layout() -> None:
    found = rows(report(MAXIMA))
    assert [row["Column"] for row in found] == [column.label for column in columns(report())]
    shown = {row["Column"]: (row["Id"], row["Name"], row["Kind"], row["Maximum Score"], row["Blank"]) for row in found}
    assert shown["User UUID"] == ("", "", "text", "", NEVER)
    assert shown["Enrolment Date"] == ("", "", "date", "", "the date cannot be read")
    assert shown["Progress"] == ("", "", "number", "100", "the collection has no contents")
    assert shown["Total Score"] == ("", "", "number", "17.5", "no assessment attempted")
    assert shown["do_nested - Progress"] == ("do_nested", "Nested", "number", "100", "not started")
    assert shown["do_quiz - Score"] == (QUIZ, "Quiz", "number", "7.5", "not attempted")
    assert [row["Format"] for row in found if row["Kind"] == "date"] == ["yyyy-MM-dd HH:mm:ss:SSS+0000"] * 2


def test_a_maximum_that_is_unknown_is_blank_and_so_is_the_total_of_it() -> None:
    shown = {row["Column"]: row["Maximum Score"] for row in rows(report({QUIZ: Decimal(5)}))}
    assert (shown["do_quiz - Score"], shown["do_practice - Score"], shown["Total Score"]) == ("5", "", "")


def test_percents_have_the_maximum_100() -> None:
    shown = {
        row["Column"]: row["Maximum Score"] for row in rows(report(MAXIMA, layout=BUILT_IN["sunbird-lern-7"], attempted=[QUIZ]))
    }
    assert (shown["do_quiz - Score"], shown["Total Score"]) == ("100", "100")


def test_it_has_the_dialect_of_the_report() -> None:
    layout = Layout.model_validate({"like": "standard", "delimiter": ";", "decimal_sign": ",", "line_end": "LF"})
    lines = columns_csv(report(MAXIMA, layout=layout), bom=True).decode().split("\n")
    assert lines[0] == "\ufeff" + ";".join(LABELS)
    assert lines[-3].startswith("do_quiz - Score;do_quiz;Quiz;number;;7,5;") and "\r" not in lines[-3]


def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe() -> None:
    made = report()
    layout = Layout.model_validate(
        {"columns": [{"label": "=1+1", "field": "user_id"}], "nested_progress": False, "scores": "none"}
    )
    assert rows(Report(made.batch, made.facts, made.hierarchy, layout, made.rules))[0]["Column"] == "'=1+1"


# The meaning of a blank, held against the cells of a learner for whom nothing is known


@pytest.mark.parametrize("field", FIELDS)
def test_a_column_that_is_never_blank_has_no_blank_cell(field: str) -> None:
    layout = Layout.model_validate({"columns": [{"label": "It", "field": field}], "nested_progress": False, "scores": "none"})
    [row] = rows(report(layout=layout))
    blank = cells("It", {}, {"completed_at": None, "enrolled_at": None}, layout=layout, leaf_count=0) + [""] * (
        row["Blank"] != NEVER
    )
    assert ("" in blank) == (row["Blank"] != NEVER)


# The maximum scores


def chunk_files(folder: Path, *chunks: Sequence[dict[str, Any]]) -> list[Path]:
    files = [folder / f"{number}.parquet" for number in range(len(chunks))]
    for file, attempts in zip(files, chunks, strict=True):
        file.write_bytes(to_parquet(part_of({"attempts": list(attempts)}, {}), {}))
    return files


def test_the_maximum_of_a_content_is_the_greatest_of_its_attempts(tmp_path: Path) -> None:
    files = chunk_files(
        tmp_path,
        [tried("1", 5.0, total_max_score=7.5), tried("2", 5.0, total_max_score=5.0), tried("3", content_id="other")],
        [tried("1", 5.0, total_max_score=float("nan")), tried("2", grand_total="3/12", content_id=PRACTICE)],
        [tried("1", grand_total="1/9 of it"), tried("2", total_max_score=10.0, grand_total="3/99", content_id=PRACTICE)],
        [],
    )
    assert max_scores(files) == {QUIZ: Decimal("7.5"), PRACTICE: Decimal(12)}


def test_a_maximum_that_is_not_above_zero_is_unknown(tmp_path: Path) -> None:
    files = chunk_files(
        tmp_path,
        [tried("1", total_max_score=0.0, grand_total="1/10"), tried("2", grand_total="0/0", content_id=PRACTICE)],
        [tried("1", total_max_score=-1.0, content_id=PRACTICE), tried("2", total_max_score=-1.0, content_id="other")],
    )
    assert max_scores(files) == {QUIZ: Decimal(10)}
