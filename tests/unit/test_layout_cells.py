"""What a layout may ask of a cell beyond the standard one: the specification's "Layout `sunbird-lern-7`", a test a rule."""

import re
from dataclasses import replace
from typing import Any

import pytest

from dev import docs
from progress_exhaust.errors import SetupError
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns import columns
from progress_exhaust.report.csv_file import chunk_csv, header
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import BUILT_IN, FIELDS, Layout
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts
from progress_exhaust.settings import parse_settings
from tests.parts import part_of
from tests.unit import test_pivot
from tests.unit.test_pivot import PRACTICE, QUIZ, learners, tried

LERN7 = BUILT_IN["sunbird-lern-7"]
NAN = float("nan")


def cells(label: str, *rows: dict[str, Any], layout: Layout = LERN7, **more: Any) -> list[str]:
    return test_pivot.cells(label, *rows, layout=layout, **({"attempted": (QUIZ, PRACTICE)} | more))


def layout_of(**column: Any) -> Layout:
    return Layout.model_validate({"columns": [{"label": "It"} | column]})


@pytest.mark.parametrize(
    ("board", "shown"),
    [
        ('["CBSE"]', "CBSE"), ('["State (Kerala)", "CBSE"]', "State (Kerala)"), (' ["CBSE"]', "CBSE"), ("[]", "[]"),
        ("CBSE", "CBSE"), ("[CBSE]", "[CBSE]"), ('"CBSE"', '"CBSE"'), ("{}", "{}"), (None, ""), ('["\\ud800"]', "\ufffd"),
        ("[null]", "null"),
        ("[" * 100_000, "[" * 100_000), ("[[1, 2]]", "[1, 2]"),
    ],
)  # fmt: skip
def test_the_declared_board_is_the_first_entry_of_a_list_else_the_text(board: str | None, shown: str) -> None:
    assert cells("Declared Board", {"framework_board": board}, {"framework_board": "x"}) == [shown, "x"]


def test_a_prefix_stands_before_each_cell_that_is_not_blank() -> None:
    assert cells("Batch Id", {}) == ["BatchId_0133"]
    assert cells("It", {"state": "Goa"}, {}, layout=layout_of(field="user.state", prefix="S:")) == ["S:Goa", ""]
    nameless = replace(
        learners({}).report, facts=BatchFacts("", "", owned=True), layout=layout_of(field="batch_name", prefix="N:")
    )
    assert columns(nameless)[0].cells(Learners(learners({}).chunk, nameless)) == ""
    assert cells("It", {}, layout=layout_of(field="progress", prefix="=")) == ["=0"]
    assert b"'=0" in chunk_csv(learners({}).chunk, learners(layout=layout_of(field="progress", prefix="=")).report)


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ("State", "state"), ("Org Name", "orgname"), ("Cluster Name", "cluster"), ("User Type", "usertype"),
        ("Block Name", "block"), ("School Name", "schoolname"), ("User Sub Type", "usersubtype"), ("District", "district"),
        ("School Id", "schooludisecode"),
    ],
)  # fmt: skip
def test_a_field_of_the_user_cache(label: str, field: str) -> None:
    assert cells(label, {field: "0012"}, {}) == ["0012", ""]


@pytest.mark.parametrize(
    ("leaves", "stated", "shown"), [(4, True, ["25", "100"]), (4, False, ["100", "100"]), (0, True, ["100", "100"])]
)
def test_progress_without_a_leaf_count_in_the_root_is_100(leaves: int, stated: bool, shown: list[str]) -> None:
    rows = [{"completed_contents": 1}, {"completed_at": 0}]
    assert cells("Progress", *rows, leaf_count=leaves, stated=stated) == shown


@pytest.mark.parametrize(
    ("completed", "leaves", "as_spark", "exact"),
    [
        (21, 40, "52", "53"),
        (1, 40, "3", "3"),
        (19, 40, "48", "48"),
        (0, 40, "0", "0"),
        (40, 40, "100", "100"),
        (41, 40, "100", "100"),
        (1, 10**20, "0", "0"),
    ],
)
def test_progress_is_calculated_in_32_bits_in_the_incumbents_layout_alone(
    completed: int, leaves: int, as_spark: str, exact: str
) -> None:
    rows = [{"completed_contents": completed}, {"completed_contents": completed, "completed_at": 0}]
    assert cells("Progress", *rows, leaf_count=leaves) == [as_spark, "100"]
    assert cells("Progress", *rows, leaf_count=leaves, layout=BUILT_IN["standard"]) == [exact, "100"]
    layout = Layout.model_validate({"like": "sunbird-lern-7", "progress_precision": "exact"})
    assert cells("Progress", *rows, leaf_count=leaves, layout=layout) == [exact, "100"]


@pytest.mark.parametrize(
    ("at", "text", "shown"),
    [
        (1598382054150, None, "26/08/2020"),  # 19:00 in UTC is the next day in the report's zone
        (1598382054150, "2019-11-15", "26/08/2020"),
        (None, "2019-11-15 23:41:50:382+0000", "15/11/2019"),
        (None, "2019-11-15, some time", "15/11/2019"),
        (None, "15/11/2019", ""),
        (None, "2019-02-29", ""),
    ],
)
def test_a_day_is_in_the_reports_zone_and_a_text_date_is_never_shifted(at: int | None, text: str | None, shown: str) -> None:
    assert cells("Enrolment Date", {"enrolled_at": at, "enrolled_text": text}) == [shown]


def test_a_text_date_may_be_shifted_like_any_other_and_stay_where_it_does_not_parse() -> None:
    layout = Layout.model_validate({"like": "sunbird-lern-7", "text_dates": "parsed"})
    rows = [{"enrolled_at": None, "enrolled_text": text} for text in ("2019-11-15 23:41:50:382+0000", "some day")]
    assert cells("Enrolment Date", *rows, layout=layout) == ["16/11/2019", "some day"]


def test_no_zone_shifts_the_day_of_a_text_date() -> None:
    layout = Layout.model_validate({"like": "sunbird-lern-7", "time_zone": "America/New_York"})
    assert cells("Enrolment Date", {"enrolled_at": None, "enrolled_text": "2019-11-15 23:41"}, layout=layout) == ["15/11/2019"]


def test_a_completion_date_is_in_the_reports_zone_and_blank_until_completed() -> None:
    assert cells("Completion Date", {"completed_at": 1598382054150}, {}) == ["26/08/2020", ""]


def test_a_certificate_is_issued_or_blank() -> None:
    assert cells("Certificate Status", {"has_certificate": True}, {"certificate_status": 2}) == ["Issued", ""]


@pytest.mark.parametrize(
    ("grand_total", "percent"),
    [
        ("7/10", "70%"), ("1/3", "34%"), ("0/3", "0%"), (" 7.5 / 10 ", "75%"), ("7", ""), ("7/0", ""), ("7/0.0", ""), ("a/b", ""),
        ("7/", ""), ("/7", ""), (None, ""), ("12/10", "120%"), ("-1/3", "-33%"), ("7/10/2", ""), ("1/" + "3" * 300, "1%"),
    ],
)  # fmt: skip
def test_a_score_is_the_percent_of_the_grand_total_rounded_up(grand_total: str | None, percent: str) -> None:
    assert cells("do_quiz - Score", {"attempts": [tried("1", 1.0, grand_total=grand_total)]}, {}) == [percent, ""]


@pytest.mark.parametrize(
    ("attempts", "best", "latest"),
    [
        ([("a", 5.0, 2, "1/10"), ("b", 5.0, 1, "2/10")], "10%", "10%"),  # the same score: the later one
        ([("a", 5.0, 2, "1/10"), ("b", 5.0, 2, "2/10")], "20%", "20%"),  # at the same time: the greater id
        ([("a", 5.0, None, "1/10"), ("b", 5.0, -(10**15), "2/10")], "20%", "20%"),
        ([("a", 7.0, 1, "1/10"), ("b", 5.0, 2, "2/10")], "10%", "20%"),
    ],
)
def test_a_tie_goes_to_the_later_attempt_then_to_the_greater_id(
    attempts: list[tuple[str, float, int | None, str]], best: str, latest: str
) -> None:
    for order in (attempts, attempts[::-1]):
        rows = {"attempts": [tried(one, score, at, grand_total=total) for one, score, at, total in order]}
        assert [cells("do_quiz - Score", rows, chosen=chosen) for chosen in ("best", "latest")] == [[best], [latest]]


@pytest.mark.parametrize(
    ("quiz", "practice", "percent"),
    [
        ((7.0, 10.0), (8.0, 10.0), "75%"), ((1.0, 3.0), None, "34%"), ((0.1, 0.3), (0.2, 0.0), "100%"), ((0.0, 10.0), None, "0%"),
        ((0.0, 0.0), None, ""), ((5.0, 0.0), None, ""), ((5.0, None), None, ""), ((None, 5.0), None, ""), (None, None, ""),
        ((NAN, 10.0), (5.0, 10.0), "25%"), ((1e300, 1e300), (1.0, 1.0), "100%"), ((7.0, 10.0), (None, None), "70%"),
        ((0.125, 1.0), None, "13%"), ((1.0, 0.125), None, "800%"),
    ],
)  # fmt: skip
def test_the_total_is_the_percent_of_the_sums_rounded_up(quiz: Any, practice: Any, percent: str) -> None:
    attempts = [
        tried("1", both[0], content_id=content, total_max_score=both[1])
        for content, both in ((QUIZ, quiz), (PRACTICE, practice), ("do_gone", (1.0, 100.0)))
        if both
    ]
    assert cells("Total Score", {"attempts": attempts}, {}) == [percent, ""]


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, ["do_nested - Progress", "do_quiz - Score", "do_practice - Score"]),
        ({"order": "id"}, ["do_nested - Progress", "do_practice - Score", "do_quiz - Score"]),
        ({"nested_progress": False}, ["do_quiz - Score", "do_practice - Score"]),
        ({"scores": "none"}, ["do_nested - Progress"]),
        ({"scores": "attempted"}, ["do_nested - Progress", "do_quiz - Score"]),
        ({"own_labels": "name"}, ["Nested (do_nested) - Progress", "Quiz (do_quiz) - Score", "do_practice - Score"]),
    ],
)
def test_the_collections_own_columns_are_the_layouts_choice(changes: dict[str, Any], labels: list[str]) -> None:
    layout = Layout.model_validate({"like": "standard"} | changes)
    found = columns(learners(layout=layout, attempted=[QUIZ, "do_gone"]).report)
    assert [column.label for column in found[13:]] == labels


def test_the_incumbents_labels_are_ids_whatever_the_setting_says() -> None:
    found = columns(learners(layout=LERN7, labels="name", attempted=[QUIZ, PRACTICE]).report)
    assert [column.label for column in found[20:]] == ["do_practice - Score", "do_quiz - Score"]


def test_chunks_that_lack_a_field_need_a_new_extract() -> None:
    found = learners({"state": "Goa"})
    found.chunk = found.chunk.drop_columns("user.state")
    with pytest.raises(
        SetupError,
        match=r"batch 0133: extract did not read the field user\.state, which the layout shows\. Clear the extract task",
    ):
        chunk_csv(found.chunk, found.report)


def test_the_example_of_the_docs_makes_what_they_say() -> None:
    page = (docs.PROJECT / "docs/how-to/change-the-columns.md").read_text()
    settings, example, like, *_ = re.findall("```(?:json|csv)\n(.*?)```", page, re.DOTALL)
    site, quiz = parse_settings(settings), "do_2121589132151005906648"
    batch = Batch("tag", "R1", "org", "013300978801321105614", "do_1")
    nodes = (ColumnNode("nested", "do_2", "N", 1), ColumnNode("assessment", quiz, "Quiz"))
    hierarchy = Hierarchy("do_1", 4, nodes, frozenset(), content_ids=frozenset({quiz}))
    rules = CellRules("best", (2,), "id", True, site.report_timezone)
    report = Report(batch, BatchFacts("Batch", "Course", owned=True), hierarchy, site.layout_named(site.layout), rules)
    part = part_of(
        {
            "user_id": "14de28f4-5b98-4694-bca2-01c6064f4c00", "firstname": "Harpreet", "lastname": "Kaur",
            "schoolname": "Govt. School, Moga", "framework_board": '["CBSE"]', "completed_at": 1598382054150,
            "attempts": [tried("1", 7.0, content_id=quiz, grand_total="7/10", total_max_score=10.0)],
        },
        {"user_id": "4b49cc68-107e-4eec-a99c-ff4155d098c5", "firstname": "Mathew", "lastname": "Pallan"},
    )  # fmt: skip
    assert (header(report) + chunk_csv(part, report)).decode() == example
    assert parse_settings(like).layout == "lern-7-spark"


def test_every_field_and_key_of_a_layout_is_documented() -> None:
    page = (docs.PROJECT / "docs/reference/columns.md").read_text()
    for name in (*FIELDS, *Layout.model_fields):
        assert f"`{name}`" in page, name
