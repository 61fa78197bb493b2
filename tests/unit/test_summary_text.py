"""The summary beside a report: what it counts, what its columns mean, and that no learner is in it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from progress_exhaust.report.columns import FIELDS
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.report.summary_text import NO_ROOM, summary_text
from tests.unit.test_pivot import QUIZ, learners

AS_OF = datetime(2022, 9, 27, 20, 0, tzinfo=UTC)
COUNTS = {
    "enrolled": 1210, "reported": 1200, "missing": 7, "excluded.other_org": 3, "excluded.deleted": 2, "excluded.missing": 5,
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
        "As of 2022-09-28 01:30 (Asia/Kolkata): later changes are not in it",
        "",
        "Enrolled learners: 1,210",
        "Learners in the file: 1,200",
        "Left out: 10",
        "  3 of another organisation than the one that asked",
        "  2 whose account is deleted",
        "  5 whose profile is not known",
        "In the file with a blank profile, for none is known: 2",
        "Not counted as enrolled: 5",
        "  4 whose enrolment is not active",
        "  1 whose enrolment has no date",
        "",
        "Columns",
        "  Collection Id: id of the collection",
        "  Collection Name: name of the collection",
        "  Batch Id: id of the batch",
        "  Batch Name: name of the batch",
        "  User UUID: id of the learner",
        "  User Name: first and last name of the learner",
        "  State: state of the learner's profile",
        "  District: district of the learner's profile",
        "  Enrolment Date: when the learner enrolled (time zone UTC)",
        "  Completion Date: when the learner completed the collection; blank until then (time zone UTC)",
        "  Progress: contents completed, in percent of the collection's",
        "  Certificate Status: Issued; Failed, where issuing it failed; or blank",
        "  Total Score: sum of the scores in the collection's assessments; blank where none was attempted",
        "  do_nested - Progress: contents completed of the nested collection Nested, in percent; blank where it was not begun",
        "  do_quiz - Score: points of the best attempt at Quiz; blank where it was not attempted",
        "  do_practice - Score: points of the best attempt at do_practice; blank where it was not attempted",
    ]


def test_left_out_is_what_the_file_lacks_of_the_enrolled() -> None:
    enrolled, reported, left_out = (int(line.rpartition(": ")[2].replace(",", "")) for line in lines(COUNTS)[5:8])
    assert left_out == enrolled - reported


def test_a_batch_of_nobody_has_one_too() -> None:
    assert lines({"enrolled": 0, "reported": 0, "missing": 0})[5:10] == [
        "Enrolled learners: 0", "Learners in the file: 0", "Left out: 0", "Not counted as enrolled: 0", "",
    ]  # fmt: skip


def test_a_note_stands_below_the_time() -> None:
    assert lines(COUNTS, notes=[NO_ROOM])[4:6] == [NO_ROOM, ""]


def test_other_layouts_say_what_theirs_mean() -> None:
    found = lines(COUNTS, layout=BUILT_IN["sunbird-lern-7"], attempted=[QUIZ], chosen="latest")
    assert "  Declared Board: framework_board of the learner's profile" in found
    assert "  Enrolment Date: when the learner enrolled (time zone Asia/Kolkata)" in found
    assert any(line.startswith("  Total Score: ") and line.endswith(", in percent of what could be reached") for line in found)
    assert found[-1] == "  do_quiz - Score: percent of the latest attempt at Quiz; blank where it was not attempted"


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_has_a_meaning(field: str) -> None:
    layout = Layout.model_validate({"columns": [{"label": "It", "field": field}], "nested_progress": False, "scores": "none"})
    assert len(lines(COUNTS, layout=layout)[-1].removeprefix("  It: ")) > 8
