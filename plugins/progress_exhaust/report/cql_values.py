"""Cassandra's maps and lists, counted as they come: to make objects of them is the dearest part of reading an enrolment.

A value is its number of elements, then each element (of a map: key and value) as its length and its bytes; numbers are
32 bits, big endian.
"""

from collections.abc import Iterator, Sequence

_INT = b"\0\0\0\4"  # the length of an int
_NOT_STARTED, _STARTED, _COMPLETED = (_INT + status.to_bytes(4, "big") for status in range(3))
_FOUR = _INT + _INT


def size(value: bytes | None) -> int:
    """Return how many elements a list or map has; none has 0."""
    return int.from_bytes(value[:4], "big") if value else 0


def completed_entry(content_id: str) -> bytes:
    """Return what a map of statuses (text to int) holds where this content is completed."""
    return _text(content_id) + _COMPLETED


def completed_contents(statuses: bytes | None, not_counted: Sequence[bytes]) -> int:
    """Return how many contents of a map of statuses (text to int) have status 2.

    not_counted: completed_entry of those that do not count
    """
    if not statuses:
        return 0
    if not _is_plain(statuses):
        entries = (completed_entry(content_id) for content_id, status in _entries(statuses) if status == 2)
        return sum(entry not in not_counted for entry in entries)
    listed = statuses[4:]
    return listed.count(_COMPLETED) - sum(entry in listed for entry in not_counted)


def _is_plain(statuses: bytes) -> bool:
    """Tell whether every status is 0, 1 or 2 and no content id has a NUL, so that an entry's bytes stand nowhere else."""
    listed = statuses[4:]
    not_started, others = listed.count(_NOT_STARTED), listed.count(_STARTED) + listed.count(_COMPLETED)
    entries = not_started + others
    # Zero bytes of the numbers: three of each length and of each status but 0, which has four.
    zeros = 6 * entries + 4 * not_started + 3 * others
    return entries == size(statuses) and listed.count(0) == zeros and _FOUR not in listed


def _entries(statuses: bytes) -> Iterator[tuple[str, int]]:
    at = 4

    def element() -> bytes:
        nonlocal at
        start = at + 4
        at = start + size(statuses[at:start])
        return statuses[start:at]

    for _ in range(size(statuses)):
        yield element().decode(), int.from_bytes(element(), "big", signed=True)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded
