"""Who is in the report, and the facts of a page of learners."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from progress_exhaust.report import learners
from progress_exhaust.report.learners import Enrolment, Rules, Sources

CACHE: dict[str, dict[str, str]] = {
    "u1": {"firstname": "Asha", "rootorgid": "org", "status": "1"},
    "u2": {"firstname": "Ravi", "rootorgid": "other"},
    "u3": {"firstname": "Gone", "rootorgid": "org", "status": "2"},
    "u5": {},
}


def enrolment(user_id: str, **more: Any) -> Enrolment:
    values: dict[str, Any] = {"active": True, "enrolled_at": 1, "enrolled_text": None, "completed_at": None}
    values |= {"completed_ids": (), "has_certificate": False, "certificate_status": None}
    return Enrolment(user_id, **(values | more))


def sources(nested: Sequence[tuple[Any, ...]] = (), attempts: Sequence[tuple[Any, ...]] = ()) -> Sources:
    return Sources(
        users=lambda ids: {user_id: CACHE[user_id] for user_id in ids if user_id in CACHE},
        nested=lambda _ids: learners.table_of(nested, learners.NESTED_PROGRESS),
        attempts=lambda _ids: learners.table_of(attempts, learners.ATTEMPTS),
    )


def part(owned: bool, *user_ids: str, **facts: Any) -> tuple[pa.Table, dict[str, int]]:
    page, _ = learners.enrolled_page([enrolment(user_id) for user_id in user_ids], frozenset())
    return learners.make_part(page, Rules(owned, "org"), sources(**facts))


@pytest.mark.parametrize(
    ("more", "counted"),
    [
        ({}, "enrolled"),
        ({"active": False}, "left_out.inactive"),
        ({"active": None}, "left_out.inactive"),
        ({"enrolled_at": None}, "left_out.no_date"),
        ({"enrolled_at": None, "enrolled_text": " "}, "left_out.no_date"),
        ({"enrolled_at": None, "enrolled_text": "2019"}, "enrolled"),
    ],
)
def test_an_enrolment_counts_when_it_is_active_and_has_a_date(more: dict[str, Any], counted: str) -> None:
    page, counts = learners.enrolled_page([enrolment("u1", **more)], frozenset())
    assert counts[counted] == 1
    assert len(page) == counts["enrolled"] == (counted == "enrolled")


def test_the_owner_gets_everybody_with_the_cache_blank_for_deleted_and_missing_users() -> None:
    made, counts = part(True, "u1", "u2", "u3", "u4")
    assert made["user_id"].to_pylist() == ["u1", "u2", "u3", "u4"]
    assert made["firstname"].to_pylist() == ["Asha", "Ravi", None, None]
    assert (counts["reported"], counts["missing"]) == (4, 1)


def test_another_org_gets_its_own_users_and_each_other_one_is_counted_by_its_reason() -> None:
    made, counts = part(False, "u1", "u2", "u3", "u4", "u5")
    assert made["user_id"].to_pylist() == ["u1"]
    assert {name: number for name, number in counts.items() if name.startswith("left_out")} == {
        "left_out.other_org": 2,
        "left_out.deleted": 1,
        "left_out.missing": 1,
    }


def test_optional_contents_do_not_count_towards_completion() -> None:
    page, _ = learners.enrolled_page([enrolment("u1", completed_ids=("a", "b", "c"))], frozenset({"b", "x"}))
    assert page["completed_contents"].to_pylist() == [2]


def test_facts_come_to_their_own_learner_in_any_order_and_others_are_passed_over() -> None:
    nested = [("u2", "n1", 1.0), ("stranger", "n1", 9.0), ("u1", "n1", 2.0), ("u2", "n2", 3.0)]
    attempts = [("u2", "c", "a1", 1.0, None, 5), ("u1", "c", "a2", None, "1/2", None)]
    made, _ = part(True, "u1", "u2", "u3", nested=nested, attempts=attempts)
    assert [[one["completed"] for one in mine] for mine in made["nested"].to_pylist()] == [[2.0], [1.0, 3.0], []]
    assert [[one["attempt_id"] for one in mine] for mine in made["attempts"].to_pylist()] == [["a2"], ["a1"], []]


def test_a_page_that_nobody_of_is_reported_reads_no_further_source() -> None:
    def never(_ids: Sequence[str]) -> pa.Table:
        raise AssertionError

    page, _ = learners.enrolled_page([enrolment("u2")], frozenset())
    made, _ = learners.make_part(page, Rules(False, "org"), Sources(sources().users, never, never))
    assert len(made) == 0


def test_a_part_comes_back_from_its_file_with_its_counts(tmp_path: Any) -> None:
    made, counts = part(True, "u1", "u4")
    (tmp_path / "part").write_bytes(learners.to_parquet(made, counts))
    assert learners.read_table(tmp_path / "part").to_pylist() == made.to_pylist()
    assert learners.counts_of(tmp_path / "part") == counts


@pytest.mark.parametrize(
    ("aggregates", "agg", "count"),
    [
        ({"completedCount": 3.0}, {"completedCount": 2}, 3.0),
        ({"score:x": 1.0}, {"completedCount": 2}, 2),
        ({"completedCount": float("nan")}, {"completedCount": 2}, 2),
        (None, None, None),
        ({}, {}, None),
    ],
)
def test_completed_count_is_the_newer_columns_else_the_older_ones(aggregates: Any, agg: Any, count: float | None) -> None:
    assert learners.completed_count(aggregates, agg) == count


def test_pages_hold_no_more_than_their_size() -> None:
    stream = [enrolment(f"u{number}") for number in range(5)]
    assert [len(page) for page in learners.pages(stream, 2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("enrolled", "missing", "flushed"),
    [(100, 100, False), (101, 20, False), (101, 21, True), (1000, 200, False), (1000, 201, True)],
)
def test_a_flushed_cache_is_told_by_its_missing_share(enrolled: int, missing: int, flushed: bool) -> None:
    assert learners.cache_was_flushed({"enrolled": enrolled, "missing": missing}, 20) == flushed
