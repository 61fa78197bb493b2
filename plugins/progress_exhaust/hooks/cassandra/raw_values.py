"""Count in Cassandra's maps and lists without decoding them.

To make objects of the values is the most expensive part of reading an enrolment. A value is its number of elements, then
each element (of a map: key and value) as its length and its bytes. Numbers have 32 bits and are big-endian.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

_INT_LENGTH = b"\0\0\0\4"
_NOT_STARTED, _STARTED, _COMPLETED = (_INT_LENGTH + status.to_bytes(4, "big") for status in range(3))
_STATUS_FOUR = _INT_LENGTH + _INT_LENGTH
_MAX_SPLIT_BYTES = 2**20  # a longer map is read entry by entry: its parts would take a multiple of its memory


def count_elements(value: bytes | None) -> int:
    """Return how many elements a list or map has; 0 for null."""
    return int.from_bytes(value[:4], "big") if value else 0


@dataclass(frozen=True)
class ContentKeys:
    """The contents of a collection, as `content_key` writes their ids."""

    required: frozenset[bytes]  # they are in the tree and not optional
    known: frozenset[bytes]  # they are in the tree, or optional
    assessments: frozenset[bytes]

    @classmethod
    def of(cls, content_ids: Iterable[str], optional: Iterable[str], assessment_ids: Iterable[str] = ()) -> Self:
        tree, ignored, assessments = (frozenset(map(content_key, ids)) for ids in (content_ids, optional, assessment_ids))
        return cls(tree - ignored, tree | ignored, assessments)


def content_key(content_id: str) -> bytes:
    """Return an id as it ends before its status in a map: what follows the last NUL of its length and its text.

    Different ids have different keys: a part of the length stays in the key. An id with a NUL in it keeps all of its length.
    """
    return _key_of(content_id.encode())


def _key_of(content_id: bytes) -> bytes:
    key = len(content_id).to_bytes(4, "big") + content_id
    return key if b"\0" in content_id else key.rpartition(b"\0")[2]


class Completed(NamedTuple):
    """How many contents a learner has completed."""

    required: int = 0
    unknown: int = 0  # neither in the tree nor optional
    assessments: int = 0


def count_completed(statuses: bytes | None, contents: ContentKeys) -> Completed:
    """Return how many contents of a map of statuses (text to int) have status 2."""
    if not statuses:
        return Completed()
    listed = statuses[4:]
    parts = listed.split(_COMPLETED) if len(listed) <= _MAX_SPLIT_BYTES else []
    if not parts or not _is_unambiguous(listed, count_elements(statuses), completed=len(parts) - 1):
        return _count_entry_by_entry(statuses, contents)
    parts.pop()  # each of the others ends with the key of a completed content
    keys = [part.rpartition(b"\0")[2] for part in parts]
    required = len(contents.required.intersection(keys))
    unknown = 0 if required == len(keys) else len(keys) - len(contents.known.intersection(keys))
    assessments = len(contents.assessments.intersection(keys)) if contents.assessments else 0
    return Completed(required, unknown, assessments)


def _count_entry_by_entry(statuses: bytes, contents: ContentKeys) -> Completed:
    required = unknown = assessments = 0
    for content_id, status in _entries(statuses):
        if status == 2:
            key = _key_of(content_id)
            required += key in contents.required
            unknown += key not in contents.known
            assessments += key in contents.assessments
    return Completed(required, unknown, assessments)


def _is_unambiguous(listed: bytes, elements: int, *, completed: int) -> bool:
    """Return whether the bytes of a status can be searched for in the entries of a map.

    They can if every status is 0, 1 or 2 and no content id has a NUL: then an entry's bytes occur nowhere else.

    :param completed: how often the bytes of status 2 occur
    """
    not_started, others = listed.count(_NOT_STARTED), listed.count(_STARTED) + completed
    entries = not_started + others
    # Zero bytes in the numbers: three in each length and in each status, but four in status 0.
    zeros = 6 * entries + 4 * not_started + 3 * others
    return entries == elements and listed.count(0) == zeros and _STATUS_FOUR not in listed


def _entries(statuses: bytes) -> Iterator[tuple[bytes, int]]:
    position = 4

    def next_element() -> bytes:
        nonlocal position
        start = position + 4
        position = start + count_elements(statuses[position:start])
        return statuses[start:position]

    for _ in range(count_elements(statuses)):
        yield next_element(), int.from_bytes(next_element(), "big", signed=True)
