"""A collection's tree, reduced to what the report needs: its leaf count and its dynamic columns in tree order.

The rules are the specification's ("Columns") and the data model's section 5. Any field of a node may be missing or of
a wrong type; only a tree that is none at all is an error.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from progress_exhaust.errors import RequestError
from progress_exhaust.report.layout import SURROGATE

COLLECTION = "application/vnd.ekstep.content-collection"

Node = dict[str, Any]


@dataclass(frozen=True)
class AssessmentKinds:
    """Which nodes are assessments: by contentType, or by objectType together with primaryCategory."""

    content_types: tuple[str, ...]
    object_types: tuple[str, ...]
    categories: tuple[str, ...]

    def include(self, node: Node) -> bool:
        return node.get("contentType") in self.content_types or (
            node.get("objectType") in self.object_types and node.get("primaryCategory") in self.categories
        )


@dataclass(frozen=True)
class Part:
    """A node with a column of its own."""

    kind: Literal["nested", "assessment"]
    id: str
    name: str
    leaf_count: int | None = None  # of a nested collection


@dataclass(frozen=True)
class Hierarchy:
    """What the report needs of a collection's tree; `hierarchy.json` holds it."""

    collection_id: str
    leaf_count: int
    parts: tuple[Part, ...]  # depth first, each once
    optional: frozenset[str]  # content ids that do not count towards completion
    states_leaf_count: bool = True  # False: it was counted from the tree

    @property
    def nested_ids(self) -> list[str]:
        return [part.id for part in self.parts if part.kind == "nested"]

    @property
    def assessment_ids(self) -> list[str]:
        return [part.id for part in self.parts if part.kind == "assessment"]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"optional": sorted(self.optional)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Hierarchy":
        return cls(
            collection_id=values["collection_id"],
            leaf_count=values["leaf_count"],
            parts=tuple(Part(**part) for part in values["parts"]),
            optional=frozenset(values["optional"]),
            states_leaf_count=values.get("states_leaf_count", True),
        )


def parse_tree(text: str, collection_id: str) -> Node:
    """Read a tree's JSON; raises RequestError where it is none."""
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        root = None
    if not isinstance(root, dict):
        raise RequestError(f"Collection {collection_id} has a content tree that cannot be read; publish it again")
    return root


def reduce_tree(root: Node, collection_id: str, kinds: AssessmentKinds, optional: frozenset[str]) -> Hierarchy:
    """Find the collection's leaf count, nested collections and assessments."""
    parts: dict[tuple[str, str], Part] = {}
    for node in walk(root):
        identifier, name = node.get("identifier"), node.get("name")
        if not isinstance(identifier, str) or not identifier:
            continue
        identifier, name = (SURROGATE.sub("\ufffd", text) if isinstance(text, str) else "" for text in (identifier, name))
        if node is not root and identifier != collection_id and is_nested_collection(node):
            parts.setdefault(("nested", identifier), Part("nested", identifier, name, leaf_count(node)))
        if kinds.include(node):
            parts.setdefault(("assessment", identifier), Part("assessment", identifier, name))
    stated = stated_leaf_count(root) is not None
    return Hierarchy(collection_id, leaf_count(root), tuple(parts.values()), optional, stated)


def is_nested_collection(node: Node) -> bool:
    content_type = node.get("contentType")
    return (
        node.get("mimeType") == COLLECTION
        and node.get("visibility") == "Default"
        and isinstance(content_type, str)
        and content_type.lower() == "course"
    )


def leaf_count(node: Node) -> int:
    """Return the node's leafNodesCount, else the number of different leaves in its tree."""
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
    """Tell content from collections: a node without a mimeType is content where nothing is below it."""
    mime_type = node.get("mimeType")
    return mime_type != COLLECTION if mime_type else not _children(node)


def walk(root: Node, *, below_leaves: bool = True) -> Iterator[Node]:
    """Yield the nodes depth first, without recursion: trees go deeper than Python's stack."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if below_leaves or node is root or not is_leaf(node):
            waiting.extend(reversed(_children(node)))


def _children(node: Node) -> list[Node]:
    children = node.get("children")
    return [child for child in children if isinstance(child, dict)] if isinstance(children, list) else []
