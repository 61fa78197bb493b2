"""Hypothesis strategies: small random worlds of one batch, one request and every kind of odd value.

The rule: a world is what the stores could really hold. So a lone surrogate is only in what comes as JSON (Cassandra and
Redis refuse it), primary keys are unique, and a content id always means the same kind of node, wherever it stands.
"""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from dev.world import (
    ORG,
    OTHER_ORG,
    REQUESTED_AT,
    Row,
    User,
    World,
    batch_row,
    collection_node,
    content_row,
    question_set_node,
    request_row,
    resource_node,
    self_assess_node,
    unit_node,
)

COURSE, BATCH, OTHER_BATCH = "do_2133074736487792641239", "013307481768378368112", "013307481768378368113"

# What has a meaning to a csv, a spreadsheet, a terminal or a script, and some letters.
CHARACTERS = (
    "ab5. ,;\"'=+-@|\r\n\t\x00\x1b\x7f\x85\u00a0\u2028\u200b\ufeff\uff1d\uff0b\uff0d\uff20"
    "é\u0301नि१தமி\u200dف🙂%\u202e\ufffe\uffff"
)
texts = st.text(CHARACTERS, max_size=8) | st.sampled_from(["-5", "+12.50", "-1 2", " =1", "=1+1", "Asha", "x" * 300])
# Through JSON, which makes one character of two surrogates that meet.
json_texts = (texts | st.text(CHARACTERS + "\ud800\udc00", max_size=4)).map(lambda text: json.loads(json.dumps(text)))

moments = st.sampled_from(
    [
        datetime(2020, 8, 25, 13, 45, 54, 150_000, UTC),
        datetime(2020, 8, 25, 13, 45, 54, 151_000, UTC),
        datetime(2021, 12, 31, 18, 29, 59, 999_000, UTC),
        datetime(1969, 12, 31, 23, 59, 59, 1_000, UTC),
    ]
)
text_dates = st.sampled_from(
    [
        "", "  ", "2019-11-15 05:41:50:382+0000", "2019-11-15T23:41:50.382+05:30", "2019-11-15", "2019-11-15 05:41",
        "2019-11-15T05:41:50Z", "2019-02-29 05:41:50:382+0000", "15/11/2019, noon", "=TODAY()", "2019-11-15 25:00", "-",
        "2019-11-15 05:41:50,382-0330", "2019-11-15 05:41:50:382+0099", "20191115", "null",
        "2019-11-15T05:41:50.38Z", "2019-11-15 05:41:50.382999", "2019-11-15 05:41:50:38+0000", "0001-01-01 00:00+0530",
        "0000-01-01 00:00:00:000+0000", "9999-12-31 23:59:59:999-0100", "1598363154150", "-1.5e11",
    ]
)  # fmt: skip

scores = (
    st.sampled_from(
        [0.0, -0.0, 7.0, 7.5, 0.1, 0.2, 1 / 3, 2.00005, 0.00005, -1.5, 1e21, 1e-7, 1.7976931348623157e308, -1e308, 5e-324]
    )
    | st.sampled_from([float("nan"), float("inf"), float("-inf")])
    | st.floats(-1e9, 1e9)
    | st.integers(0, 10).map(float)
)
grand_totals = st.sampled_from(
    ["7/10", "4", "3.25/5", " 7 / 10", "-2/5", "", "/", "/10", "a/b", "NaN/1", "0/0", "10/", "7/0", "7/ 0 ", "1e3/1", "٧/10"]
)
completed_counts = st.integers(0, 12).map(float) | st.sampled_from([2.5, -1.0, 1e6, 1e308, -1e308, float("nan")])

# Ids by kind of node, few of each, so that repeats and matches are common.
LESSONS = ["do_lesson1", "do_lesson2", "do_lesson3", "do,lesson"]
TESTS = ["do_test1", "do_test2", "=test"]
PRACTICE = ["do_practice1", "do_practice2"]
NESTED = ["do_nested1", "do_nested2", "-nested"]
CONTENTS = [*LESSONS, *TESTS, *PRACTICE, "do_elsewhere"]

