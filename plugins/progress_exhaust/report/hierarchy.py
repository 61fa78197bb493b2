"""Reduce a collection's tree to what the report needs: its leaf count, and the nodes with a column, in tree order.

The rules are in the specification ("Columns") and in section 5 of the data model. Any field of a node may be missing or have a
wrong type. Only a tree that is not readable at all is an error.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from progress_exhaust.errors import RequestError
from progress_exhaust.report.layout import SURROGATE

COLLECTION = "application/vnd.ekstep.content-collection"

Node = dict[str, Any]


@dataclass(frozen=True)
class AssessmentKinds:
    """The rule for which nodes are assessments: by contentType, or by objectType together with primaryCategory."""

    content_types: tuple[str, ...]
    object_types: tuple[str, ...]
    categories: tuple[str, ...]

    def include(self, node: Node) -> bool:
        return node.get("contentType") in self.content_types or (
            node.get("objectType") in self.object_types and node.get("primaryCategory") in self.categories
        )


@dataclass(frozen=True)
class ColumnNode:
    """A node of the tree that has a column in the report."""

    kind: Literal["nested", "assessment"]
    id: str
    name: str
    leaf_count: int | None = None  # of a nested collection


@dataclass(frozen=True)
class Hierarchy:
    """The part of a collection's tree that the report needs. It is stored in `hierarchy.json`."""

    collection_id: str
    leaf_count: int
    nodes: tuple[ColumnNode, ...]  # depth first, each once
    optional: frozenset[str]  # content ids that do not count towards completion
    states_leaf_count: bool = True  # False: the leaf count was counted from the tree
    content_ids: frozenset[str] = field(kw_only=True)  # of the nodes of the tree other than collections

    @property
    def nested_ids(self) -> list[str]:
        return [node.id for node in self.nodes if node.kind == "nested"]

    @property
    def assessment_ids(self) -> list[str]:
        return [node.id for node in self.nodes if node.kind == "assessment"]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"optional": sorted(self.optional), "content_ids": sorted(self.content_ids)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Hierarchy":
        return cls(
            collection_id=values["collection_id"],
            leaf_count=values["leaf_count"],
            nodes=tuple(ColumnNode(**node) for node in values["nodes"]),
            optional=frozenset(values["optional"]),
            states_leaf_count=values.get("states_leaf_count", True),
            content_ids=frozenset(values["content_ids"]),
        )


def parse_tree(text: str, collection_id: str) -> Node:
    """Read the JSON of a tree. Raises RequestError if it is not a JSON object."""
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        root = None
    if not isinstance(root, dict):
        raise RequestError(f"The content tree of collection {collection_id} cannot be read. Publish the collection again")
    return root


def reduce_tree(root: Node, collection_id: str, kinds: AssessmentKinds, optional: frozenset[str]) -> Hierarchy:
    """Return the collection's leaf count, nested collections, assessments and contents."""
    nodes: dict[tuple[str, str], ColumnNode] = {}
    content_ids: set[str] = set()
    for node in walk(root):
        identifier, name = node.get("identifier"), node.get("name")
        if not isinstance(identifier, str) or not identifier:
            continue
        identifier, name = (SURROGATE.sub("\ufffd", text) if isinstance(text, str) else "" for text in (identifier, name))
        if (node is not root and is_leaf(node)) or kinds.include(node):  # a question set without mimeType has children
            content_ids.add(identifier)
        if node is not root and identifier != collection_id and is_nested_collection(node):
            nodes.setdefault(("nested", identifier), ColumnNode("nested", identifier, name, leaf_count(node)))
        if kinds.include(node):
            nodes.setdefault(("assessment", identifier), ColumnNode("assessment", identifier, name))
    stated = stated_leaf_count(root) is not None
    return Hierarchy(collection_id, leaf_count(root), tuple(nodes.values()), optional, stated, content_ids=frozenset(content_ids))


def is_nested_collection(node: Node) -> bool:
    content_type = node.get("contentType")
    return (
        node.get("mimeType") == COLLECTION
        and node.get("visibility") == "Default"
        and isinstance(content_type, str)
        and content_type.lower() == "course"
    )


def leaf_count(node: Node) -> int:
    """Return the node's leafNodesCount, or count the different leaves in its tree if it does not state one."""
    stated = stated_leaf_count(node)
    if stated is not None:
        return stated
    leaves = (leaf.get("identifier") for leaf in walk(node, below_leaves=False) if leaf is not node and is_leaf(leaf))
    return len({identifier for identifier in leaves if isinstance(identifier, str) and identifier})


def stated_leaf_count(node: Node) -> int | None:
    stated = node.get("leafNodesCount")
    if isinstance(stated, str) and re.fullmatch("[0-9]{1,9}", stated):
        stated = int(stated)
    if isinstance(stated, float) and stated.is_integer():
        stated = int(stated)
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0 else None


def is_leaf(node: Node) -> bool:
    """Return whether a node is content, not a collection. A node without a mimeType is content if it has no children."""
    mime_type = node.get("mimeType")
    return mime_type != COLLECTION if mime_type else not _children(node)


def walk(root: Node, *, below_leaves: bool = True) -> Iterator[Node]:
    """Yield the nodes depth first. This does not recurse, because trees can be deeper than Python's stack."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if below_leaves or node is root or not is_leaf(node):
            waiting.extend(reversed(_children(node)))


def _children(node: Node) -> list[Node]:
    children = node.get("children")
    return [child for child in children if isinstance(child, dict)] if isinstance(children, list) else []
