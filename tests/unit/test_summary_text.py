"""The summary of a report: its counts, the meaning of the columns, and that it has no data of a learner."""

from datetime import UTC, datetime
from typing import Any

import pytest

from progress_exhaust.report.columns import FIELDS, NOT_IN_PROFILE, OR_NO_MAXIMUM
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.summary_text import NO_ROOM, summary_text
from tests.unit.test_pivot import QUIZ, learners

AS_OF = datetime(2022, 9, 27, 20, 0, tzinfo=UTC)
COUNTS = {
    "enrolled": 1210, "reported": 1200, "missing": 7, "excluded.other_org": 3, "excluded.deleted": 2, "excluded.missing": 5,
    "excluded.unknown_org": 0, "scores_from_aggregates": 12, "removed_contents_completed": 3,
    "excluded.inactive": 4, "excluded.no_date": 1,
}  # fmt: skip


def lines(counts: dict[str, int], notes: list[str] | None = None, **more: Any) -> list[str]:
    made = summary_text(learners(**more).report, counts, AS_OF, "0133_progress_20220928.csv", notes or [])
    assert made.endswith("\r\n")
    return made.removesuffix("\r\n").split("\r\n")


def test_all_of_a_summary() -> None:
    assert lines(COUNTS) == [
        "Progress of Course (do_1)",
        "Batch Batch1 (0133)",
        "File 0133_progress_20220928.csv",
        "As of 2022-09-28 01:30 (Asia/Kolkata): later changes are not included",
        "",
        "Enrolled learners: 1,210",
        "Learners in the file: 1,200",
        "Excluded learners: 10",
        "  3 of another organisation than the requester's",
        "  0 of an unknown organisation",
        "  2 with a deleted account",
        "  5 without a known profile",
        "Learners in the file without a known profile (blank cells): 2",
        "Not counted as enrolled: 5",
        "  4 with an inactive enrolment",
        "  1 with an enrolment that has no date",
        "Scores and contents",
        "  0 fields of learners that the source of users does not have (blank cells)",
        "  12 scores from the aggregates",
        "  0 attempts of contents that are no longer in the collection (no column)",
        "  3 completed contents that are no longer in the collection (they do not count for Progress)",
        "",
        "Columns",
        "  Collection Id: id of the collection",
        "  Collection Name: name of the collection. Blank: the collection has no name",
        "  Batch Id: id of the batch",
        "  Batch Name: name of the batch. Blank: the batch has no name",
        "  User UUID: id of the learner",
        f"  User Name: first and last name of the learner. Blank: {NOT_IN_PROFILE}",
        f"  State: state of the learner's profile. Blank: {NOT_IN_PROFILE}",
        f"  District: district of the learner's profile. Blank: {NOT_IN_PROFILE}",
        "  Enrolment Date: when the learner enrolled (time zone UTC). Blank: the date cannot be read",
        "  Completion Date: when the learner completed the collection (time zone UTC). Blank: not completed",
        "  Progress: completed contents of the collection, in percent. Blank: the collection has no contents",
        "  Certificate Status: Issued, or Failed (the certificate could not be issued). Blank: no certificate",
        "  Total Score: sum of the scores in the collection's assessments. Blank: no assessment attempted",
        "  do_nested - Progress: completed contents of the nested collection Nested, in percent. Blank: not started",
        "  do_quiz - Score: points of the best attempt at Quiz. Blank: not attempted",
        "  do_practice - Score: points of the best attempt at do_practice. Blank: not attempted",
    ]


def test_the_excluded_learners_are_the_enrolled_without_the_reported() -> None:
    enrolled, reported, excluded = (int(line.rpartition(": ")[2].replace(",", "")) for line in lines(COUNTS)[5:8])
    assert excluded == enrolled - reported


def test_a_batch_without_learners_has_a_summary_too() -> None:
    assert lines({"enrolled": 0, "reported": 0, "missing": 0})[5:16] == [
        "Enrolled learners: 0", "Learners in the file: 0",
        "Excluded learners: 0", "  0 of another organisation than the requester's", "  0 of an unknown organisation",
        "  0 with a deleted account", "  0 without a known profile",
        "Learners in the file without a known profile (blank cells): 0",
        "Not counted as enrolled: 0", "  0 with an inactive enrolment", "  0 with an enrolment that has no date",
    ]  # fmt: skip


def test_a_note_stands_below_the_time() -> None:
    assert lines(COUNTS, notes=[NO_ROOM])[4:6] == [NO_ROOM, ""]


def test_other_layouts_say_what_theirs_mean() -> None:
    found = lines(COUNTS, layout=BUILT_IN["sunbird-lern-7"], attempted=[QUIZ], chosen="latest")
    assert "  3 completed contents that are no longer in the collection" in found
    assert f"  Declared Board: framework_board of the learner's profile. Blank: {NOT_IN_PROFILE}" in found
    assert "  Enrolment Date: when the learner enrolled (time zone Asia/Kolkata). Blank: the date cannot be read" in found
    assert any(line.startswith("  Total Score: ") and ", in percent of the maximum score. Blank: " in line for line in found)
    assert found[-1] == f"  do_quiz - Score: percent of the latest attempt at Quiz. Blank: not attempted, {OR_NO_MAXIMUM}"


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_has_a_meaning(field: str) -> None:
    layout = Layout.model_validate({"columns": [{"label": "It", "field": field}], "nested_progress": False, "scores": "none"})
    assert len(lines(COUNTS, layout=layout)[-1].removeprefix("  It: ")) > 8


def test_inactive_enrolments_in_the_file_are_counted() -> None:
    made = lines({"enrolled": 12, "reported": 12, "inactive": 3})
    assert made[made.index("Enrolled learners: 12") + 1] == "  3 with an inactive enrolment"
