"""The oracle held to cases copied by hand from the specification, so that the product may be held to the oracle."""

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from dev.world import (
    ORG,
    OTHER_ORG,
    REQUESTED_AT,
    Row,
    Rows,
    World,
    batch_row,
    batch_world,
    collection_node,
    content_row,
    question_set_node,
    request_row,
    resource_node,
    sample_world,
    self_assess_node,
    unit_node,
)
from tests.oracle import (
    NoReport,
    Options,
    cleaned,
    defused,
    expected_counts,
    expected_csv,
    expected_key,
    leaf_count,
    number,
    parse_date,
    timestamp,
)
from tests.strategies import worlds

COURSE, BATCH = "do_1130934466492252161819", "013093449510953"
USER, SECOND_USER = "f703de4e-d47a-4adb-856c-de122e6a0b32", "587204af-41db-4313-b3ab-cf022d3055c6"
RUN_DATE = date(2022, 9, 27)
REQUEST = request_row({"batchId": BATCH}, label=f"{COURSE}_{BATCH}", channel=ORG, by="someone", at=REQUESTED_AT)
FOREIGN = REQUEST | {"requested_channel": OTHER_ORG}
QUIZ, PRACTICE, NESTED = "do_quiz", "do_practice", "do_nested"


def moment(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def make_world(*children: Row, **root: Any) -> World:
    """Make a course without learners. Without children, it has seven lessons."""
    found = children or [resource_node(f"do_{i}", f"Lesson {i}") for i in range(7)]
    tree = collection_node(COURSE, "Test Course", found) | root
    return World(
        contents=[content_row(tree, ORG)],
        hierarchies={COURSE: json.dumps(tree)},
        batches=[batch_row(COURSE, BATCH, "Batch1", ORG)],
    )


def enrol(world: World, user: str = USER, cached: dict[str, str] | None = None, **columns: Any) -> None:
    row = {"userid": user, "courseid": COURSE, "batchid": BATCH, "active": True, "enrolled_date": moment(2020, 8, 25)}
    world.enrolments = [*world.enrolments, row | columns]
    world.users = [*world.users, (user, {"firstname": "Asha", "rootorgid": ORG} if cached is None else cached)]


def attempt(world: World, attempt_id: str, content: str = QUIZ, **columns: Any) -> None:
    key = {"user_id": USER, "course_id": COURSE, "batch_id": BATCH, "content_id": content, "attempt_id": attempt_id}
    world.attempts = [*world.attempts, key | columns]


def aggregate(world: World, **columns: Any) -> None:
    key = {"activity_type": "Course", "activity_id": NESTED, "user_id": USER, "context_id": f"cb:{BATCH}"}
    world.aggregates = [*world.aggregates, key | columns]


def lines(world: World, request: Row | None = REQUEST, **options: Any) -> list[list[str]]:
    """Read the csv's lines; no cell here holds a comma."""
    made = expected_csv(world, request, BATCH, RUN_DATE, options=Options(**options)).decode()
    assert made.endswith("\r\n")
    return [line.split(",") for line in made.split("\r\n")[:-1]]


def cell(world: World, label: str, **options: Any) -> str:
    header, row = lines(world, **options)
    return row[header.index(label)]


def test_the_published_sample() -> None:
    lessons = [resource_node(f"do_{i}", f"Lesson {i}") for i in range(6)]
    world = make_world(*lessons, self_assess_node(QUIZ, "Quiz"))
    mathew = {"firstname": "Mathew", "lastname": "Pallan", "state": "Kerala", "district": "Thrissur"}
    krishna = {"firstname": "Krishna", "lastname": "Jampana", "state": "Andhra Pradesh", "district": "Vizag"}
    enrol(
        world, USER, mathew, enrolled_date=moment(2020, 8, 25, 13, 45, 54, 150_000),
        completedon=moment(2020, 8, 27, 13, 45, 54, 150_000), issued_certificates=[{"name": "c"}],
    )  # fmt: skip
    enrol(
        world, SECOND_USER, krishna, enrolled_date=None, enrolleddate="2020-08-25 02:15:58:691+0000",
        contentstatus={"do_0": 2, "do_1": 2, "do_2": 2, QUIZ: 2, "do_3": 1, "do_removed": 2},
    )  # fmt: skip
    attempt(world, "1", total_score=7.0)
    world.attempts = [*world.attempts, {**next(iter(world.attempts)), "user_id": SECOND_USER, "total_score": 6.0}]
    assert expected_csv(world, REQUEST, BATCH, RUN_DATE).decode() == (
        "Collection Id,Collection Name,Batch Id,Batch Name,User UUID,User Name,State,District,"
        "Enrolment Date,Completion Date,Progress,Certificate Status,Total Score,do_quiz - Score\r\n"
        f"{COURSE},Test Course,{BATCH},Batch1,{SECOND_USER},Krishna Jampana,Andhra Pradesh,Vizag,"
        "2020-08-25 02:15:58:691+0000,,57,,6,6\r\n"
        f"{COURSE},Test Course,{BATCH},Batch1,{USER},Mathew Pallan,Kerala,Thrissur,"
        "2020-08-25 13:45:54:150+0000,2020-08-27 13:45:54:150+0000,100,Issued,7,7\r\n"
    )


def test_key() -> None:
    sample = {"request_id": "778A3669531143769B5E8C98D42E1CAD"}
    assert expected_key(sample, "013307481768378368112", RUN_DATE) == (
        "progress-exhaust/778A3669531143769B5E8C98D42E1CAD/013307481768378368112_progress_20220927.csv"
    )
    assert expected_key(None, "01", RUN_DATE) == "progress-exhaust/01_progress_20220927.csv"


# Who is in it


def test_who_is_enrolled() -> None:
    world = make_world()
    enrol(world, "a")
    enrol(world, "b", active=False)
    enrol(world, "c", active=None)
    enrol(world, "d", enrolled_date=None)
    enrol(world, "e", enrolled_date=None, enrolleddate=" \t")
    enrol(world, "f", batchid="another")
    enrol(world, "g", courseid="another")
    counts = expected_counts(world, REQUEST, BATCH)
    assert (counts.enrolled, counts.reported, counts.left_out) == (1, 1, {})
    assert counts.not_enrolled == {"inactive": 2, "no_date": 2}


def test_an_owner_gets_all_others_get_their_own_users() -> None:
    world = make_world()
    enrol(world, "a", {"firstname": "Mine", "rootorgid": OTHER_ORG})
    enrol(world, "b", {"firstname": "Theirs", "rootorgid": ORG})
    enrol(world, "c", {"firstname": "Former", "state": "Goa", "rootorgid": OTHER_ORG, "status": "2"})
    enrol(world, "d", {})
    enrol(world, "e", {"firstname": "Orphan"})
    assert [row[4:8] for row in lines(world)[1:]] == [
        ["a", "Mine", "", ""], ["b", "Theirs", "", ""], ["c", "", "", ""], ["d", "", "", ""], ["e", "Orphan", "", ""],
    ]  # fmt: skip
    assert [row[4] for row in lines(world, FOREIGN)[1:]] == ["a"]
    assert [row[4] for row in lines(world, None)[1:]] == ["a", "b", "c", "d", "e"]
    counts = expected_counts(world, FOREIGN, BATCH)
    assert counts.left_out == {"deleted": 1, "missing": 1, "other_org": 1, "unknown_org": 1}
    assert (counts.enrolled, counts.reported, counts.missing, counts.deleted) == (5, 1, 1, 1)


def test_rows_are_sorted_by_code_point() -> None:
    world = make_world()
    for user in ("b", "B", "a", "\U0001f642", "\uffee"):
        enrol(world, user)
    assert [row[4] for row in lines(world)[1:]] == ["B", "a", "b", "\uffee", "\U0001f642"]


def test_no_report() -> None:
    with pytest.raises(NoReport, match="unknown batch"):
        expected_csv(World(), None, BATCH, RUN_DATE)
    world = make_world()
    world.contents[0]["status"] = "Retired"
    with pytest.raises(NoReport, match="retired"):
        expected_csv(world, REQUEST, BATCH, RUN_DATE)


# The fixed columns


@pytest.mark.parametrize(
    ("columns", "root", "shown"),
    [
        ({"contentstatus": {"do_0": 2, "do_1": 2, "do_2": 1, "do_3": 0}}, {"leafNodesCount": 4}, "50"),
        ({"contentstatus": {"do_0": 2}}, {"leafNodesCount": 8}, "13"),  # 12.5, half up
        ({"contentstatus": {"do_0": 2}}, {"leafNodesCount": 201}, "0"),
        ({"contentstatus": {"do_0": 2, "do_1": 2, "do_2": 2}}, {"leafNodesCount": 2}, "100"),
        ({"contentstatus": {"do_0": 2, "optional": 2}}, {"leafNodesCount": 4}, "25"),
        ({"contentstatus": {"do_0": 2}}, {}, "14"),  # counted: seven lessons
        ({"contentstatus": {"do_0": 2}}, {"leafNodesCount": "4"}, "25"),
        ({"contentstatus": {"do_0": 2}}, {"leafNodesCount": -4}, "14"),
        ({"contentstatus": {"do_0": 2}}, {"leafNodesCount": 0}, ""),
        ({"contentstatus": {"do_0": 2}}, {"children": []}, ""),
        ({"contentstatus": None}, {}, "0"),
        ({}, {}, "0"),
        ({"completedon": moment(2020, 9, 1)}, {"leafNodesCount": 0}, "100"),
    ],
)
def test_progress(columns: Row, root: Row, shown: str) -> None:
    world = make_world(**root)
    world.optional_nodes = {COURSE: {"optional"}}
    enrol(world, **columns)
    assert cell(world, "Progress") == shown


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"certificates": [{"name": "c"}]}, "Issued"),
        ({"issued_certificates": [{"name": "c"}], "certificates": []}, "Issued"),
        ({"issued_certificates": [{"name": "c"}], "certstatus": 2}, "Issued"),
        ({"certstatus": 2, "certificates": []}, "Failed"),
        ({"certstatus": 1}, ""),
        ({}, ""),
    ],
)
def test_certificate_status(columns: Row, shown: str) -> None:
    world = make_world()
    enrol(world, **columns)
    assert cell(world, "Certificate Status") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2019-11-15 05:41:50:382+0000", "2019-11-15 05:41:50:382+0000"),
        ("2019-11-15T23:41:50.382+05:30", "2019-11-15 18:11:50:382+0000"),
        ("2019-11-15 00:30:00,001+0530", "2019-11-14 19:00:00:001+0000"),
        ("2019-11-15 05:41", "2019-11-15 05:41:00:000+0000"),
        ("2019-11-15T05:41:50Z", "2019-11-15 05:41:50:000+0000"),
        ("2019-11-15", "2019-11-15 00:00:00:000+0000"),
        ("2019-02-30", None),
        ("2019-11-15 24:00", None),
        ("2019-11-15 05:41:50.38", "2019-11-15 05:41:50:380+0000"),
        ("2019-11-15T05:41:50.382999+00:00", "2019-11-15 05:41:50:382+0000"),
        ("2019-11-15 05:41:50:38+0000", None),
        ("2019-11-15 05:41:50:382+0060", None),
        ("0001-01-01 00:00+0530", None),
        (" 2019-11-15", None),
        ("2019-11-15\n", None),
        ("२०१९-११-१५", None),
        ("15/11/2019", None),
    ],
)
def test_text_dates(value: str, shown: str | None) -> None:
    parsed = parse_date(value)
    assert (None if parsed is None else timestamp(parsed)) == shown


