"""How the rows of a result become Python values: only what the report needs, and text of any bytes."""

import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

from progress_exhaust import compat
from progress_exhaust.hooks.cassandra.models import Row
from progress_exhaust.sql import learner_tables as cql

SCORE, MAX_SCORE, ATTEMPTS_COUNT = "score:", "max_score:", "attempts_count:"  # keys of `aggregates`, before a content id
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def make_protocol_handler() -> Any:
    """Return the protocol handler of our sessions.

    It leaves the maps and lists of an enrolment as bytes: they are only counted, and objects of them cost four times as
    much. It also reads text that is not UTF-8, which Cassandra accepts.
    """
    return compat.make_cassandra_protocol_handler(cql.LEFT_AS_BYTES, repair_text)


def repair_text(data: bytes) -> str:
    """Return the text of any bytes: U+FFFD replaces half a character (a surrogate) and what is not UTF-8."""
    return _SURROGATE.sub("\ufffd".encode(), data).decode(errors="replace")


def decode_archived_scores(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield (user id, content id, best score, maximum score, number of attempts) for each score in the map `aggregates`.

    The last two may be None.
    """
    for user_id, aggregates in rows:
        numbers = {key: value for key, value in (aggregates or {}).items() if value is not None and isfinite(value)}
        for key, score in numbers.items():
            if key.startswith(SCORE):
                content_id = key.removeprefix(SCORE)
                attempts = numbers.get(f"{ATTEMPTS_COUNT}{content_id}")
                most = numbers.get(f"{MAX_SCORE}{content_id}")
                yield user_id, content_id, score, most, int(attempts) if attempts is not None and 0 <= attempts < 2**31 else None
