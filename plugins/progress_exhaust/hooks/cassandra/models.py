"""What the Cassandra hook takes and returns. This module imports no driver."""

from enum import StrEnum
from typing import Any, NamedTuple

BatchKey = tuple[str, str]  # collection id, batch id
TokenRange = tuple[int, int]  # first and last token, both included
Row = tuple[Any, ...]
MAX_KEY_BYTES = 65_535  # of a partition key with the lengths and ends of its parts: Cassandra has no longer key


def context_id(batch_id: str) -> str:
    """Return the `context_id` of a batch's aggregates."""
    return f"cb:{batch_id}"


class TableSize(NamedTuple):
    """The size of a table, by the cluster's estimate; 0 if not known."""

    partitions: int
    bytes: int


class Table(StrEnum):
    """The tables that are read for the learners of a batch. The values are used in logs and folder names."""

    ENROLMENTS = "enrolments"
    AGGREGATES = "user_activity_agg"  # nested progress: contents completed per learner and collection
    ATTEMPTS = "assessment_aggregator"  # assessment attempts


def tables_of(scores_from: str) -> list[Table]:
    """Return the tables that are read if scores come from here: `attempts` or `aggregates`."""
    return [table for table in Table if table is not Table.ATTEMPTS or scores_from == "attempts"]


class Enrolment(NamedTuple):
    """A learner's enrolment in a batch. Times are in milliseconds since 1970; maps and lists are Cassandra's bytes."""

    user_id: str
    active: bool | None
    enrolled_at: int | None
    enrolled_text: str | None
    completed_at: int | None
    content_statuses: bytes | None  # map<text, int>
    certificates: bytes | None  # list
    issued_certificates: bytes | None  # list
    certificate_status: int | None
