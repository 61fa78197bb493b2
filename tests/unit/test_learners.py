"""Who is in the report, the specification's rules one by one, and how a page's facts are read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from progress_exhaust.extract.chunk_files import from_parquet, read_counts, to_parquet
from progress_exhaust.extract.enrolled_chunks import cut_into_chunks, learners_per_chunk, make_enrolled_chunk
from progress_exhaust.extract.facts_chunks import FactSources, make_facts_chunk
from progress_exhaust.extract.schemas import AGGREGATES, ARCHIVED_SCORES, ATTEMPTS, NESTED_PROGRESS, rows_to_table
from progress_exhaust.extract.source_rows import nested_progress
from progress_exhaust.hooks.cassandra.models import Enrolment
from progress_exhaust.report.eligibility import Eligibility, User, enrolment_exclusion, is_cache_flushed
from progress_exhaust.report.excluded import CONTENT_COUNTS
from progress_exhaust.report.layout import BUILT_IN
from tests.cql import cql_map
from tests.parts import inputs

Row = tuple[Any, ...]

ORG, OTHER_ORG = "org", "other org"
INPUTS = inputs()
OWNER = Eligibility(owned=True, channel=ORG)
OTHER = Eligibility(owned=False, channel=ORG)
CACHED_ONLY = Eligibility(owned=True, channel=ORG, cached_only=True)
ASHA = {"firstname": "Asha", "lastname": "Rao", "state": "Goa", "district": "North Goa", "rootorgid": ORG, "status": "1"}


def enrolment(user_id: str = "u", **changes: Any) -> Enrolment:
    values = {
        "active": True, "enrolled_at": 0, "enrolled_text": None, "completed_at": None, "content_statuses": None,
        "certificates": None, "issued_certificates": None, "certificate_status": None,
    }  # fmt: skip
    return Enrolment(user_id, **(values | changes))


class Asked:
    """Sources that answer from lists and record the user ids. Facts include rows of other users, as in a scan."""

    def __init__(self, users: Mapping[str, User], nested: Sequence[Row] = (), attempts: Sequence[Row] = ()) -> None:
        self.of_users: list[list[str]] = []
        self.of_facts: list[list[str]] = []
        self._users, self._nested, self._attempts = users, nested, attempts
        self.sources = FactSources(self.users, self.nested, self.attempts, lambda _: rows_to_table((), ARCHIVED_SCORES))

    def users(self, ids: Sequence[str]) -> dict[str, User]:
        self.of_users.append(list(ids))
        return {one: self._users[one] for one in ids if one in self._users}

    def nested(self, ids: Sequence[str]) -> pa.Table:
        self.of_facts.append(list(ids))
        return rows_to_table(self._nested, NESTED_PROGRESS)

    def attempts(self, ids: Sequence[str]) -> pa.Table:
        self.of_facts.append(list(ids))
        return rows_to_table(self._attempts, ATTEMPTS)


def made(page: Sequence[Enrolment], eligibility: Eligibility, found: Asked) -> tuple[pa.Table, Counter[str]]:
    enrolled, counts = make_enrolled_chunk(page, INPUTS)
    part, counts_of_part = make_facts_chunk(enrolled, eligibility, INPUTS, found.sources)
    return part, counts + counts_of_part


def counted(page: Sequence[Enrolment], eligibility: Eligibility, users: Mapping[str, User]) -> dict[str, int]:
    """Return the counts of who is enrolled, reported and excluded."""
    enrolled, counts = make_enrolled_chunk(page, INPUTS)
    counts.update(make_facts_chunk(enrolled, eligibility, INPUTS, Asked(users).sources)[1])
    return dict(counts)


def rows(*page: Enrolment, eligibility: Eligibility = OWNER, users: Mapping[str, User] | None = None) -> list[dict[str, Any]]:
    found = {one.user_id: ASHA for one in page} if users is None else users
    part, _ = made(page, eligibility, Asked(found))
    found_rows: list[dict[str, Any]] = part.to_pylist()
    return found_rows


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        ({}, True),
        ({"enrolled_at": -1}, True),
        ({"enrolled_at": None, "enrolled_text": "2019-11-15"}, True),
        ({"enrolled_at": None, "enrolled_text": "some day"}, True),
        ({"enrolled_at": None, "enrolled_text": None}, False),
        ({"enrolled_at": None, "enrolled_text": " \t"}, False),
        ({"active": False}, False),
        ({"active": None}, False),
    ],
)
def test_an_active_enrolment_with_a_date_is_one(changes: dict[str, Any], is_one: bool) -> None:
    one = enrolment(**changes)
    assert (enrolment_exclusion(one.active, one.enrolled_at, one.enrolled_text) is None) is is_one
    assert len(rows(enrolment(**changes))) == is_one


def test_inactive_enrolments_with_a_date_count_if_the_layout_includes_them() -> None:
    page = [
        enrolment("a"), enrolment("b", active=False), enrolment("c", active=None),
        enrolment("d", active=False, enrolled_at=None), enrolment("e", enrolled_at=None),
    ]  # fmt: skip
    table, counts = make_enrolled_chunk(page, inputs(enrolments="all"))
    assert table.select(["user_id", "active"]).to_pylist() == [
        {"user_id": "a", "active": True}, {"user_id": "b", "active": False}, {"user_id": "c", "active": False},
    ]  # fmt: skip
    assert counts == Counter({"enrolled": 3, "inactive": 2, "excluded.inactive": 0, "excluded.no_date": 2})
    table, counts = make_enrolled_chunk(page, INPUTS)
    assert table["active"].to_pylist() == [True]
    assert counts == Counter({"enrolled": 1, "excluded.inactive": 3, "excluded.no_date": 1})


@pytest.mark.parametrize(
    ("user", "for_owner", "for_another"),
    [
        (ASHA, None, None),
        (ASHA | {"rootorgid": OTHER_ORG}, None, "other_org"),
        ({"firstname": "Asha"}, None, "unknown_org"),
        ({}, None, "unknown_org"),
        (ASHA | {"rootorgid": ""}, None, "unknown_org"),
        ({"status": "2"}, None, "unknown_org"),
        (ASHA | {"status": "2"}, None, "deleted"),
        (ASHA | {"status": "2", "rootorgid": OTHER_ORG}, None, "other_org"),
        (ASHA | {"status": "0"}, None, None),
        (None, None, "missing"),
    ],
)
def test_an_owner_gets_all_another_org_its_own(user: User | None, for_owner: str | None, for_another: str | None) -> None:
    assert OWNER.exclusion(user) == for_owner
    assert OTHER.exclusion(user) == for_another
    assert CACHED_ONLY.exclusion(user) == ("missing" if user is None else None)


def test_an_org_without_a_name_owns_no_learner() -> None:
    nameless = Eligibility(owned=False, channel="")
    assert nameless.exclusion(None) == "missing"
    assert nameless.exclusion({"firstname": "Asha"}) == "unknown_org"
    assert nameless.exclusion({"rootorgid": ""}) == "unknown_org"


@pytest.mark.parametrize("user", [None, ASHA | {"status": "2"}])
def test_who_is_missing_or_deleted_keeps_the_row_with_the_caches_cells_blank(user: User | None) -> None:
    (row,) = rows(enrolment(), users={} if user is None else {"u": user})
    assert [row[f"user.{field}"] for field in ("firstname", "lastname", "state", "district")] == [None] * 4
    assert row["user_id"] == "u"


def test_who_is_in_is_counted_and_who_is_not_by_reason() -> None:
    page = [
        enrolment("a"), enrolment("b"), enrolment("c"), enrolment("d"), enrolment("e", active=None),
        enrolment("f", enrolled_at=None), enrolment("g", active=False, enrolled_at=None),
    ]  # fmt: skip
    users = {"a": ASHA, "b": ASHA | {"status": "2"}, "c": ASHA | {"rootorgid": OTHER_ORG}, "h": {"firstname": "Asha"}}
    page.append(enrolment("h"))
    never = {"excluded.inactive": 2, "excluded.no_date": 1} | dict.fromkeys(CONTENT_COUNTS, 0)
    by_org = dict.fromkeys(("excluded.deleted", "excluded.other_org", "excluded.unknown_org", "excluded.missing"), 0)
    of_owner, of_other = (counted(page, eligibility, users) for eligibility in (OWNER, OTHER))
    assert of_owner == {"enrolled": 5, "missing": 1, "reported": 5, **by_org, **never, "blank_user_fields": 3}  # of h
    assert of_other == {"enrolled": 5, "missing": 1, "reported": 1, **dict.fromkeys(by_org, 1), **never}


def test_a_count_of_zero_is_a_count_too() -> None:
    counts = counted([enrolment()], OWNER, {"u": ASHA})
    assert {name: number for name, number in counts.items() if name.startswith("excluded.")} == {
        f"excluded.{reason}": 0 for reason in ("inactive", "no_date", "other_org", "unknown_org", "deleted", "missing")
    }


def test_email_and_phone_are_never_read() -> None:
    part, _ = made([enrolment()], OWNER, Asked({"u": ASHA | {"email": "a@example.test", "phone": "98765"}}))
    read = {field for layout in BUILT_IN.values() for field in layout.user_fields}
    assert not {"email", "phone", "maskedemail", "maskedphone"} & {
        *read,
        *(name.removeprefix("user.") for name in part.column_names),
    }


def test_optional_contents_do_not_count_as_completed() -> None:
    statuses = cql_map({"a": 2, "b": 2, "c": 2, "d": 1})
    page, _ = make_enrolled_chunk([enrolment(content_statuses=statuses)], inputs(contents="abcd", optional={"b", "x"}))
    assert page["completed_contents"].to_pylist() == [2]


@pytest.mark.parametrize(("layout", "completed"), [("standard", 0), ("sunbird-lern-7", 3)])
def test_removed_contents_count_only_in_the_spark_jobs_layout(layout: str, completed: int) -> None:
    old = enrolment(content_statuses=cql_map({"old1": 2, "old2": 2, "old3": 2, "b": 2, "a": 1}))
    rules = inputs(contents="abc", optional={"b"}, layout=BUILT_IN[layout])
    page, _ = make_enrolled_chunk([old], rules)
    assert page["completed_contents"].to_pylist() == [completed]
    _, counts = make_facts_chunk(page, OWNER, rules, Asked({"u": ASHA}).sources)
    assert counts["removed_contents_completed"] == 3


@pytest.mark.parametrize(("layout", "counted"), [("standard", 1), ("sunbird-lern-7", 0)])
def test_completed_assessments_count_only_if_archived_scores_are_shown(layout: str, counted: int) -> None:
    page = [enrolment(content_statuses=cql_map({"quiz": 2, "test": 1, "a": 2}))]
    table, _ = make_enrolled_chunk(page, inputs("quiz", "test", contents="a", layout=BUILT_IN[layout]))
    assert (table["completed_contents"].to_pylist(), table["completed_assessments"].to_pylist()) == ([2], [counted])


@pytest.mark.parametrize(("layout", "kept"), [("standard", 0), ("sunbird-lern-7", 2)])
def test_a_blank_date_counts_only_in_the_spark_jobs_layout(layout: str, kept: int) -> None:
    dates = ["", "  ", None]
    enrolments = [enrolment(f"u{place}", enrolled_at=None, enrolled_text=text) for place, text in enumerate(dates)]
    page, counts = make_enrolled_chunk(enrolments, inputs(layout=BUILT_IN[layout]))
    assert (len(page), counts["enrolled"], counts["excluded.no_date"]) == (kept, kept, 3 - kept)


def test_facts_follow_the_order_of_learners_and_other_users_are_skipped() -> None:
    nested = [("b", "n1", 3.0), ("not-enrolled", "n1", 9.0), ("a", "n2", 1.0), ("b", "n2", 4.0)]
    attempts = [
        ("b", "q", "1", 7.0, "7/10", 5, 10.0),
        ("z", "q", "1", 9.0, None, 5, 9.0),
        ("a", "q", "2", None, None, None, None),
    ]
    page = [enrolment("a"), enrolment("z", active=False), enrolment("b"), enrolment("c")]
    part, _ = made(page, OWNER, Asked({}, nested, attempts))
    assert part["user_id"].to_pylist() == ["a", "b", "c"]
    assert part["nested"].to_pylist() == [
        [{"id": "n2", "completed": 1.0}], [{"id": "n1", "completed": 3.0}, {"id": "n2", "completed": 4.0}], [],
    ]  # fmt: skip
    of_a, of_b, of_c = part["attempts"].to_pylist()
    assert [(one["content_id"], one["attempt_id"], one["total_score"]) for one in of_a] == [("q", "2", None)]
    assert [(one["grand_total"], one["attempted_at"]) for one in of_b] == [("7/10", 5)]
    assert of_c == []


def test_each_source_is_asked_once_a_page_and_only_for_whom_it_concerns() -> None:
    found = Asked({"a": ASHA, "b": ASHA | {"rootorgid": OTHER_ORG}})
    made([enrolment("a"), enrolment("b"), enrolment("c", active=False)], OTHER, found)
    assert (found.of_users, found.of_facts) == ([["a", "b"]], [["a"], ["a"]])


def test_nested_progress_is_not_read_for_a_layout_that_does_not_show_it() -> None:
    found, of_layout = Asked({"a": ASHA}), inputs("q", layout=BUILT_IN["sunbird-lern-7"])
    enrolled, _ = make_enrolled_chunk([enrolment("a")], of_layout)
    part, _ = make_facts_chunk(enrolled, OWNER, of_layout, found.sources)
    assert found.of_facts == [["a"]]  # the attempts
    assert "nested" not in part.column_names and of_layout.nested_ids == []


def test_a_chunk_without_active_learners_asks_no_source_and_has_the_same_schema() -> None:
    found = Asked({})
    part, counts = made([enrolment(active=False)], OWNER, found)
    assert len(part) == 0 and counts == {"excluded.inactive": 1}
    assert found.of_users == found.of_facts == []
    assert part.schema == made([enrolment()], OWNER, found)[0].schema


def test_a_part_comes_back_from_its_file_with_its_counts(tmp_path: Path) -> None:
    part, counts = made([enrolment("a"), enrolment("b")], OWNER, Asked({"a": ASHA}, [("a", "n", 1.5)]))
    (tmp_path / "part").write_bytes(to_parquet(part, counts))
    assert from_parquet((tmp_path / "part").read_bytes()).to_pylist() == part.to_pylist()
    assert read_counts(tmp_path / "part") == dict(counts) == {"enrolled": 2, "reported": 2, "missing": 1}


@pytest.mark.parametrize(
    ("aggregates", "agg", "count"),
    [
        (1.0, 3, [1.0]),
        (None, 3, [3.0]),
        (float("nan"), 3, [3.0]),
        (0.0, 3, [0.0]),
        (float("inf"), None, []),
        (2.0, float("nan"), [2.0]),
        (None, None, []),
    ],
)
def test_completed_counts_come_from_the_newer_column_else_the_older(aggregates: Any, agg: Any, count: list[float]) -> None:
    rows = rows_to_table([("u", "n", aggregates, agg)], AGGREGATES)
    assert nested_progress(rows).to_pylist() == [{"user_id": "u", "id": "n", "completed": one} for one in count]


@pytest.mark.parametrize(("assessments", "learners"), [(0, 5000), (100, 5000), (1800, 277), (600_000, 1)])
def test_a_chunk_of_a_wide_course_has_fewer_learners(assessments: int, learners: int) -> None:
    assert learners_per_chunk(5000, inputs(*(f"do_{number}" for number in range(assessments)))) == learners


@pytest.mark.parametrize(("learners", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_pages_hold_at_most_their_size_and_everybody_once(learners: int, sizes: list[int]) -> None:
    everybody = [enrolment(str(number)) for number in range(learners)]
    found = list(cut_into_chunks(iter(everybody), 3))
    assert [len(page) for page in found] == sizes
    assert [one for page in found for one in page] == everybody


@pytest.mark.parametrize(
    ("enrolled", "missing", "percent", "flushed"),
    [
        (101, 21, 20, True),
        (101, 20, 20, False),
        (200, 40, 20, False),  # as many as the share are not more than it
        (200, 41, 20, True),
        (100, 100, 20, False),  # a small batch
        (0, 0, 20, False),
        (1000, 1000, 100, False),
        (1000, 1, 0, True),
        (1000, 6, 0.5, True),
        (1000, 5, 0.5, False),
    ],
)
def test_too_many_missing_of_a_batch_over_100_is_a_flushed_cache(
    enrolled: int, missing: int, percent: float, flushed: bool
) -> None:
    assert is_cache_flushed(enrolled=enrolled, missing=missing, max_missing_percent=percent) is flushed


def test_scores_from_the_aggregates_alone_read_no_attempt_and_skip_other_contents() -> None:
    found, of_settings = (
        Asked({"a": ASHA}, attempts=[("a", "q", "1", 9.0, "9/10", 5, 10.0)]),
        inputs("q", scores_from="aggregates"),
    )
    scores = rows_to_table([("a", "q", 7.0, 10.0, 3), ("a", "removed", 1.0, 1.0, 1)], ARCHIVED_SCORES)
    enrolled, _ = make_enrolled_chunk([enrolment("a"), enrolment("b")], of_settings)
    sources = replace(found.sources, archived_scores=lambda _: scores)
    part, counts = make_facts_chunk(enrolled, OWNER, of_settings, sources)
    [of_a, of_b] = part["attempts"].to_pylist()
    assert [(one["content_id"], one["total_score"], one["grand_total"], one["archived_attempts"]) for one in of_a] == [
        ("q", 7.0, "7.0/10.0", 3)
    ]
    assert (of_b, counts["scores_from_aggregates"], counts["attempts_of_removed_contents"]) == ([], 1, 0)
    assert found.of_facts == [["a", "b"]]  # the nested progress