leaf_counts = (
    st.none()
    | st.integers(0, 9)
    | st.sampled_from(["3", "0", "-1", "many", "", -2, 4.0, 2.5, True, 10**20, float("nan"), float("inf")])
)

leaf_nodes = st.one_of(
    st.builds(resource_node, st.sampled_from(LESSONS), json_texts),
    st.builds(self_assess_node, st.sampled_from(TESTS), json_texts),
    st.builds(question_set_node, st.sampled_from(PRACTICE), json_texts),
    st.builds(question_set_node, st.just("do_exam"), json_texts, st.just("Exam Question Set")),
    st.just(self_assess_node("do_\ud800", "half a character")),
    st.just({"identifier": "do_bare"}),
    st.just({"name": "no identifier"}),
)


def inner_nodes(children: st.SearchStrategy[Row]) -> st.SearchStrategy[Row]:
    some = st.lists(children, max_size=4)
    nested = st.builds(
        collection_node,
        st.sampled_from(NESTED),
        json_texts,
        some,
        leafNodesCount=leaf_counts,
        contentType=st.sampled_from(["Course", "course", "COURSE"]),
    )
    hidden = st.builds(collection_node, st.just("do_hidden"), json_texts, some, visibility=st.just("Parent"))
    bare = some.map(lambda found: {"identifier": "do_bare_unit", "children": found})
    return nested | st.builds(unit_node, st.just("do_unit"), json_texts, some) | hidden | bare


nodes = st.recursive(leaf_nodes, inner_nodes, max_leaves=10)
trees = st.builds(
    collection_node, st.just(COURSE), json_texts, st.lists(nodes, max_size=5), leafNodesCount=leaf_counts
)  # fmt: skip

boards = st.sampled_from(
    ['["CBSE"]', '["State (Kerala)", "CBSE"]', "[]", "CBSE", "[CBSE]", "", ' ["=1"]', '[" a "]', "{}", '"CBSE"', '["\\u0001b"]']
)
user_ids = st.uuids(version=4).map(str) | st.sampled_from(["a", "b", "B", "é", "🙂", "\uffee", "-u", "u,1"])
certificate_lists: st.SearchStrategy[Any] = st.sampled_from([None, [], [{"name": "Completion", "identifier": "c"}], [{}]])


def rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw a value, or None three times in four."""
    return st.one_of(st.none(), st.none(), st.none(), strategy)


def often(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw None, or a value three times in four."""
    return st.one_of(strategy, strategy, strategy, st.none())


