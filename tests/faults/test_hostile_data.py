"""Hostile and odd data next to healthy data: the right cell, a counted skip, or FAILED with a message; the rest is made.

What a store does not take is tried in those that do: Postgres has no NUL in a text, and its jsonb no half of a character;
Cassandra takes half a character, and Redis any bytes. A tree cannot be cyclic in JSON, but by its ids it can.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.world import (
    ORG,
    REQUESTED_AT,
    Row,
    World,
    batch_row,
    collection_node,
    content_row,
    request_row,
    resource_node,
    self_assess_node,
)
from tests.integration.install import REPORT_DAY, Install, RunResult
from tests.oracle import expected_csv

DATE = datetime(2020, 8, 25, 13, 45, 54, 150_000, UTC)
LONG = "x" * 150  # the longest id
HEALTHY, NOBODY = "0199healthy", "0199nobody"
FIRST_INSTANT, YEAR_0, YEAR_9999, LAST_INSTANT = -(2**63), -62_167_219_200_001, 253_402_300_799_999, 2**63 - 1


@dataclass(frozen=True)
class HalfText:
    """A text that ends in half a character, as bytes that Cassandra takes; the driver wants only its encode."""

    text: str

    def encode(self, _encoding: str = "utf-8") -> bytes:
        return self.text.encode() + b"\xed\xa0\x80"


# Learners


@dataclass(frozen=True)
class Learner:
    """A learner of the odd batch, and its expected cells; None: it is excluded."""

    cells: dict[str, str] | None
    enrolment: Row | None = None
    user: dict[str, Any] | None = None
    attempts: tuple[Row, ...] = ()
    completed: tuple[tuple[str, Any], ...] = ()  # of a nested collection: its id, and completedCount
    id: str = ""


def scored(quiz: str, attempt: str = "1", **columns: Any) -> Row:
    return {"content_id": quiz, "attempt_id": attempt} | columns


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1", " =1", "\u200b=1", "\x00=1"]
DEFUSED = [
    "'=1+1",
    "'+1+1",
    "'-1+1",
    "'@SUM(A1)",
    "' =1",
    "' =1",
    "' =1",
    "'＝1",
    "'＋1",
    "'－1",
    "'＠1",
    "' =1",
    "'\u200b=1",
    "'=1",
]
HARMLESS = [
    "|cmd",
    "%0A=1",
    "5%",
    "'=1",
    "\u202egnp.=1",
    "\u2066x\u2069",
    "𝐀sha 👩🏽\u200d🏫",
    "e\u0301",
    "a\u2028b",
    "١٢٣",
    "\ufffe\uffff",
]
QUIZ, SECOND, NESTED = "do_quiz", "do_second", "do_nested"
SCORE, SECOND_SCORE, PROGRESS = f"{QUIZ} - Score", f"{SECOND} - Score", f"{NESTED} - Progress"

LEARNERS: dict[str, Learner] = {
    **{
        f"formula {place}": Learner(
            {"State": safe, "User Name": "'" + safe[1:].strip(" "), "District": safe},
            user={"firstname": text, "state": text, "district": text},
        )
        for place, (text, safe) in enumerate(zip(FORMULAS, DEFUSED, strict=True))
    },
    **{
        f"harmless {place}": Learner({"State": text, "User Name": text}, user={"firstname": text, "state": text})
        for place, text in enumerate(HARMLESS)
    },
    "1 MB names": Learner(
        {"User Name": "n" * 2**20 + " " + "m" * 2**20, "State": "'" + "=" * 2**20},
        user={"firstname": "n" * 2**20, "lastname": "m" * 2**20, "state": "=" * 2**20},
    ),
    "quotes and line ends": Learner(
        {"User Name": 'a"",b  c d', "State": "';'"}, user={"firstname": 'a"",b\r\nc\td', "state": "';'"}
    ),
    "no UTF-8 in Redis": Learner({"State": "a\ufffd\ufffdb"}, user={"state": b"a\xff\xfeb", b"\xff": b"\xff"}),
    "a hash of thousands": Learner({"State": "Goa"}, user={"state": "Goa", **{f"field{n}": "x" for n in range(5000)}}),
    "unused fields of 1 MB": Learner(
        {"State": "Goa"}, user={"state": "Goa", "profile": "x" * 2**20, "email": "y" * 2**20}
    ),
    "a name as JSON": Learner({"State": '{"a": null}'}, user={"state": '{"a": null}'}),
    # Dates
    "year 0": Learner({"Enrolment Date": ""}, {"enrolled_date": YEAR_0}),
    "first instant": Learner({"Enrolment Date": "", "Progress": "100"}, {"enrolled_date": FIRST_INSTANT, "completedon": YEAR_0}),
    "last instant": Learner(
        {"Enrolment Date": "", "Completion Date": ""}, {"enrolled_date": LAST_INSTANT, "completedon": LAST_INSTANT}
    ),
    "year 9999": Learner({"Enrolment Date": "9999-12-31 23:59:59:999+0000"}, {"enrolled_date": YEAR_9999}),
    "year 10000": Learner({"Enrolment Date": ""}, {"enrolled_date": YEAR_9999 + 1}),
    **{
        f"date {text!r:.20}": Learner({"Enrolment Date": cell}, {"enrolled_date": None, "enrolleddate": text})
        for text, cell in {
            "0000-01-01 00:00:00:000+0000": "0000-01-01 00:00:00:000+0000",
            "9999-12-31 23:59:59:999-0100": "9999-12-31 23:59:59:999-0100",
            "1598363154150": "1598363154150",
            "-1598363154150": "-1598363154150",
            "-1.5e11": "'-1.5e11",
            "2020-02-30": "2020-02-30",
            "١٩٧٠-٠١-٠١": "١٩٧٠-٠١-٠١",
            "=NOW()": "'=NOW()",
            "\u202e2020-08-25": "\u202e2020-08-25",
            "nan": "nan",
            "d" * 2**20: "d" * 2**20,
        }.items()
    },
    "half a character as a date": Learner(
        {"Enrolment Date": "2020\ufffd"}, {"enrolled_date": None, "enrolleddate": HalfText("2020")}
    ),
    "a blank date": Learner(None, {"enrolled_date": None, "enrolleddate": " \t\n"}),
    "no date": Learner(None, {"enrolled_date": None}),
    "inactive": Learner(None, {"active": False}),
    "of no activity": Learner(None, {"active": None}),
    # Contents
    "odd contents": Learner(
        {"Progress": "0"}, {"contentstatus": {"a\x00\x00\x00\x04\x00\x00\x00\x02": 1, "": 2, "b": -2, "c": 2**31 - 1}}
    ),
    "many contents": Learner({"Progress": "0"}, {"contentstatus": {f"do_{n}": 2 for n in range(50_000)}}),
    "empty certificates": Learner({"Certificate Status": "Issued"}, {"certificates": [{}], "certstatus": -(2**31)}),
    # Scores
    **{
        f"score {score}": Learner({SCORE: cell, "Total Score": cell}, attempts=(scored(QUIZ, total_score=score),))
        for score, cell in {
            float("nan"): "",
            float("inf"): "",
            float("-inf"): "",
            1e308: f"{10**308}",
            -1e308: f"-{10**308}",
            5e-324: "0",
            -0.0: "0",
        }.items()
    },
    "a sum beyond any double": Learner(
        {"Total Score": f"{2 * 10**308}", SCORE: f"{10**308}"},
        attempts=(scored(QUIZ, total_score=1e308), scored(SECOND, total_score=1e308)),
    ),
    "no double among others": Learner(
        {"Total Score": "3", SCORE: "", SECOND_SCORE: "3"},
        attempts=(scored(QUIZ, total_score=float("inf")), scored(SECOND, total_score=3.0)),
    ),
    **{
        f"grand total {text!r:.20} of {len(text)}": Learner(
            {SCORE: cell}, attempts=(scored(QUIZ, grand_total=text, total_max_score=-1.0),)
        )
        for text, cell in {
            "7/0": "7",
            "7/ 0 ": "7",
            "a/b": "",
            "/": "",
            "7\x00/1": "",
            "٧/10": "",
            "1e3/1": "",
            "=7/1": "",
            "9" * 300 + "/1": "9" * 300,
            "9" * 100_000: "",
        }.items()
    },
    "no score and no instant": Learner(
        {SCORE: ""}, attempts=(scored(QUIZ, total_score=None, last_attempted_on=None, total_max_score=-10.0),)
    ),
    "a tie without instants": Learner(
        {SCORE: "4"}, attempts=(scored(QUIZ, "é", total_score=4.0), scored(QUIZ, "\x00", total_score=4.0))
    ),
    "half a character as an attempt": Learner({SCORE: "4"}, attempts=(scored(QUIZ, HalfText("1"), total_score=4.0),)),
    "an attempt at what is not in the tree": Learner({"Total Score": ""}, attempts=(scored("../do_else", total_score=4.0),)),
    # Nested progress
    **{
        f"completed {count}": Learner({PROGRESS: cell}, completed=((NESTED, count),))
        for count, cell in {
            float("nan"): "",
            float("inf"): "",
            1e308: "100",
            -1e308: "0",
            5e-324: "0",
        }.items()
    },
    # Ids
    **{
        f"id {text!r:.20}": Learner({"User UUID": cell, "State": "Goa", SCORE: "1"}, user={"state": "Goa"}, id=text,
                                attempts=(scored(QUIZ, total_score=1.0),), completed=((NESTED, 1.0),))
        for text, cell in {
            "": "", "../../x": "../../x", "%2e%2e%2f": "%2e%2e%2f", "a\\b": "a\\b", 'a"b\'c': 'a"b\'c', "a\r\nb": "a  b",
            "=id": "'=id", "a\x00b": "ab", "ｉd": "ｉd", "\u202eid": "\u202eid", "u" * 400: "u" * 400, "user:*": "user:*",
            "{{ 7 * 7 }}": "{{ 7 * 7 }}",
        }.items()
    },
    # Too long for any partition of a table that is keyed by him.
    "the longest id": Learner({"User UUID": "z" * 65_500, SCORE: ""}, id="z" * 65_500),
}  # fmt: skip


# Trees

LONG_NODE = "do_" + "n" * 70_000
ODD_NODES: list[Any] = [
    None, 7, "do_text", [], {}, {"identifier": None}, {"identifier": ""}, {"identifier": ["do_list"], "children": [None]},
    {"identifier": "do_null", "children": None}, {"identifier": "do_words", "children": "do_1"},
    {"identifier": "do_nulls", "children": [None, None]}, {"identifier": "do_object", "children": {"identifier": "do_x"}},
    resource_node("do_lesson", "x") | {"mimeType": 7, "contentType": {"a": 1}, "objectType": [], "visibility": None},
    collection_node("do_negative", "Negative", [resource_node("do_1", "x"), resource_node("do_1", "y")], leafNodesCount=-5),
    collection_node("do_words_count", "Text", [resource_node("do_1", "x")], leafNodesCount="many"),
    collection_node("do_huge", "Huge", [], leafNodesCount=10**30),
    collection_node("do_nan", "NaN", [resource_node("do_1", "x")], leafNodesCount=float("nan")),
    collection_node("do_inf", "Infinite", [resource_node("do_1", "x")], leafNodesCount=float("inf")),
    collection_node("do_list_count", "List", [resource_node("do_1", "x")], leafNodesCount=[1]),
    collection_node("do_odd_kind", "x", [], contentType=["Course"]), collection_node("do_no_mime", "x", [], mimeType=7),
    self_assess_node("=quiz", "x"), self_assess_node("do\r\nquiz", "x"), self_assess_node('do,"quiz"', "x"),
    self_assess_node("do_twice", "First"), self_assess_node("do_twice", "Again"), self_assess_node("../do_quiz", "x"),
    self_assess_node("do_\ud800", "Half a character"), self_assess_node("do_nul\x00", "x"),
    self_assess_node("do_" + "q" * 5000, "x"),
    collection_node("do_\udfff", "Half a character", [], leafNodesCount=1), collection_node(LONG_NODE, "x", [], leafNodesCount=1),
]  # fmt: skip
ODD_LABELS = [
    "do_negative - Progress", "do_words_count - Progress", "do_huge - Progress", "do_nan - Progress", "do_inf - Progress",
    "do_list_count - Progress", "'=quiz - Score", "do  quiz - Score", 'do,"quiz" - Score', "do_twice - Score",
    "../do_quiz - Score",
    "do_\ufffd - Score", "do_nul - Score", "do_" + "q" * 5000 + " - Score", "do_\ufffd - Progress", LONG_NODE + " - Progress",
    *(f"do_{kind}_{number} - {column}" for number in range(50) for kind, column in (("n", "Progress"), ("q", "Score"))),
]  # fmt: skip


def odd_tree(identifier: str) -> str:
    """Return a tree with all that is odd in one, that holds itself, has 10,000 nodes and lists 1 MB of leaves."""
    nodes = [*ODD_NODES]
    for number in range(50):
        nodes.append(collection_node(f"do_n_{number}", "x", [resource_node(f"do_{number}_{leaf}", "x") for leaf in range(200)]))
        nodes.append(self_assess_node(f"do_q_{number}", "x"))
    root = collection_node(identifier, "Odd", nodes, leafNodesCount="", leafNodes=["do_" + "l" * 100] * 10_000)
    root["children"].append(collection_node(identifier, "Itself", [resource_node("do_last", "x")]))
    return json.dumps(root)


def deep_tree(identifier: str, levels: int) -> str:
    """Return a tree with a quiz at its end, so many units down; json.dumps cannot write it."""
    ends = json.dumps(self_assess_node("do_deepest", "Deepest"))
    unit = '{"identifier": "do_unit", "mimeType": "application/vnd.ekstep.content-collection", "children": ['
    return f'{{"identifier": "{identifier}", "children": [' + unit * levels + ends + "]}" * levels + "]}"


NO_TREE = "cannot be read. Publish the collection again"
TREES: dict[str, tuple[Callable[[str], str], str | list[str]]] = {  # the JSON, and the reason or the columns
    "odd": (odd_tree, ODD_LABELS),
    "deep": (lambda identifier: deep_tree(identifier, 300), ["do_deepest - Score"]),
    "too deep": (lambda identifier: deep_tree(identifier, 20_000), NO_TREE),
    "no JSON": (lambda _: "<html>", NO_TREE),
    "empty": (lambda _: "{}", "has no content tree. Publish it, then ask again"),
}


# Requests


def searched(filters: Any, **more: Any) -> str:
    return json.dumps({"searchFilter": {"request": {"filters": filters} | more}})


def nested_in(levels: int, value: str) -> str:
    return '{"a": ' * levels + value + "}" * levels


NEVER: dict[str, str] = {
    "[" * 100_000 + "]" * 100_000: "it is not valid JSON",
    '{"a":' * 100_000 + "1" + "}" * 100_000: "it is not valid JSON",
    '{"batchId": ' + "[" * 900 + "]" * 900 + "}": "batchId must be a text",
    '{"searchFilter": {"request": {"filters": ' + nested_in(21, "1") + "}}}": "nested too deeply",
    '{"searchFilter": {"request": {"filters": ' + nested_in(900, "1") + "}}}": "nested too deeply",
    '{"searchFilter": {"request": {"filters": {"a": 1e999}}}}': "it is not valid JSON",
    '{"searchFilter": {"request": {"filters": {"a": NaN}}}}': "it is not valid JSON",
    '{"searchFilter": {"request": {"filters": {"a": ' + "9" * 5000 + "}}}}": "it is not valid JSON",
    "7": "must be a JSON object",
    "-Infinity": "it is not valid JSON",
    "true": "must be a JSON object",
    '{"batchId": true}': "batchId must be a text",
    '{"batchId": {"batchId": "0199healthy"}}': "batchId must be a text",
    '{"batchId": null, "batchFilter": null, "searchFilter": null}': "either of batchId, batchFilter, searchFilter",
    '{"batchFilter": 7}': "a list of texts",
    '{"batchFilter": [""]}': "not valid",
    '{"searchFilter": 7}': "must hold a request with filters",
    '{"searchFilter": {"request": []}}': "must hold a request with filters",
    '{"searchFilter": {"request": {"filters": [1]}}}': "must hold a request with filters",
    searched({"a": 1}, limit=1.5): "whole number above 0",
    searched({"a": 1}, limit=-1): "whole number above 0",
    searched({"a": "\ud800\x00"}): "No data found",
    searched({"a": {"b": 1}}): "does not accept the request's filters",
    json.dumps({"batchFilter": [f"0199{number:016}" for number in range(500_000)]}): "exceeded. It should be within 20",
    json.dumps({"batchId": "x" * 300}): "not valid",
    json.dumps({"batchId": "0199\x00"}): "not valid",
    json.dumps({"batchId": "0199\ud800"}): "not valid",
    json.dumps({"batchId": "０１９９"}): "not valid",
    json.dumps({"batchId": "0199\u202ehealthy"}): "not valid",
    json.dumps({"batchId": "0199' OR '1'='1"}): "not valid",
    json.dumps({"batchId": 'a"b'}): "not valid",
    json.dumps({"batchId": "%2e%2e"}): "not valid",
    json.dumps({"batchId": "0199twice"}): "Batch 0199twice belongs to more than one collection",
    searched({"identifier": ["do_two1", "do_two2"]}): "Batch 0199twice belongs to more than one collection",
    searched({"identifier": "do_odd_batches"}): "not valid",
    searched({"identifier": "do' OR \"1\n"}): "not valid",
}
ODD_NAMES = ["x" * 300, "０１９９", "'; DROP TABLE job_request; --", 'a"b', "{{ 7 * 7 }}", "\u202eid", "%2F", "..%5c", "a\r\nb"]
ODD_PROCESSED = [
    "[" * 3000,
    '[{"batchId": "0199healthy", "filePath": "../../../etc/passwd.zip"}]',
    '[{"batchId": "x", "filePath": "progress-exhaust/x/../../x_progress_20220928.zip", "fileSize": 1e999}]',
    r'[{"batchId": "\ud800", "filePath": "\ud800\u0000.zip"}, 7, null, {"batchId": ["0199healthy"], "filePath": [".zip"]}]',
]  # fmt: skip


def ask(data: str, seconds: int, **changes: Any) -> Row:
    row = request_row(
        {}, label=f"label{seconds}", channel=ORG, by=f"requester {seconds}", at=REQUESTED_AT + timedelta(seconds=seconds)
    )
    return row | {"request_data": data} | changes


def collection(world: World, identifier: str, tree: str | None = None, *batches: str) -> None:
    plain = collection_node(identifier, identifier, [resource_node("do_lesson", "x"), self_assess_node(QUIZ, "x")])
    world.contents.append(content_row(plain, ORG))
    world.hierarchies[identifier] = tree if tree is not None else json.dumps(plain)
    world.batches += [batch_row(identifier, batch, "Batch", ORG) for batch in batches]


def enrol(world: World, course: str, batch: str, learner: str, enrolment: Row | None = None) -> None:
    row = {"userid": learner, "courseid": course, "batchid": batch, "active": True, "enrolled_date": DATE} | (enrolment or {})
    world.enrolments.append(row)  # type: ignore[attr-defined]


def odd_batch(world: World) -> None:
    """Add the batch of LEARNERS."""
    tree = collection_node(
        "do_learners", "Learners",
        [
            self_assess_node(QUIZ, "x"), self_assess_node(SECOND, "x"),
            collection_node(NESTED, "Nested", [resource_node("do_a", "x"), resource_node("do_b", "x")], leafNodesCount=2),
        ],
        leafNodesCount=2,
    )  # fmt: skip
    collection(world, "do_learners", json.dumps(tree), "0199learners")
    world.contents[-1]["name"] = "=\u202eName \ud800\r\n\x00" + "n" * 2**20
    world.batches[-1]["name"] = HalfText("+Batch\t\x00")
    for name, learner in LEARNERS.items():
        user_id = learner.id if name.startswith(("id ", "the longest")) else f"user of {name}"
        enrol(world, "do_learners", "0199learners", user_id, learner.enrolment)
        world.users.append((user_id, learner.user or {"firstname": "Asha"}))  # type: ignore[attr-defined]
        key = {"user_id": user_id, "course_id": "do_learners", "batch_id": "0199learners"}
        world.attempts += [key | attempt for attempt in learner.attempts]  # type: ignore[operator]
        for nested, count in learner.completed:
            world.aggregates.append({  # type: ignore[attr-defined]
                "activity_type": "Course", "activity_id": nested, "user_id": user_id, "context_id": "cb:0199learners",
                "aggregates": count if isinstance(count, dict) else {"completedCount": count},
            })  # fmt: skip


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    install.names = replace(install.names, enrolments_by_user=None)  # no key of it is empty
    made = World(enrolments=[], users=[], aggregates=[], attempts=[])
    collection(made, "do_healthy", None, HEALTHY, NOBODY, LONG)
    for course in ("do_two1", "do_two2"):
        collection(made, course, None, "0199twice")
    collection(made, "do_odd_batches", None, "../0199", "0199'", "x" * 300)
    collection(made, "do' OR \"1\n", None, "0199odd")
    for place, name in enumerate(TREES):
        collection(made, f"do_tree{place}", TREES[name][0](f"do_tree{place}"), f"0199tree{place}")
        enrol(made, f"do_tree{place}", f"0199tree{place}", "a learner")
    for batch in (HEALTHY, LONG):
        enrol(made, "do_healthy", batch, "a learner", {"contentstatus": {"do_lesson": 2}})
    enrol(made, "do_two1", "0199twice", "first learner")
    enrol(made, "do_two2", "0199twice", "second learner")
    made.users += [(name, {"firstname": name, "rootorgid": ORG}) for name in ("a learner", "first learner", "second learner")]  # type: ignore[operator]
    odd_batch(made)
    install.load(made)
    return made


def table(data: bytes) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the header, and the rows by user id as they are in the csv."""
    csv.field_size_limit(2**24)
    header, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    assert {len(row) for row in rows} <= {len(header)}
    return header, {row[header.index("User UUID")]: dict(zip(header, row, strict=True)) for row in rows}


