"""Count in Cassandra's maps and lists without decoding them.

To make objects of the values is the most expensive part of reading an enrolment. A value is its number of elements, then
each element (of a map: key and value) as its length and its bytes. Numbers have 32 bits and are big-endian.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple, Self

_BEFORE_STATUS = b"\0\0\0\4\0\0\0"  # the length of a status, and its first three bytes
_STATUSES = frozenset({b"\0", b"\1", b"\2"})  # the last byte
_COMPLETED = _BEFORE_STATUS + b"\2"
_MAX_SPLIT_BYTES = 2**20  # a longer map is read entry by entry: its parts would take a multiple of its memory


def count_elements(value: bytes | None) -> int:
    """Return how many elements a list or map has; 0 for null."""
    return int.from_bytes(value[:4], "big") if value else 0


@dataclass(frozen=True)
class ContentKeys:
    """The contents of a collection, as a map has them as keys: the length of an id and the id."""

    required: frozenset[bytes]  # they are in the tree and not optional
    known: frozenset[bytes]  # they are in the tree, or optional
    assessments: frozenset[bytes]
    # Keys after the last byte of the status before them: what is between two _BEFORE_STATUS.
    required_parts: frozenset[bytes]
    assessment_parts: frozenset[bytes]

    @classmethod
    def of(cls, content_ids: Iterable[str], optional: Iterable[str], assessment_ids: Iterable[str] = ()) -> Self:
        tree, ignored, assessments = (
            frozenset(_key(one.encode()) for one in ids) for ids in (content_ids, optional, assessment_ids)
        )
        required = tree - ignored
        return cls(required, tree | ignored, assessments, _parts(required), _parts(assessments))


def _parts(keys: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(part for key in keys for status in _STATUSES if _is_plain(part := status + key))


class Completed(NamedTuple):
    """How many contents a learner has completed."""

    required: int = 0
    unknown: int = 0  # neither in the tree nor optional
    assessments: int = 0


def count_completed(statuses: bytes | None, contents: ContentKeys) -> Completed:
    """Return how many contents of a map of statuses (text to int) have status 2.

    The map is cut before the last byte of each status. If each part then is a status of 0, 1 or 2, and the length of an id and an
    id of that length without a NUL, there is no other way to read the map.
    """
    if not statuses:
        return Completed()
    if len(statuses) > _MAX_SPLIT_BYTES:
        return _count_entry_by_entry(statuses, contents)
    listed = b"\0" + statuses[4:]  # as if a status was before the first key
    parts = listed.split(_BEFORE_STATUS)
    afters = parts[1:]  # each starts with the status of the key in the part before
    if len(afters) != count_elements(statuses) or not afters or parts.pop() not in _STATUSES:
        return _count_entry_by_entry(statuses, contents)
    others: list[bytes] = []
    if not contents.required_parts.issuperset(parts):
        if not all(map(_is_plain, set(parts) - contents.required_parts)):
            return _count_entry_by_entry(statuses, contents)
        pairs = zip(parts, afters, strict=True)
        others = [part[1:] for part, after in pairs if after[0] == 2 and part not in contents.required_parts]
    required = listed.count(_COMPLETED) - len(others)
    unknown = sum(key not in contents.known for key in others)
    if not contents.assessments:
        return Completed(required, unknown)
    of_assessments = compress(afters, map(contents.assessment_parts.__contains__, parts))
    return Completed(required, unknown, sum(after[0] == 2 for after in of_assessments))


def _count_entry_by_entry(statuses: bytes, contents: ContentKeys) -> Completed:
    required = unknown = assessments = 0
    for content_id, status in _entries(statuses):
        if status == 2:
            key = _key(content_id)
            required += key in contents.required
            unknown += key not in contents.known
            assessments += key in contents.assessments
    return Completed(required, unknown, assessments)


def _key(content_id: bytes) -> bytes:
    return len(content_id).to_bytes(4, "big") + content_id


def _is_plain(part: bytes) -> bool:
    """Return whether a part is a status, the length of an id, and an id of that length without a NUL."""
    status, content_id = part[:1], part[5:]
    return status in _STATUSES and part[1:] == _key(content_id) and 0 not in content_id


def _entries(statuses: bytes) -> Iterator[tuple[bytes, int]]:
    position = 4

    def next_element() -> bytes:
        nonlocal position
        start = position + 4
        position = start + count_elements(statuses[position:start])
        return statuses[start:position]

    # The number of entries may be wrong: each takes 8 bytes at least.
    for _ in range(min(count_elements(statuses), (len(statuses) - 4) // 8)):
        yield next_element(), int.from_bytes(next_element(), "big", signed=True)