def test_enrolment_date() -> None:
    world = make_world()
    enrol(world, enrolled_date=datetime(2020, 1, 2, 3, 4, 5, 6000), enrolleddate="2019-11-15")
    assert cell(world, "Enrolment Date") == "2020-01-02 03:04:05:006+0000"
    world = make_world()
    enrol(world, enrolled_date=None, enrolleddate="=some\tday")
    assert cell(world, "Enrolment Date") == "'=some day"


@pytest.mark.parametrize(
    ("cached", "shown"),
    [
        ({"firstname": " Asha ", "lastname": "Rao"}, "Asha Rao"),
        ({"firstname": "Asha"}, "Asha"),
        ({"firstname": " \x00", "lastname": "\tRao\n"}, "Rao"),
        ({"firstname": "-", "lastname": "-"}, "'- -"),
        ({"firstname": "-5", "lastname": ""}, "-5"),
        ({"lastname": ""}, ""),
    ],
)
def test_user_name(cached: dict[str, str], shown: str) -> None:
    world = make_world()
    enrol(world, cached=cached)
    assert cell(world, "User Name") == shown


# Text and numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\r\nb\tc", "a  b c"),
        ("\x00a\x7f\x85b\x1b", "ab"),
        ("a\ud800\udc00", "a\ufffd\ufffd"),
        ("न\u200dम", "न\u200dम"),
    ],
)
def test_cleaning(value: str, shown: str) -> None:
    assert cleaned(value) == shown


@pytest.mark.parametrize(
    "value", ["=1", "+x", "-", "@a", "＝1", "＋1", "－1", "＠a", " =1", "\ufeff\u200b\u00a0=1", "-1 2", "+1e5", "-५"]
)
def test_defused(value: str) -> None:
    assert defused(value, Options()) == "'" + value
    assert defused(value, Options(defuse=False)) == value


@pytest.mark.parametrize("value", ["", " ", "-1", "+12.50", " -3", "a=1", "'=1", "1-2"])
def test_left_as_it_is(value: str) -> None:
    assert defused(value, Options()) == value


def test_cells_are_quoted_only_where_needed() -> None:
    world = make_world()
    enrol(world, cached={"firstname": "a,b", "state": 'say "x"', "district": " c'd; "})
    made = expected_csv(world, REQUEST, BATCH, RUN_DATE, options=Options(bom=True))
    assert made.startswith(b"\xef\xbb\xbfCollection Id,")
    assert ""","a,b","say ""x""\", c'd; ,""" in made.decode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("7.0", "7"), ("7.50", "7.5"), ("0.33333", "0.3333"), ("2.00005", "2.0001"), ("0.00004", "0"), ("-0.0", "0"),
        ("-0.00001", "0"), ("-1.5", "-1.5"), ("1e21", "1000000000000000000000"), ("100", "100"), ("1e-7", "0"),
    ],
)  # fmt: skip
def test_numbers(value: str, shown: str) -> None:
    assert number(Decimal(value)) == shown


# Assessments


@pytest.mark.parametrize(
    ("attempts", "best", "latest"),
    [
        ([], "", ""),
        ([{"total_score": 7.0}], "7", "7"),
        ([{"grand_total": "7/10"}], "7", "7"),
        ([{"grand_total": " 7.5 "}], "7.5", "7.5"),
        ([{"total_score": 0.0, "grand_total": "7/10"}], "0", "0"),
        ([{"grand_total": "much"}], "", ""),
        ([{"total_score": float("nan")}], "", ""),
        ([{"total_score": float("inf"), "grand_total": "3/4"}], "3", "3"),
        ([{"total_score": float("nan")}, {"total_score": -2.0}], "-2", "-2"),
        (
            [
                {"total_score": 8.0, "last_attempted_on": moment(2020, 1, 1)},
                {"total_score": 5.0, "last_attempted_on": moment(2020, 1, 2)},
            ],
            "8",
            "5",
        ),
        # An attempt without a date is the earliest; the greater attempt_id wins a tie.
        ([{"total_score": 5.0, "last_attempted_on": moment(2020, 1, 1)}, {"total_score": 6.0}], "6", "5"),
        ([{"total_score": 1.0}, {"total_score": 3.0}, {"total_score": 2.0}], "3", "2"),
        ([{"total_score": 1.0, "last_attempted_on": moment(2020, 1, 1)}, {}], "1", "1"),
        ([{}, {"last_attempted_on": moment(2020, 1, 1)}, {"total_score": 1.0}], "1", ""),
    ],
)
def test_chosen_attempt(attempts: list[Row], best: str, latest: str) -> None:
    world = make_world(self_assess_node(QUIZ, "Quiz"))
    enrol(world)
    for i, columns in enumerate(attempts):
        attempt(world, f"{i}", **columns)
    for how, shown in (("best", best), ("latest", latest)):
        assert cell(world, f"{QUIZ} - Score", attempt=how) == shown
        assert cell(world, "Total Score", attempt=how) == shown


def test_total_score_is_exact_and_of_this_batch_only() -> None:
    world = make_world(self_assess_node(QUIZ, "Quiz"), question_set_node(PRACTICE, "Practice"), self_assess_node("x", "x"))
    enrol(world)
    attempt(world, "1", total_score=0.1)
    attempt(world, "1", PRACTICE, total_score=0.2)
    attempt(world, "2", PRACTICE, total_score=5.0, batch_id="another")
    attempt(world, "2", PRACTICE, total_score=5.0, course_id="another")
    attempt(world, "1", "do_gone", total_score=9.0)
    header, row = lines(world)
    assert dict(zip(header[12:], row[12:], strict=True)) == {
        "Total Score": "0.3", "do_quiz - Score": "0.1", "do_practice - Score": "0.2", "x - Score": "",
    }  # fmt: skip


# The hierarchy


def test_columns_follow_the_hierarchy_each_once() -> None:
    inner = collection_node("do_inner", "Inner", [self_assess_node("do_3", "3")])
    nested = collection_node(
        NESTED, "Nested", [self_assess_node("do_2", "2"), unit_node("u2", "U", [inner])], contentType="course"
    )
    world = make_world(
        self_assess_node("do_1", "1"), unit_node("u1", "Unit", [nested, self_assess_node("do_1", "1")]), inner,
        question_set_node("do_4", "4"), question_set_node("do_exam", "Exam", "Exam Question Set"),
        collection_node("do_hidden", "Hidden", [], visibility="Parent"),
    )  # fmt: skip
    expected = [
        "do_1 - Score",
        "do_nested - Progress",
        "do_2 - Score",
        "do_inner - Progress",
        "do_3 - Score",
        "do_4 - Score",
    ]
    assert lines(world) == [[*lines(make_world())[0], *expected]]
    counts = expected_counts(world, REQUEST, BATCH)
    assert (counts.assessments, counts.nested, counts.enrolled) == (4, 2, 0)


def test_named_labels() -> None:
    nameless = {"identifier": "do_2", "contentType": "SelfAssess"}
    world = make_world(self_assess_node(QUIZ, "=Quiz\n1"), collection_node(NESTED, "Part", []), nameless)
    assert lines(world, named_labels=True)[0][13:] == [
        "'=Quiz 1 (do_quiz) - Score", "Part (do_nested) - Progress", "do_2 - Score",
    ]  # fmt: skip


def test_counted_leaves() -> None:
    lesson = resource_node("do_a", "A")
    bare_leaf, bare_unit = {"identifier": "do_b"}, {"identifier": "u", "children": [lesson, resource_node("do_c", "C")]}
    root = collection_node(COURSE, "C", [lesson, bare_leaf, bare_unit, question_set_node("do_q", "Q"), {"name": "no id"}])
    assert leaf_count(root) == 4
    assert leaf_count(collection_node(COURSE, "C", [unit_node("u", "U", [])])) == 0


