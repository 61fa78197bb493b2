"""Count in Cassandra's maps and lists without decoding them.

To make objects of the values is the most expensive part of reading an enrolment. A value is its number of elements, then
each element (of a map: key and value) as its length and its bytes. Numbers have 32 bits and are big-endian.
"""

from collections.abc import Iterator, Sequence

_INT_LENGTH = b"\0\0\0\4"
_NOT_STARTED, _STARTED, _COMPLETED = (_INT_LENGTH + status.to_bytes(4, "big") for status in range(3))
_STATUS_FOUR = _INT_LENGTH + _INT_LENGTH


def count_elements(value: bytes | None) -> int:
    """Return how many elements a list or map has; 0 for null."""
    return int.from_bytes(value[:4], "big") if value else 0


def completed_entry(content_id: str) -> bytes:
    """Return the bytes of this content's entry in a map of statuses (text to int) if the content is completed."""
    return _encode_text(content_id) + _COMPLETED


def count_completed(statuses: bytes | None, ignored_entries: Sequence[bytes]) -> int:
    """Return how many contents of a map of statuses (text to int) have status 2.

    :param statuses: the map
    :param ignored_entries: `completed_entry` of the contents that do not count
    """
    if not statuses:
        return 0
    if not _is_unambiguous(statuses):
        entries = (completed_entry(content_id) for content_id, status in _entries(statuses) if status == 2)
        return sum(entry not in ignored_entries for entry in entries)
    listed = statuses[4:]
    return listed.count(_COMPLETED) - sum(entry in listed for entry in ignored_entries)


def _is_unambiguous(statuses: bytes) -> bool:
    """Return whether the bytes of a status can be searched for.

    They can if every status is 0, 1 or 2 and no content id has a NUL: then an entry's bytes occur nowhere else.
    """
    listed = statuses[4:]
    not_started, others = listed.count(_NOT_STARTED), listed.count(_STARTED) + listed.count(_COMPLETED)
    entries = not_started + others
    # Zero bytes in the numbers: three in each length and in each status, but four in status 0.
    zeros = 6 * entries + 4 * not_started + 3 * others
    return entries == count_elements(statuses) and listed.count(0) == zeros and _STATUS_FOUR not in listed


def _entries(statuses: bytes) -> Iterator[tuple[str, int]]:
    position = 4

    def next_element() -> bytes:
        nonlocal position
        start = position + 4
        position = start + count_elements(statuses[position:start])
        return statuses[start:position]

    for _ in range(count_elements(statuses)):
        yield next_element().decode(), int.from_bytes(next_element(), "big", signed=True)


def _encode_text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded
