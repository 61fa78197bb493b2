"""The specification's table "Columns", layout `standard`: a test a rule."""

from collections.abc import Sequence
from typing import Any

import pytest

from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns import Column, columns
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts
from tests.parts import part_of

NAN, INFINITY = float("nan"), float("inf")
QUIZ, PRACTICE, NESTED = "do_quiz", "do_practice", "do_nested"
NODES = (
    ColumnNode("nested", NESTED, "Nested", 8),
    ColumnNode("assessment", QUIZ, "Quiz"),
    ColumnNode("assessment", PRACTICE, ""),
)
BATCH = Batch("tag", "R1", "org", "0133", "do_1")
FACTS = BatchFacts("Batch1", "Course", owned=True)


def learners(
    *rows: dict[str, Any],
    leaf_count: int = 4,
    stated: bool = True,
    chosen: str = "best",
    failed: tuple[int, ...] = (2,),
    labels: str = "id",
    layout: Layout = BUILT_IN["standard"],
    attempted: Sequence[str] = (),
) -> Learners:
    hierarchy = Hierarchy("do_1", leaf_count, NODES, frozenset(), stated, content_ids=frozenset())
    rules = CellRules(chosen, failed, labels, True, "Asia/Kolkata")
    return Learners(part_of(*rows), Report(BATCH, FACTS, hierarchy, layout, rules, frozenset(attempted)))


def cells(label: str, *rows: dict[str, Any], **more: Any) -> list[str]:
    found = learners(*rows, **more)
    (column,) = (column for column in columns(found.report) if column.label == label)
    made = column.cells(found)
    return [made] * len(rows) if isinstance(made, str) else made.to_pylist()


def tried(attempt_id: str, score: float | None = None, at: int | None = None, **more: Any) -> dict[str, Any]:
    values = {"content_id": QUIZ, "attempt_id": attempt_id, "total_score": score, "attempted_at": at, "grand_total": None}
    return values | more


def test_the_standard_columns_stand_in_this_order_and_the_collections_own_after_them() -> None:
    assert [column.label for column in columns(learners().report)] == [
        "Collection Id", "Collection Name", "Batch Id", "Batch Name", "User UUID", "User Name", "State", "District",
        "Enrolment Date", "Completion Date", "Progress", "Certificate Status", "Total Score",
        "do_nested - Progress", "do_quiz - Score", "do_practice - Score",
    ]  # fmt: skip


def test_labels_may_name_what_has_a_name() -> None:
    labels = [column.label for column in columns(learners(labels="name").report)]
    assert labels[13:] == ["Nested (do_nested) - Progress", "Quiz (do_quiz) - Score", "do_practice - Score"]


@pytest.mark.parametrize(
    ("label", "cell"),
    [("Collection Id", "do_1"), ("Collection Name", "Course"), ("Batch Id", "0133"), ("Batch Name", "Batch1")],
)
def test_what_all_rows_have_in_common(label: str, cell: str) -> None:
    assert cells(label, {}, {}) == [cell, cell]


@pytest.mark.parametrize(("label", "field"), [("User UUID", "user_id"), ("State", "state"), ("District", "district")])
def test_text_of_a_learner_stands_as_it_is(label: str, field: str) -> None:
    assert cells(label, {field: "தமிழ்நாடு"}, {field: " =1 "}) == ["தமிழ்நாடு", " =1 "]


@pytest.mark.parametrize("label", ["State", "District", "User Name"])
def test_what_the_cache_lacks_is_blank(label: str) -> None:
    assert cells(label, {}) == [""]


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        ("Asha", "Rao", "Asha Rao"),
        (" Asha ", "\u00a0Rao\u3000", "Asha Rao"),
        ("Asha", None, "Asha"),
        (None, "Rao", "Rao"),
        ("Asha", " ", "Asha"),
        ("\x00 Asha\t", "\x07", "Asha"),
        ("Asha  Devi", "Rao", "Asha  Devi Rao"),
        ("\u200b", "Rao", "\u200b Rao"),
        ("", "", ""),
    ],
)
def test_a_name_is_first_and_last_name_with_one_space_trimmed(first: str | None, last: str | None, name: str) -> None:
    assert cells("User Name", {"firstname": first, "lastname": last}) == [name]


@pytest.mark.parametrize(
    ("at", "text", "date"),
    [
        (1598363154150, None, "2020-08-25 13:45:54:150+0000"),
        (1598363154150, "2019-11-15 05:41:50:382+0000", "2020-08-25 13:45:54:150+0000"),
        (None, "2019-11-15 05:41:50:382+0530", "2019-11-15 00:11:50:382+0000"),
        (None, "some day", "some day"),
        (0, None, "1970-01-01 00:00:00:000+0000"),
    ],
)
def test_the_enrolment_date_is_the_timestamp_else_the_text(at: int | None, text: str | None, date: str) -> None:
    assert cells("Enrolment Date", {"enrolled_at": at, "enrolled_text": text}) == [date]


def test_the_completion_date_is_blank_until_completed() -> None:
    assert cells("Completion Date", {"completed_at": 0}, {}) == ["1970-01-01 00:00:00:000+0000", ""]


@pytest.mark.parametrize(
    ("completed", "leaves", "percent"),
    [
        (0, 4, "0"), (2, 4, "50"), (1, 8, "13"), (1, 3, "33"), (2, 3, "67"), (1, 201, "0"), (1, 200, "1"), (199, 200, "100"),
        (5, 4, "100"), (4, 4, "100"), (0, 0, ""), (3, 0, ""), (1, 10**30, "0"),
    ],
)  # fmt: skip
def test_progress_is_completed_over_leaves_half_up_at_most_100(completed: int, leaves: int, percent: str) -> None:
    assert cells("Progress", {"completed_contents": completed}, leaf_count=leaves) == [percent]


@pytest.mark.parametrize("leaves", [0, 4])
def test_progress_is_100_once_completed(leaves: int) -> None:
    assert cells("Progress", {"completed_at": 0}, {}, leaf_count=leaves) == ["100", "0" if leaves else ""]


@pytest.mark.parametrize(
    ("has_certificate", "status", "cell"),
    [(True, None, "Issued"), (True, 2, "Issued"), (False, 2, "Failed"), (False, 1, ""), (False, 0, ""), (False, None, "")],
)
def test_a_certificate_is_issued_failed_or_blank(has_certificate: bool, status: int | None, cell: str) -> None:
    assert cells("Certificate Status", {"has_certificate": has_certificate, "certificate_status": status}) == [cell]


def test_which_statuses_have_failed_is_a_setting() -> None:
    rows = [{"certificate_status": status} for status in (1, 2, 3, None)]
    assert cells("Certificate Status", *rows, failed=(1, 3)) == ["Failed", "", "Failed", ""]
    assert cells("Certificate Status", *rows, failed=()) == ["", "", "", ""]


@pytest.mark.parametrize(
    ("total_score", "grand_total", "score"),
    [
        (7.0, "3/10", "7"), (0.0, "3/10", "0"), (None, "7/10", "7"), (None, " 7.5 / 10", "7.5"), (None, "4", "4"),
        (None, "-2/5", "-2"), (None, "+2/5", "2"), (NAN, "3/4", "3"), (INFINITY, "3/4", "3"), (0.1, None, "0.1"),
        (None, "0/0", "0"),
    ],
)  # fmt: skip
def test_an_attempts_score_is_total_score_else_what_stands_before_the_slash(
    total_score: float | None, grand_total: str | None, score: str
) -> None:
    attempts = [tried("1", total_score, grand_total=grand_total)]
    assert cells("do_quiz - Score", {"attempts": attempts}) == [score]


@pytest.mark.parametrize(
    "grand_total", [None, "", "/", "/10", "a/b", "NaN/1", "inf", "1e3", "1_0", "७/१०", "1" * 400, ".5", "5."]
)
def test_text_that_is_not_a_number_gives_no_score(grand_total: str | None) -> None:
    attempts = [tried("1", NAN, grand_total=grand_total)]
    assert cells("do_quiz - Score", {"attempts": attempts}) == cells("Total Score", {"attempts": attempts}) == [""]


@pytest.mark.parametrize(
    ("attempts", "best", "latest"),
    [
        ([], "", ""),
        ([tried("1", 7.0)], "7", "7"),
        ([tried("1", 8.0, 1), tried("2", 5.0, 2)], "8", "5"),
        ([tried("2", 8.0, 1), tried("1", 8.5, 1)], "8.5", "8"),  # a tie of dates: the greater attempt_id
        ([tried("1", 5.0, 1), tried("2", 6.0)], "6", "5"),  # without a date: the earliest
        ([tried("10", 1.0), tried("9", 2.0)], "2", "2"),  # attempt ids are text
        ([tried("B", 1.0), tried("a", 2.0)], "2", "2"),
        ([tried("1", 1.0, 1), tried("2")], "1", "1"),
        ([tried("1", 1.0, 1), tried("2", None, 2)], "1", ""),
        ([tried("1", -2.0, 1), tried("2", NAN, 2)], "-2", ""),
        ([tried("1", 3.0, 1), tried("2", 9.0, 2, content_id="do_gone")], "3", "3"),
        ([tried("1", 3.0, 1), tried("2", None, 2, grand_total="4/5")], "4", "4"),
        ([tried("1")], "", ""),
    ],
)
def test_one_attempt_is_chosen(attempts: Sequence[dict[str, Any]], best: str, latest: str) -> None:
    for chosen, score in (("best", best), ("latest", latest)):
        for order in (attempts, attempts[::-1]):
            assert cells("do_quiz - Score", {"attempts": order}, chosen=chosen) == [score]
            assert cells("Total Score", {"attempts": order}, chosen=chosen) == [score]


def test_the_total_is_the_exact_sum_over_the_hierarchys_assessments() -> None:
    attempts = [tried("1", 0.1), tried("1", 0.2, content_id=PRACTICE), tried("1", 100.0, content_id="do_gone")]
    assert cells("Total Score", {"attempts": attempts}) == ["0.3"]
    assert cells("do_practice - Score", {"attempts": attempts}) == ["0.2"]


def test_sums_of_the_greatest_and_smallest_scores_are_exact() -> None:
    attempts = [tried("1", 1e300), tried("1", 0.0001, content_id=PRACTICE)]
    assert cells("Total Score", {"attempts": attempts}) == ["1" + "0" * 300 + ".0001"]


@pytest.mark.parametrize(
    ("scores", "total"),
    [
        (("9223372036854775807", "1"), "9223372036854775808"),  # more than 64 bits hold
        (("922337203685477.5807", "0.0001"), "922337203685477.5808"),
        (("-9223372036854775808", "-1"), "-9223372036854775809"),
        (("0." + "3" * 100, "0." + "6" * 100), "1"),
        (("1" * 300, "0.00005"), "1" * 300 + ".0001"),
        (("7.5", "-7.5"), "0"),
        (("7.5", "x"), "7.5"),
        (("y", "x"), ""),
    ],
)
def test_no_sum_is_rounded(scores: tuple[str, str], total: str) -> None:
    attempts = [tried("1", content_id=one, grand_total=score) for one, score in zip((QUIZ, PRACTICE), scores, strict=True)]
    assert cells("Total Score", {"attempts": attempts}, {}) == [total, ""]


