"""From rows of the sources to a part: the facts of one page of learners, as one Arrow table.

A part holds every learner of the page who is in the report, by the specification's "Who is in it", with facts and not
cells: pivot makes the cells, and may be run again without reading a source.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from progress_exhaust.report import cql_values

# Arrow's own pools keep some 50 MB more than they use, and are no faster here.
pa.set_memory_pool(pa.system_memory_pool())

COUNTS = b"counts"  # key of a Parquet file's metadata

ORG_FIELDS = ("rootorgid", "status")  # of the user cache: they decide who is in the report
DELETED = "2"

# An Enrolment.
ENROLMENT = pa.schema(
    [
        ("user_id", pa.string()),
        ("active", pa.bool_()),
        ("enrolled_at", pa.int64()),
        ("enrolled_text", pa.string()),
        ("completed_at", pa.int64()),
        ("content_statuses", pa.binary()),
        ("certificates", pa.binary()),
        ("issued_certificates", pa.binary()),
        ("certificate_status", pa.int64()),
    ]
)
# What an enrolled learner's enrolment says; instants in milliseconds since 1970.
ENROLLED = pa.schema(
    [
        ("user_id", pa.string()),
        ("enrolled_at", pa.int64()),
        ("enrolled_text", pa.string()),  # where enrolled_at is null
        ("completed_at", pa.int64()),
        ("completed_contents", pa.int32()),
        ("has_certificate", pa.bool_()),
        ("certificate_status", pa.int64()),
    ]
)
# What belongs to him, one row each. A part is ENROLLED, `user.<field>` of the cache, and a list of each of these two.
NESTED_PROGRESS = pa.schema([("user_id", pa.string()), ("id", pa.string()), ("completed", pa.float64())])
ATTEMPTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("content_id", pa.string()),
        ("attempt_id", pa.string()),
        ("total_score", pa.float64()),
        ("grand_total", pa.string()),
        ("attempted_at", pa.int64()),
        ("total_max_score", pa.float64()),
    ]
)

ROWS_OF = {"enrolments": ENROLMENT, "user_activity_agg": NESTED_PROGRESS, "assessment_aggregator": ATTEMPTS}

BatchKey = tuple[str, str]  # collection id, batch id


class Enrolment(NamedTuple):
    """A learner's enrolment in the batch; times in milliseconds since 1970, map and lists as Cassandra sends them."""

    user_id: str
    active: bool | None
    enrolled_at: int | None
    enrolled_text: str | None
    completed_at: int | None
    content_statuses: bytes | None  # map<text, int>
    certificates: bytes | None  # list
    issued_certificates: bytes | None  # list
    certificate_status: int | None

    @property
    def counts(self) -> bool:
        """Whether this is an enrolment at all: an active one with a date."""
        return bool(self.active) and (self.enrolled_at is not None or bool((self.enrolled_text or "").strip()))

    @property
    def has_certificate(self) -> bool:
        return bool(cql_values.size(self.certificates) or cql_values.size(self.issued_certificates))


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
    nested: Callable[[Sequence[str]], pa.Table]  # NESTED_PROGRESS; may hold other learners' rows
    attempts: Callable[[Sequence[str]], pa.Table]  # ATTEMPTS; may hold other learners' rows


@dataclass(frozen=True)
class Rules:
    """What decides who is in the report, for one batch, and which fields of the user cache its columns show."""

    owned: bool
    channel: str
    user_fields: tuple[str, ...]
    cached_only: bool = False  # leave out those whom the user cache lacks, whoever asks

    def left_out(self, user: User | None) -> str | None:
        """Return why an enrolled learner is not in the report; None for one who is."""
        if user is None and (self.cached_only or not self.owned):
            return "missing"
        if user is None or self.owned:
            return None
        if user.get("rootorgid") != self.channel:
            return "other_org"
        return "deleted" if user.get("status") == DELETED else None


def enrolled_page(page: Sequence[Enrolment], optional: frozenset[str]) -> tuple[pa.Table, Counter[str]]:
    """Return the enrolments of a page that count (ENROLLED), in its order, and how many there are and are not.

    optional: contents that do not count towards completion.
    """
    counts: Counter[str] = Counter(enrolled=0)
    enrolled: list[Enrolment] = []
    for enrolment in page:
        if enrolment.counts:
            enrolled.append(enrolment)
        else:
            counts["excluded.no_date" if enrolment.active else "excluded.inactive"] += 1
    counts["enrolled"] = len(enrolled)
    not_counted = [cql_values.completed_entry(content_id) for content_id in optional]
    completed = [cql_values.completed_contents(enrolment.content_statuses, not_counted) for enrolment in enrolled]
    table = pa.table(
        {
            "user_id": [enrolment.user_id for enrolment in enrolled],
            "enrolled_at": [enrolment.enrolled_at for enrolment in enrolled],
            "enrolled_text": [enrolment.enrolled_text for enrolment in enrolled],
            "completed_at": [enrolment.completed_at for enrolment in enrolled],
            "completed_contents": completed,
            "has_certificate": [enrolment.has_certificate for enrolment in enrolled],
            "certificate_status": [enrolment.certificate_status for enrolment in enrolled],
        },
        schema=ENROLLED,
    )
    return table, counts


def make_part(enrolled: pa.Table, rules: Rules, sources: Sources) -> tuple[pa.Table, Counter[str]]:
    """Read the facts of a page of enrolled learners; return the reported ones' in the page's order, and counts.

    Counts: missing (from the user cache), reported, and excluded.<reason>.
    """
    counts: Counter[str] = Counter(reported=0, missing=0)
    ids = enrolled["user_id"].to_pylist()
    users = sources.users(ids) if ids else {}
    kept: list[bool] = []
    for user_id in ids:
        user = users.get(user_id)
        counts["missing"] += user is None
        reason = rules.left_out(user)
        if reason:
            counts[f"excluded.{reason}"] += 1
        kept.append(reason is None)
    part = enrolled.filter(pa.array(kept, pa.bool_()))
    ids = part["user_id"].to_pylist()
    counts["reported"] = len(ids)
    shown = [_shown(users.get(user_id)) for user_id in ids]
    for field in rules.user_fields:
        part = part.append_column(f"user.{field}", pa.array([user.get(field) for user in shown], pa.string()))
    nested = sources.nested(ids) if ids else NESTED_PROGRESS.empty_table()
    attempts = sources.attempts(ids) if ids else ATTEMPTS.empty_table()
    part = part.append_column("nested", _by_learner(nested, part["user_id"]))
    return part.append_column("attempts", _by_learner(attempts, part["user_id"])), counts


def table_of(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def to_parquet(table: pa.Table, counts: Mapping[str, int]) -> bytes:
    """Return a page or part as a Parquet file that knows its counts."""
    target = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({COUNTS: json.dumps(counts)}), target)
    return target.getvalue()


def from_parquet(file: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(file))


def attempted_contents(parts: Iterable[Path]) -> frozenset[str]:
    """Return the ids of all contents that a learner of the parts tried, and read nothing else of them."""
    found: set[str] = set()
    for path in parts:
        with path.open("rb") as source:
            attempts = pq.ParquetFile(source).read(["attempts.list.element.content_id"])["attempts"]
        found.update(pc.unique(pc.struct_field(pc.list_flatten(attempts), 0)).to_pylist())
    return frozenset(found)


def counts_of(path: Path) -> Counter[str]:
    """Return the counts of a page or part."""
    with path.open("rb") as source:
        return Counter(json.loads(pq.read_schema(source).metadata[COUNTS]))


def _by_learner(rows: pa.Table, user_ids: pa.ChunkedArray) -> pa.ListArray:
    """Return, for each of these users in their order, the list of his rows, without the user id."""
    places = pc.index_in(rows["user_id"], value_set=user_ids.combine_chunks()).combine_chunks()
    learner = places.drop_null().to_numpy()
    items = rows.drop_columns("user_id").filter(places.is_valid()).take(np.argsort(learner, kind="stable"))
    ends = np.bincount(learner, minlength=len(user_ids)).cumsum()
    structs = pa.StructArray.from_arrays([column.combine_chunks() for column in items.columns], fields=list(items.schema))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), structs)


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
