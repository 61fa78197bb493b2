"""Collections as bytes, as Cassandra stores them: a length before each element. No driver is needed."""

import struct
from collections.abc import Iterable, Mapping, Sequence


def cql_map(statuses: Mapping[str, int] | None) -> bytes | None:
    """Return a map<text, int>."""
    if statuses is None:
        return None
    return _collection(len(statuses), (part for key, value in statuses.items() for part in (key.encode(), _int(value))))


def cql_list(certificates: Sequence[Mapping[str, str]] | None) -> bytes | None:
    """Return a list<frozen<map<text, text>>>."""
    if certificates is None:
        return None
    return _collection(len(certificates), map(_text_map, certificates))


def _text_map(texts: Mapping[str, str]) -> bytes:
    return _collection(len(texts), (text.encode() for pair in texts.items() for text in pair))


def _collection(count: int, parts: Iterable[bytes]) -> bytes:
    return _int(count) + b"".join(_int(len(part)) + part for part in parts)


def _int(value: int) -> bytes:
    return struct.pack(">i", value)
