"""A tree's leaf count, nested collections and assessments: the data model's section 5."""

import json
from typing import Any

import pytest

from progress_exhaust.errors import RequestError
from progress_exhaust.report.hierarchy import COLLECTION, AssessmentKinds, Hierarchy, leaf_count, parse_tree, reduce_tree

KINDS = AssessmentKinds(("SelfAssess",), ("QuestionSet",), ("Practice Question Set",))


def course(identifier: str, *children: Any, **more: Any) -> dict[str, Any]:
    node = {"identifier": identifier, "name": f"Name of {identifier}", "mimeType": COLLECTION, "children": list(children)}
    return node | {"contentType": "Course", "visibility": "Default"} | more


def unit(identifier: str, *children: Any) -> dict[str, Any]:
    return course(identifier, *children, contentType="CourseUnit", visibility="Parent")


def leaf(identifier: str, **more: Any) -> dict[str, Any]:
    return {"identifier": identifier, "mimeType": "video/mp4", "contentType": "Resource"} | more


def parts(root: dict[str, Any]) -> list[tuple[str, str]]:
    return [(part.kind, part.id) for part in reduce_tree(root, "root", KINDS, frozenset()).parts]


def test_columns_come_in_tree_order_depth_first_each_once() -> None:
    quiz, practice = (
        leaf("quiz", contentType="SelfAssess"),
        leaf("set", objectType="QuestionSet", primaryCategory="Practice Question Set"),
    )
    inner = course("inner", practice)
    root = course("root", unit("unit", course("outer", quiz, inner)), quiz, inner, leaf("other", contentType="SelfAssess"))
    assert parts(root) == [
        ("nested", "outer"), ("assessment", "quiz"), ("nested", "inner"), ("assessment", "set"), ("assessment", "other"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "is_nested"),
    [
        (course("n"), True),
        (course("n", contentType="course"), True),
        (course("n", contentType="CourseUnit"), False),
        (course("n", visibility="Parent"), False),
        (course("n", mimeType="video/mp4"), False),
        (course("root"), False),
        ({"identifier": "n", "mimeType": COLLECTION, "contentType": "Course"}, False),
    ],
)
def test_a_nested_collection_is_a_visible_course_below_the_root(node: dict[str, Any], is_nested: bool) -> None:
    assert (("nested", node["identifier"]) in parts(course("root", node))) == is_nested


@pytest.mark.parametrize(
    ("more", "is_assessment"),
    [
        ({"contentType": "SelfAssess"}, True),
        ({"objectType": "QuestionSet", "primaryCategory": "Practice Question Set"}, True),
        ({"objectType": "QuestionSet", "primaryCategory": "Exam"}, False),
        ({"objectType": "Content", "primaryCategory": "Practice Question Set"}, False),
        ({"contentType": "selfassess"}, False),
    ],
)
def test_an_assessment_is_told_by_its_type(more: dict[str, Any], is_assessment: bool) -> None:
    assert (("assessment", "a") in parts(course("root", leaf("a", **more)))) == is_assessment


@pytest.mark.parametrize(
    ("stated", "counted"), [(7, 7), ("7", 7), (7.0, 7), (0, 0), (-1, 2), ("many", 2), (None, 2), (True, 2), (7.5, 2)]
)
def test_a_leaf_count_that_is_missing_or_none_is_counted_from_the_tree(stated: Any, counted: int) -> None:
    assert leaf_count(course("root", unit("u", leaf("a"), leaf("b")), leaf("a"), leafNodesCount=stated)) == counted


def test_nothing_below_a_leaf_counts_and_a_node_without_type_is_one_where_nothing_is_below_it() -> None:
    question_set = leaf("set", children=[leaf("question 1"), leaf("question 2")])
    untyped = [{"identifier": "x"}, {"identifier": "y", "children": [leaf("z")]}, {"mimeType": "video/mp4"}]
    assert leaf_count(course("root", question_set, *untyped)) == 3


@pytest.mark.parametrize("children", [None, "none", 7, [None, 3, "x"]])
def test_children_of_a_wrong_type_are_none(children: Any) -> None:
    assert parts(course("root") | {"children": children}) == []


def test_a_tree_deeper_than_pythons_stack_is_read() -> None:
    node = leaf("quiz", contentType="SelfAssess")
    for level in range(5000):
        node = unit(f"u{level}", node)
    assert parts(course("root", node)) == [("assessment", "quiz")]


@pytest.mark.parametrize("text", ["", "no json", "[1]", "null", "[" * 100_000])
def test_a_tree_that_is_none_fails_the_request_in_words(text: str) -> None:
    with pytest.raises(RequestError, match="do_1 has a content tree that cannot be read"):
        parse_tree(text, "do_1")


def test_what_is_left_in_staging_is_what_comes_back() -> None:
    hierarchy = reduce_tree(
        course("root", course("n", leaf("q", contentType="SelfAssess"))), "root", KINDS, frozenset({"b", "a"})
    )
    assert Hierarchy.from_dict(json.loads(json.dumps(hierarchy.to_dict()))) == hierarchy