@dataclass(frozen=True)
class Done:
    install: Install
    world: World
    result: RunResult
    requests: dict[str, Row]
    rows: dict[str, Row]

    def row(self, name: str) -> Row:
        return self.rows[self.requests[name]["request_id"]]

    def csv(self, name: str) -> bytes:
        row = self.row(name)
        assert row["status"] == "SUCCESS", row
        [key] = row["download_urls"]
        return self.install.csv(key)


@pytest.fixture(scope="module")
def done(install: Install, world: World, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Run the DAG once over all of it, the hostile requests first, on the oldest kind of table: it takes any text."""
    install.folder = tmp_path_factory.mktemp("run")
    install.sql("ALTER TABLE job_request ALTER request_data TYPE text, ALTER processed_batches TYPE text")
    healthy = json.dumps({"batchId": HEALTHY})
    asked = {f"never {number}": text for number, text in enumerate(NEVER)}
    asked |= {name: json.dumps({"batchId": f"0199tree{place}"}) for place, name in enumerate(TREES)}
    asked |= {
        "10 MB": json.dumps({"x": ["y" * 2**10] * 10 * 2**10, "batchId": HEALTHY}),
        "the last of a key counts": '{"batchId": "../x", "batchId": "0199healthy"}',
        "first of two": searched({"identifier": "do_two1"}),
        "second of two": searched({"identifier": "do_two2"}),
        "learners": json.dumps({"batchId": "0199learners"}),
        "no learners": json.dumps({"batchId": NOBODY}),
        "healthy": healthy,
    }
    requests = {name: ask(data, number) for number, (name, data) in enumerate(asked.items())}
    requests["long"] = ask(json.dumps({"batchId": LONG}), 1000, request_id=LONG)
    requests |= {f"name {name}": ask(healthy, 1100 + number, request_id=name) for number, name in enumerate(ODD_NAMES)}
    for name, processed in zip(("10 MB", "the last of a key counts", "no learners", "odd"), ODD_PROCESSED, strict=True):
        requests[name]["processed_batches"] = processed
    template = "{{ var.value.progress_exhaust }}{% raw %}"
    requests["template"] = ask(healthy, 1300, tag=template, requested_channel=template, requested_by=template)
    requests["key"] = ask(healthy, 1400, encryption_key="\u202e🙂'\";--\r\n" + "k" * 2**20)
    install.submit(list(requests.values()))
    settings = {"batches_per_channel": 1000, "batches_per_run": 1000, "default_security_level": "PLAIN_DATASET"}
    result = install.run_dag(settings=settings)
    return Done(install, world, result, requests, install.rows())


def test_the_run_is_green_and_each_request_has_an_end(done: Done) -> None:
    assert (done.result.state, done.result.failed()) == ("success", [])
    assert {row["status"] for row in done.rows.values()} == {"SUCCESS", "FAILED"}
    assert done.install.staged() == []
    assert {path.name for path in done.install.folder.iterdir()} == {"reports", "staging"}


def test_what_can_never_be_made_is_failed_with_a_message(done: Done) -> None:
    expected = {f"never {number}": words for number, words in enumerate(NEVER.values())}
    expected |= {name: words for name, (_, words) in TREES.items() if isinstance(words, str)}
    expected |= {f"name {name}": "The request's id is not valid" for name in ODD_NAMES}
    for name, words in expected.items():
        row = done.row(name)
        assert (row["status"], row["iteration"], row["download_urls"]) == ("FAILED", 0, None), (name[:100], row["err_message"])
        assert words in row["err_message"], (name[:100], row["err_message"][:300])
        assert len(row["err_message"]) < 300 and "Error" not in row["err_message"] and "Traceback" not in row["err_message"]


def test_every_healthy_file_has_its_bytes(done: Done) -> None:
    for name in ("healthy", "10 MB", "the last of a key counts", "template", "key"):
        assert done.csv(name) == expected_csv(done.world, done.requests[name], HEALTHY, REPORT_DAY), name[:100]
    assert done.csv("long") == expected_csv(done.world, done.requests["long"], LONG, REPORT_DAY)
    assert done.row("long")["download_urls"] == [f"progress-exhaust/{LONG}/{LONG}_progress_20220928.zip"]
    assert done.csv("no learners") == expected_csv(done.world, done.requests["no learners"], NOBODY, REPORT_DAY)
    assert done.csv("no learners").count(b"\r\n") == 1
    assert done.csv("template").count(b"\r\n") == 1  # no org of that name has learners
    made = [name for name, row in done.requests.items() if done.rows[row["request_id"]]["status"] == "SUCCESS"]
    assert sorted(done.install.published()) == sorted(url for name in made for url in done.row(name)["download_urls"])


def test_a_batch_id_of_two_collections_is_made_for_each_by_itself(done: Done) -> None:
    assert list(table(done.csv("first of two"))[1]) == ["first learner"]
    assert list(table(done.csv("second of two"))[1]) == ["second learner"]


@pytest.mark.parametrize("name", [name for name, (_, wanted) in TREES.items() if isinstance(wanted, list)])
def test_an_odd_tree_has_its_columns(done: Done, name: str) -> None:
    header, rows = table(done.csv(name))
    assert header[13:] == TREES[name][1]
    assert list(rows) == ["a learner"]


def test_an_odd_learner_has_the_right_cells_or_is_excluded(done: Done) -> None:
    _, rows = table(done.csv("learners"))
    for name, learner in LEARNERS.items():
        by_id = name.startswith(("id ", "the longest"))
        user_id = learner.cells["User UUID"] if by_id and learner.cells else f"user of {name}"
        cells = rows.pop("".join(user_id.translate(CLEAN)), None)
        shown = None if cells is None or learner.cells is None else {label: cells[label] for label in learner.cells}
        assert shown == learner.cells and (cells is None) == (learner.cells is None), name
        if cells:
            assert cells["Collection Name"] == "'=\u202eName \ufffd  " + "n" * 2**20
            assert cells["Batch Name"] == "'+Batch \ufffd"
    assert rows == {}
    counts = done.install.sql("SELECT counts FROM progress_exhaust.batch_run WHERE batch_id = '0199learners'")[0]["counts"]
    left_out = [learner for learner in LEARNERS.values() if learner.cells is None]
    assert counts["excluded.inactive"] + counts["excluded.no_date"] == len(left_out) == 4
    assert counts["reported"] == counts["enrolled"] == len(LEARNERS) - 4


CLEAN = {0: None, 9: " ", 10: " ", 13: " "}


def test_no_data_of_a_learner_or_a_template_is_logged(done: Done) -> None:
    for kept in (done.result.log, done.install.airflow.all_that_is_kept()):
        assert "gnp.=1" not in kept and "nnnnnnnn" not in kept and "SUM(A1)" not in kept
        assert "kkkkkkkk" not in kept
    assert "learners_per_chunk" not in done.result.log  # of the Variable, which a template would have shown