@pytest.mark.parametrize(
    ("nested", "percent"),
    [
        ([(NESTED, 1.0)], "13"), ([(NESTED, 4.0)], "50"), ([(NESTED, 0.0)], "0"), ([(NESTED, 99.0)], "100"),
        ([(NESTED, -1.0)], "0"), ([(NESTED, 2.5)], "31"), ([("do_other", 4.0)], ""), ([], ""),
        ([("do_other", 1.0), (NESTED, 8.0)], "100"),
    ],
)  # fmt: skip
def test_nested_progress_is_completed_over_its_leaves_and_blank_without_an_entry(
    nested: list[tuple[str, float]], percent: str
) -> None:
    assert cells("do_nested - Progress", {"nested": nested}, {}) == [percent, ""]


@pytest.mark.parametrize("leaf_count", [0, None])
def test_a_nested_collection_without_leaves_has_no_progress(leaf_count: int | None) -> None:
    found = learners({"nested": [(NESTED, 1.0)]})
    assert found.nested_progress(ColumnNode("nested", NESTED, "N", leaf_count)).to_pylist() == [""]


def test_each_learner_has_the_own_facts() -> None:
    rows = [
        {"attempts": [tried("1", 1.0)]},
        {},
        {"attempts": [tried("1", 3.0)], "nested": [(NESTED, 8.0)], "completed_at": 0},
    ]
    assert cells("do_quiz - Score", *rows) == ["1", "", "3"]
    assert cells("do_nested - Progress", *rows) == ["", "", "100"]
    assert cells("Progress", *rows) == ["0", "0", "100"]


@pytest.mark.parametrize("column", columns(learners().report), ids=lambda one: one.label)
def test_a_chunk_without_learners_has_no_cells(column: Column) -> None:
    found = column.cells(learners())
    assert isinstance(found, str) or found.to_pylist() == []


def of_field(field: str, *rows: dict[str, Any], **more: Any) -> list[str]:
    return cells("It", *rows, layout=Layout.model_validate({"columns": [{"label": "It", "field": field}]}), **more)


def test_the_attempts_at_the_collections_assessments_are_counted_and_none_is_zero() -> None:
    attempts = [tried("1"), tried("2"), tried("1", content_id=PRACTICE), tried("1", content_id="do_removed")]
    assert of_field("attempts", {"attempts": attempts}, {}) == ["3", "0"]


@pytest.mark.parametrize(
    ("attempts", "chosen", "shown"),
    [
        ([], "best", ""),
        ([tried("1", 7.0, total_max_score=10.0), tried("1", 3.0, content_id=PRACTICE, total_max_score=4.5)], "best", "14.5"),
        ([tried("1", 7.0, 1, total_max_score=10.0), tried("2", 3.0, 2, total_max_score=20.0)], "best", "10"),
        ([tried("1", 7.0, 1, total_max_score=10.0), tried("2", 3.0, 2, total_max_score=20.0)], "latest", "20"),
        ([tried("1", 7.0, grand_total="7/12")], "best", "12"),
        ([tried("1", 7.0, total_max_score=NAN, grand_total=" 7 / 12.5 ")], "best", "12.5"),
        ([tried("1", 7.0, grand_total="7")], "best", ""),
        ([tried("1", 7.0, total_max_score=0.0)], "best", "0"),
        # A total of 17 of 10 would mislead.
        ([tried("1", 7.0, total_max_score=10.0), tried("1", 10.0, content_id=PRACTICE)], "best", ""),
        ([tried("1", 7.0, total_max_score=10.0), tried("1", content_id=PRACTICE)], "best", "10"),
        ([tried("1", 7.0, content_id="do_removed", total_max_score=10.0)], "best", ""),
    ],
)
def test_the_maximum_score_is_that_of_the_chosen_attempts(attempts: list[dict[str, Any]], chosen: str, shown: str) -> None:
    assert of_field("max_score", {"attempts": attempts}, {}, chosen=chosen) == [shown, ""]


def test_an_enrolment_is_active_or_inactive() -> None:
    assert of_field("enrolment_status", {}, {"active": False}) == ["active", "inactive"]
