"""Scores whose attempts were archived: which learners are asked about, and which scores count."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from progress_exhaust.extract.archived_scores import SAMPLE, add_archived_scores
from progress_exhaust.extract.schemas import ARCHIVED_SCORES, ENROLLED, FACTS_OF_ATTEMPTS, rows_to_table
from progress_exhaust.hooks.cassandra.decoding import decode_archived_scores

Row = tuple[Any, ...]
QUIZ, TEST = "do_quiz", "do_test"


class Aggregates:
    """Archived scores, and who was asked about."""

    def __init__(self, *rows: Row) -> None:
        self._rows = rows
        self.asked: list[list[str]] = []

    def read(self, user_ids: Sequence[str]) -> pa.Table:
        self.asked.append(list(user_ids))
        return rows_to_table([row for row in self._rows if row[0] in user_ids], ARCHIVED_SCORES)


def learners(*completed: int) -> pa.Table:
    """Return a chunk of learners u0000, u0001, …; each has completed so many assessments."""
    rows = [{"user_id": f"u{place:04}", "completed_assessments": number} for place, number in enumerate(completed)]
    return pa.Table.from_pylist(rows, schema=ENROLLED)


def attempt(user_id: str, content_id: str, **more: Any) -> Row:
    values = {"user_id": user_id, "content_id": content_id, "attempt_id": "1"} | more
    return tuple(values.get(name) for name in FACTS_OF_ATTEMPTS.names)


def archived(chunk: pa.Table, aggregates: Aggregates, *attempts: Row) -> list[Mapping[str, Any]]:
    made = add_archived_scores(rows_to_table(attempts, FACTS_OF_ATTEMPTS), chunk, [QUIZ, TEST], aggregates.read)
    assert made.slice(0, len(attempts)) == rows_to_table(attempts, FACTS_OF_ATTEMPTS)
    found: list[Mapping[str, Any]] = made.slice(len(attempts)).to_pylist()
    return found


def test_a_score_counts_where_there_is_no_attempt() -> None:
    aggregates = Aggregates(
        ("u0000", QUIZ, 7.5, 10.0, 3), ("u0000", TEST, 1.0, 2.0, 1), ("u0000", "do_removed", 1.0, 2.0, 1),
        ("u0001", TEST, 0.0, None, None),
    )  # fmt: skip
    made = archived(learners(2, 0), aggregates, attempt("u0000", TEST), attempt("u0001", QUIZ), attempt("other", TEST))
    assert [tuple(row.values()) for row in made] == [
        ("u0000", QUIZ, "", 7.5, "7.5/10.0", None, 10.0, 3),
        ("u0001", TEST, "", 0.0, None, None, None, 1),
    ]


def test_a_batch_without_archived_attempts_is_not_read() -> None:
    aggregates = Aggregates()
    complete = [attempt(f"u{place:04}", content) for place in range(300) for content in (QUIZ, TEST)]
    assert archived(learners(*[2] * 300), aggregates, *complete) == [] and aggregates.asked == []
    assert archived(learners(*[0] * 5000), aggregates) == [] and [len(asked) for asked in aggregates.asked] == [SAMPLE]


@pytest.mark.parametrize("place", [0, 17, 4999])
def test_one_who_completed_an_assessment_without_an_attempt_is_always_found(place: int) -> None:
    chunk = learners(*(int(number == place) for number in range(5000)))
    aggregates = Aggregates((f"u{place:04}", QUIZ, 1.0, 2.0, 1), ("u2345", TEST, 1.0, 2.0, 1))
    assert len(archived(chunk, aggregates)) == 2
    first, others = aggregates.asked
    assert len(first) == SAMPLE + 1 and len(first) + len(others) == len({*first, *others}) == 5000


def test_all_who_completed_an_assessment_without_an_attempt_are_read_first() -> None:
    """Two hundred learners, of whom only one has a score: a sample of them would not find it."""
    chunk = learners(*(int(place < 200) for place in range(1000)))
    for place in (150, 151, 199):
        aggregates = Aggregates((f"u{place:04}", QUIZ, 1.0, 2.0, 1))
        assert len(archived(chunk, aggregates)) == 1
        assert [len(asked) for asked in aggregates.asked] == [200 + SAMPLE, 1000 - 200 - SAMPLE]


def test_a_grand_total_of_the_aggregates_has_no_exponent() -> None:
    aggregates = Aggregates(("u0000", QUIZ, 1e-05, 1e16, 1))
    assert [row["grand_total"] for row in archived(learners(1), aggregates)] == ["0.00001/10000000000000000"]


@pytest.mark.parametrize("number", [1e30, -1.0, 2.0**31])
def test_a_number_of_attempts_that_cannot_be_is_unknown(number: float) -> None:
    aggregates = {"score:a": 7.0, "max_score:a": 10.0, "attempts_count:a": number}
    assert list(decode_archived_scores([("u", aggregates)])) == [("u", "a", 7.0, 10.0, None)]


def test_the_aggregates_have_scores_of_any_shape() -> None:
    aggregates = {
        "completedCount": 1.0, "score:a": 7.0, "max_score:a": 10.0, "attempts_count:a": 2.0, "score:b": float("nan"),
        "score:c": 1.0, "max_score:c": float("inf"), "attempts_count:d": 1.0, "score:e": None,
    }  # fmt: skip
    rows = [("u", aggregates), ("v", None)]
    assert list(decode_archived_scores(rows)) == [("u", "a", 7.0, 10.0, 2), ("u", "c", 1.0, None, None)]