@pytest.mark.parametrize(
    ("rows", "leaves", "shown"),
    [
        ([], 4, ""),
        ([{"aggregates": {"completedCount": 1.0}}], 4, "25"),
        ([{"agg": {"completedCount": 3}}], 4, "75"),
        ([{"aggregates": {"completedCount": 1.0}, "agg": {"completedCount": 3}}], 4, "25"),
        ([{"aggregates": {"score:x": 1.0}, "agg": {"completedCount": 3}}], 4, "75"),
        ([{"aggregates": {"score:x": 1.0}}], 4, ""),
        ([{"aggregates": {"completedCount": 0.0}}], 4, "0"),
        ([{"aggregates": {"completedCount": 9.0}}], 4, "100"),
        ([{"aggregates": {"completedCount": 1.0}}], 8, "13"),
        ([{"aggregates": {"completedCount": 1.0}}], "2", "50"),
        ([{"aggregates": {"completedCount": 1.0}}], None, "33"),
        ([{"aggregates": {"completedCount": 1.0}}], 0, ""),
        ([{"aggregates": {"completedCount": 1.0}, "context_id": "cb:another"}], 4, ""),
        ([{"aggregates": {"completedCount": 1.0}, "activity_type": "Unit"}], 4, ""),
    ],
)
def test_nested_progress(rows: list[Row], leaves: int | str | None, shown: str) -> None:
    lessons = [resource_node(f"do_{i}", "L") for i in range(3)]
    world = make_world(collection_node(NESTED, "Nested", lessons, leafNodesCount=leaves))
    enrol(world, completedon=moment(2020, 9, 1))
    for columns in rows:
        aggregate(world, **columns)
    assert cell(world, f"{NESTED} - Progress") == shown


# The worlds


def test_worlds_repeat() -> None:
    for first, again in ((sample_world(), sample_world()), (batch_world(60, 40), batch_world(60, 40))):
        for name in vars(first):
            # As text, for NaN is never equal to itself.
            assert repr(_read(getattr(first, name))) == repr(_read(getattr(again, name))), name


def test_shares_of_a_big_world_are_the_whole() -> None:
    world = batch_world(103, 57)
    for rows in (world.enrolments, world.users, world.aggregates, world.attempts):
        assert isinstance(rows, Rows)
        shares = [row for part in range(3) for row in rows.share(part, 3)]
        assert sorted(map(repr, shares)) == sorted(map(repr, rows))


def test_every_request_of_the_sample_has_an_outcome() -> None:
    world = sample_world()
    by_owner, _, _, by_another, _, retired, _ = world.requests
    counts = expected_counts(world, by_owner, by_owner["request_data"]["batchId"])
    assert counts.reported == counts.enrolled > 100
    assert counts.missing and counts.deleted and counts.not_enrolled.keys() == {"inactive", "no_date"}
    counts = expected_counts(world, by_another, by_another["request_data"]["batchId"])
    assert counts.left_out.keys() == {"missing", "deleted", "other_org", "unknown_org"} and counts.reported
    with pytest.raises(NoReport, match="retired"):
        expected_counts(world, retired, retired["request_data"]["batchId"])


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted(found) if isinstance(found, set) else found for key, found in value.items()}
    return value if isinstance(value, set) else list(value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_any_world_makes_a_sound_csv(world: World) -> None:
    request = world.requests[0]
    batch = world.batches[0]["batchid"]
    made = expected_csv(world, request, batch, RUN_DATE).decode()
    header, *found = csv.reader(io.StringIO(made, newline=""), strict=True)
    counts = expected_counts(world, request, batch)
    assert len(found) == counts.reported == counts.enrolled - sum(counts.left_out.values())
    assert len(header) == 13 + counts.assessments + counts.nested == 13 + len(set(header[13:]))
    assert {len(row) for row in found} <= {len(header)}
    assert made.count("\r\n") == len(found) + 1 and not set(made) & set("\t\x00\x1b\x7f\x85")
