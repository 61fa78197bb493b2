"""From rows of the sources to a part: the facts of one page of learners, as one Arrow table.

A part holds every learner of the page who is in the report, by the specification's "Who is in it", with facts and not
cells: pivot makes the cells, and may be run again without reading a source.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

import pyarrow as pa

# Fields of the user cache that the report reads; email and phone are never among them.
CELL_FIELDS = ("firstname", "lastname", "state", "district")
USER_FIELDS = (*CELL_FIELDS, "rootorgid", "status")
DELETED = "2"

NESTED = pa.struct([("id", pa.string()), ("completed", pa.float64())])
ATTEMPT = pa.struct(
    [
        ("content_id", pa.string()),
        ("attempt_id", pa.string()),
        ("total_score", pa.float64()),
        ("grand_total", pa.string()),
        ("attempted_at", pa.int64()),  # milliseconds since 1970
    ]
)
PART = pa.schema(
    [
        ("user_id", pa.string()),
        *((field, pa.string()) for field in CELL_FIELDS),
        ("enrolled_at", pa.int64()),  # milliseconds since 1970
        ("enrolled_text", pa.string()),  # where enrolled_at is null
        ("completed_at", pa.int64()),
        ("completed_contents", pa.int32()),
        ("has_certificate", pa.bool_()),
        ("certificate_status", pa.int32()),
        ("nested", pa.list_(NESTED)),
        ("attempts", pa.list_(ATTEMPT)),
    ]
)


class Enrolment(NamedTuple):
    """A learner's enrolment in the batch; times in milliseconds since 1970."""

    user_id: str
    active: bool | None
    enrolled_at: int | None
    enrolled_text: str | None
    completed_at: int | None
    completed_ids: Sequence[str]  # contents with status 2
    has_certificate: bool
    certificate_status: int | None

    @property
    def counts(self) -> bool:
        """Whether this is an enrolment at all: an active one with a date."""
        return bool(self.active) and (self.enrolled_at is not None or bool((self.enrolled_text or "").strip()))


class NestedProgress(NamedTuple):
    """How many contents of a nested collection a learner completed."""

    user_id: str
    collection_id: str
    completed: float | None


class Attempt(NamedTuple):
    """One attempt of a learner at an assessment."""

    user_id: str
    content_id: str
    attempt_id: str
    total_score: float | None
    grand_total: str | None
    attempted_at: int | None  # milliseconds since 1970


def completed_count(aggregates: Mapping[str, float] | None, agg: Mapping[str, int] | None) -> float | None:
    """Return completedCount from the newer column, else from the older one; None where neither has a number."""
    for values in (aggregates, agg):
        count = (values or {}).get("completedCount")
        if count is not None and isfinite(count):
            return count
    return None


User = Mapping[str, str]  # the fields that the user cache has of a user


@dataclass(frozen=True)
class Sources:
    """How a page's facts are read: each takes user ids and answers for all of them at once."""

    users: Callable[[Sequence[str]], Mapping[str, User]]  # without those whom the cache does not know
    nested: Callable[[Sequence[str]], Iterable[NestedProgress]]
    attempts: Callable[[Sequence[str]], Iterable[Attempt]]


@dataclass(frozen=True)
class Rules:
    """What decides who is in the report, for one batch."""

    owned: bool
    channel: str
    optional: frozenset[str]

    def left_out(self, user: User | None) -> str | None:
        """Return why an enrolled learner is not in the report; None for one who is."""
        if self.owned:
            return None
        if user is None:
            return "missing"
        if user.get("rootorgid") != self.channel:
            return "other_org"
        return "deleted" if user.get("status") == DELETED else None


def make_part(page: Sequence[Enrolment], rules: Rules, sources: Sources) -> tuple[pa.Table, Counter[str]]:
    """Read a page's facts; return them in the page's order, and the counts of who is in and who is not.

    Counts: enrolled, missing (from the user cache), reported, and left_out.<reason>.
    """
    counts: Counter[str] = Counter(enrolled=0, reported=0, missing=0)
    enrolled: list[Enrolment] = []
    for enrolment in page:
        if enrolment.counts:
            enrolled.append(enrolment)
        else:
            counts["left_out.no_date" if enrolment.active else "left_out.inactive"] += 1
    counts["enrolled"] += len(enrolled)

    users = sources.users([enrolment.user_id for enrolment in enrolled]) if enrolled else {}
    kept: list[Enrolment] = []
    for enrolment in enrolled:
        user = users.get(enrolment.user_id)
        counts["missing"] += user is None
        reason = rules.left_out(user)
        if reason:
            counts[f"left_out.{reason}"] += 1
        else:
            kept.append(enrolment)
    counts["reported"] += len(kept)

    ids = [enrolment.user_id for enrolment in kept]
    nested: dict[str, list[dict[str, Any]]] = {user_id: [] for user_id in ids}
    attempts: dict[str, list[dict[str, Any]]] = {user_id: [] for user_id in ids}
    if ids:
        for progress in sources.nested(ids):
            if progress.completed is not None:
                nested[progress.user_id].append({"id": progress.collection_id, "completed": progress.completed})
        for attempt in sources.attempts(ids):
            attempts[attempt.user_id].append(attempt._asdict())
    cells = [_shown(users.get(user_id)) for user_id in ids]
    return (
        pa.table(
            {
                "user_id": ids,
                **{field: [user.get(field) for user in cells] for field in CELL_FIELDS},
                "enrolled_at": [enrolment.enrolled_at for enrolment in kept],
                "enrolled_text": [enrolment.enrolled_text for enrolment in kept],
                "completed_at": [enrolment.completed_at for enrolment in kept],
                "completed_contents": [
                    sum(content_id not in rules.optional for content_id in enrolment.completed_ids) for enrolment in kept
                ],
                "has_certificate": [enrolment.has_certificate for enrolment in kept],
                "certificate_status": [enrolment.certificate_status for enrolment in kept],
                "nested": list(nested.values()),
                "attempts": list(attempts.values()),
            },
            schema=PART,
        ),
        counts,
    )


def _shown(user: User | None) -> User:
    return {} if user is None or user.get("status") == DELETED else user


def pages(enrolments: Iterable[Enrolment], size: int) -> Iterator[list[Enrolment]]:
    """Cut a stream of enrolments into pages of at most `size`."""
    stream = iter(enrolments)
    while page := list(islice(stream, size)):
        yield page


def cache_was_flushed(counts: Mapping[str, int], most_missing_percent: float) -> bool:
    """Tell a flushed user cache from a report: too many of a batch of over 100 are missing from it."""
    enrolled = counts.get("enrolled", 0)
    return enrolled > 100 and counts.get("missing", 0) * 100 > most_missing_percent * enrolled