def rows(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    """Draw a row; a column drawn as None was never written."""
    return st.fixed_dictionaries(columns).map(lambda row: {column: value for column, value in row.items() if value is not None})


def enrolments(user: str, batch: str = BATCH) -> st.SearchStrategy[Row]:
    return rows(
        userid=st.just(user),
        courseid=st.just(COURSE),
        batchid=st.just(batch),
        active=st.sampled_from([True, True, True, True, False, None]),
        enrolled_date=often(moments),
        enrolleddate=st.none() | text_dates,
        completedon=rarely(moments),
        contentstatus=often(st.dictionaries(st.sampled_from(CONTENTS), st.sampled_from([0, 1, 2, 2, 2, 3]))),
        certificates=certificate_lists,
        issued_certificates=certificate_lists,
        certstatus=st.sampled_from([None, 0, 1, 2, 3]),
    )


def cached_users() -> st.SearchStrategy[dict[str, str]]:
    """Draw the fields of a user's hash; none at all is a user that the cache lacks."""
    fields = rows(
        firstname=often(texts),
        lastname=often(texts),
        state=often(texts),
        district=often(texts),
        orgname=rarely(texts),
        cluster=rarely(texts),
        block=rarely(texts),
        schoolname=rarely(texts),
        schooludisecode=rarely(st.sampled_from(["0012345", "29290302502"])),
        usertype=rarely(st.sampled_from(["teacher", "student"])),
        usersubtype=rarely(st.sampled_from(['["hm"]', "deo"])),
        framework_board=often(boards),
        rootorgid=st.sampled_from([ORG, ORG, OTHER_ORG, "", None]),
        status=st.sampled_from(["1", "1", "1", "0", "2", None]),
        email=st.just("never-read@example.test"),
    )
    return st.one_of(fields, fields, fields, st.just({}))


def aggregates(user: str) -> st.SearchStrategy[list[Row]]:
    found = rows(
        activity_type=st.sampled_from(["Course", "Course", "Course", "Unit"]),
        activity_id=st.sampled_from([*NESTED, COURSE, "do_elsewhere"]),
        user_id=st.just(user),
        context_id=st.sampled_from([f"cb:{BATCH}", f"cb:{BATCH}", f"cb:{BATCH}", f"cb:{OTHER_BATCH}", BATCH]),
        agg=st.none() | st.dictionaries(st.sampled_from(["completedCount", "other"]), st.integers(0, 12)),
        aggregates=st.none() | st.dictionaries(st.sampled_from(["completedCount", "score:do_x"]), completed_counts),
    )
    key = ("activity_type", "activity_id", "context_id")
    return st.lists(found, max_size=6, unique_by=lambda row: tuple(row[column] for column in key))


def attempts(user: str) -> st.SearchStrategy[list[Row]]:
    found = rows(
        user_id=st.just(user),
        course_id=st.sampled_from([COURSE, COURSE, COURSE, "do_elsewhere"]),
        batch_id=st.sampled_from([BATCH, BATCH, BATCH, OTHER_BATCH]),
        content_id=st.sampled_from([*TESTS, *PRACTICE, "do_exam", "do_elsewhere"]),
        attempt_id=st.sampled_from(["1", "2", "10", "a", "B", "é"]),
        last_attempted_on=often(moments),
        total_score=often(scores),
        total_max_score=often(st.sampled_from([10.0, 12.0, 0.0, 3.3, -10.0, 1e308, 5e-324, float("nan")])),
        grand_total=st.none() | grand_totals,
    )
    key = ("course_id", "batch_id", "content_id", "attempt_id")
    return st.lists(found, max_size=8, unique_by=lambda row: tuple(row[column] for column in key))


@st.composite
def worlds(draw: st.DrawFn, max_learners: int = 12) -> World:
    """Draw a world with one collection, its batch (`batches[0]`) and a request for it (`requests[0]`)."""
    tree = draw(trees)
    learners = draw(st.lists(user_ids, max_size=max_learners, unique=True))
    world = World(
        contents=[content_row(tree, ORG)],
        hierarchies={COURSE: json.dumps(tree)},
        optional_nodes={COURSE: optional} if (optional := draw(st.sets(st.sampled_from(CONTENTS), max_size=3))) else {},
        batches=[batch_row(COURSE, BATCH, draw(st.none() | texts), ORG), batch_row(COURSE, OTHER_BATCH, "Other", ORG)],
        requests=[
            request_row(
                {"batchId": BATCH},
                label=f"{COURSE}_{BATCH}",
                channel=draw(st.sampled_from([ORG, ORG, OTHER_ORG])),
                by="fca2925f-1eee-4654-9177-fece3fd6afc9",
                at=REQUESTED_AT,
            )
        ],
    )
    found: list[Row] = []
    users: list[User] = []
    aggregated: list[Row] = []
    attempted: list[Row] = []
    for user in learners:
        found.append(draw(enrolments(user)))
        if draw(st.booleans()):
            found.append(draw(enrolments(user, OTHER_BATCH)))
        users.append((user, draw(cached_users())))
        aggregated += draw(aggregates(user))
        attempted += draw(attempts(user))
    world.enrolments, world.users, world.aggregates, world.attempts = found, users, aggregated, attempted
    return world
