"""Which columns a tree gives, and how many leaves it has: the specification's "Columns", the data model's section 5."""

import json
from typing import Any

import pytest

from dev.world import collection_node, question_set_node, resource_node, self_assess_node, unit_node
from progress_exhaust.errors import RequestError
from progress_exhaust.report.hierarchy import (
    AssessmentKinds,
    Hierarchy,
    Node,
    is_nested_collection,
    leaf_count,
    parse_tree,
    reduce_tree,
    walk,
)

COURSE = "do_course"
KINDS = AssessmentKinds(("SelfAssess",), ("QuestionSet",), ("Practice Question Set",))
LESSONS = [resource_node(f"do_{n}", f"Lesson {n}") for n in range(3)]


def course(*children: Node, **more: Any) -> Node:
    return collection_node(COURSE, "Course", children, **more)


def columns(*children: Any, kinds: AssessmentKinds = KINDS) -> list[tuple[str, str]]:
    hierarchy = reduce_tree(course(*children), COURSE, kinds, frozenset())
    return [(node.kind, node.id) for node in hierarchy.nodes]


def test_columns_stand_depth_first() -> None:
    inner = collection_node("inner", "I", [self_assess_node("quiz3", "Q")])
    middle = collection_node("middle", "M", [unit_node("unit", "U", [inner]), self_assess_node("quiz2", "Q")])
    assert columns(self_assess_node("quiz1", "Q"), unit_node("unit", "U", [middle]), self_assess_node("quiz4", "Q")) == [
        ("assessment", "quiz1"), ("nested", "middle"), ("nested", "inner"), ("assessment", "quiz3"),
        ("assessment", "quiz2"), ("assessment", "quiz4"),
    ]  # fmt: skip


def test_contents_are_the_nodes_other_than_collections() -> None:
    practice = question_set_node("practice", "P")
    unit = unit_node("unit", "U", [LESSONS[1], collection_node("nested", "N", [self_assess_node("quiz", "Q"), practice])])
    tree = course(LESSONS[0], unit, LESSONS[1], {"identifier": "bare"}, {"identifier": "bare unit", "children": [LESSONS[2]]})
    hierarchy = reduce_tree(tree, COURSE, KINDS, frozenset())
    assert hierarchy.content_ids == {"do_0", "do_1", "do_2", "quiz", "practice", "practice_q1", "bare"}
    assert Hierarchy.from_dict(json.loads(json.dumps(hierarchy.to_dict()))) == hierarchy


def test_an_assessment_is_a_content_even_if_it_looks_like_a_collection() -> None:
    """A question set may lack its mimeType; its questions are its children."""
    practice = question_set_node("practice", "P")
    del practice["mimeType"]
    hierarchy = reduce_tree(course(practice), COURSE, KINDS, frozenset())
    assert hierarchy.assessment_ids == ["practice"]
    assert hierarchy.content_ids == {"practice", "practice_q1"}


def test_a_column_stands_once_where_it_is_first() -> None:
    quiz, nested = self_assess_node("quiz", "Q"), collection_node("nested", "N", [])
    assert columns(quiz, nested, unit_node("unit", "U", [nested, quiz])) == [("assessment", "quiz"), ("nested", "nested")]


def test_a_collection_that_holds_itself_has_no_column_for_itself() -> None:
    assert columns(course(collection_node("nested", "N", []))) == [("nested", "nested")]


@pytest.mark.parametrize(
    ("node", "is_one"),
    [
        ({"contentType": "SelfAssess"}, True),
        ({"contentType": "selfassess"}, False),
        ({"objectType": "QuestionSet", "primaryCategory": "Practice Question Set"}, True),
        ({"objectType": "QuestionSet", "primaryCategory": "Exam Question Set"}, False),
        ({"objectType": "Content", "primaryCategory": "Practice Question Set"}, False),
        ({"objectType": "QuestionSet"}, False),
        ({"contentType": None}, False),
        ({"contentType": ["SelfAssess"]}, False),
        ({}, False),
    ],
)
def test_what_an_assessment_is(node: Node, is_one: bool) -> None:
    assert columns({"identifier": "x"} | node) == ([("assessment", "x")] if is_one else [])


def test_the_kinds_of_assessments_are_settings() -> None:
    kinds = AssessmentKinds((), ("QuestionSet",), ("Exam Question Set",))
    exam, quiz = question_set_node("exam", "E", "Exam Question Set"), self_assess_node("quiz", "Q")
    assert columns(exam, quiz, kinds=kinds) == [("assessment", "exam")]


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        ({}, True),
        ({"contentType": "COURSE"}, True),
        ({"contentType": "CourseUnit"}, False),
        ({"contentType": None}, False),
        ({"contentType": 1}, False),
        ({"visibility": "Parent"}, False),
        ({"visibility": None}, False),
        ({"mimeType": "video/mp4"}, False),
    ],
)
def test_what_a_nested_collection_is(changes: Node, is_one: bool) -> None:
    assert is_nested_collection(collection_node("n", "N", [], **changes)) is is_one


@pytest.mark.parametrize("identifier", [None, "", 7, ["do_1"]])
def test_a_node_without_an_id_has_no_column_but_its_children_have(identifier: Any) -> None:
    nameless = self_assess_node("x", "Q") | {"identifier": identifier, "children": [self_assess_node("quiz", "Q")]}
    assert columns(nameless) == [("assessment", "quiz")]


@pytest.mark.parametrize("children", [None, "do_1", {}, [None, "do_1", 7]])
def test_invalid_children_are_skipped(children: Any) -> None:
    assert columns({"identifier": "unit", "children": children}, self_assess_node("quiz", "Q")) == [("assessment", "quiz")]


@pytest.mark.parametrize("stated", [4, 4.0, "4", "004"])
def test_the_leaf_count_is_the_stated_one(stated: Any) -> None:
    assert leaf_count(course(*LESSONS, leafNodesCount=stated)) == 4


@pytest.mark.parametrize("stated", [None, "", "many", "-4", -4, 4.5, True, [4], "४", "4 ", float("nan"), float("inf")])
def test_leaves_are_counted_when_the_stated_count_is_invalid(stated: Any) -> None:
    assert leaf_count(course(*LESSONS, leafNodesCount=stated)) == 3


def test_a_leaf_count_of_nought_is_a_leaf_count() -> None:
    assert leaf_count(course(*LESSONS, leafNodesCount=0)) == 0


@pytest.mark.parametrize(
    ("children", "count"),
    [
        ([], 0),
        ([LESSONS[0], LESSONS[0]], 1),
        ([unit_node("u", "U", LESSONS), LESSONS[0]], 3),
        ([unit_node("u", "U", [])], 0),
        ([collection_node("n", "N", LESSONS)], 3),
        ([question_set_node("q", "Q")], 1),  # its questions are not leaves
        ([{"identifier": "bare"}], 1),
        ([{"identifier": "bare unit", "children": LESSONS}], 3),
        ([{"mimeType": "video/mp4"}], 0),  # without an id
    ],
)
def test_leaves_are_counted_by_different_ids(children: list[Node], count: int) -> None:
    assert leaf_count(course(*children)) == count


def test_a_nested_collection_has_the_leaf_count_of_its_own_subtree() -> None:
    nested = collection_node("nested", "N", LESSONS[:2])
    (part,) = reduce_tree(course(nested, *LESSONS, leafNodesCount=9), COURSE, KINDS, frozenset()).nodes
    assert part.leaf_count == 2


def test_trees_may_be_deeper_than_the_stack() -> None:
    tree = self_assess_node("quiz", "Q")
    for _ in range(5000):
        tree = unit_node("unit", "U", [tree])
    assert sum(1 for _ in walk(tree)) == 5001
    assert columns(tree) == [("assessment", "quiz")]


def test_a_reduced_tree_survives_its_file() -> None:
    nested = collection_node("nested", "இரண்டு \ud800", [self_assess_node("quiz", "=1+1")])
    hierarchy = reduce_tree(course(nested), COURSE, KINDS, frozenset({"b", "a"}))
    assert Hierarchy.from_dict(json.loads(json.dumps(hierarchy.to_dict()))) == hierarchy
    assert hierarchy.nested_ids == ["nested"] and hierarchy.assessment_ids == ["quiz"]


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"tree"', "7", "[" * 100_000, "<html>", "9" * 5000])
def test_an_unreadable_tree_fails_the_request_with_a_clear_message(text: str) -> None:
    with pytest.raises(RequestError, match=r"content tree of collection do_course cannot be read\. Publish the collection again"):
        parse_tree(text, COURSE)
