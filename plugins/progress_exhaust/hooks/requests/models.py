"""The words, rows and selections of the requests, the claims and the ledger. This module imports no driver."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from progress_exhaust.report.request import JOB_ID, MAX_FAILURES, Batch, JobRequest, object_key_ending

Key = tuple[str, str]  # tag, request id


class RequestStatus(StrEnum):
    """The status of a request, as requesters see it in job_request."""

    SUBMITTED = "SUBMITTED"  # waits for a run
    PROCESSING = "PROCESSING"  # a run holds it
    SUCCESS = "SUCCESS"  # every batch is published
    FAILED = "FAILED"  # a run could not complete it


class Stage(StrEnum):
    """What a batch goes through in a run."""

    LIST_BATCHES = "list_batches"
    FETCH_HIERARCHY = "fetch_hierarchy"
    EXTRACT = "extract"
    PIVOT = "pivot"
    PACKAGE = "package"
    MARK_COMPLETE = "mark_complete"


BATCH_STAGES = tuple(stage for stage in Stage if stage is not Stage.LIST_BATCHES)


class BatchState(StrEnum):
    """The state of a batch in a run."""

    WAITING = "waiting"  # listed; no stage has started
    RUNNING = "running"  # a stage runs, or the next one is due
    DONE = "done"  # published, and entered in its request
    DEFERRED = "deferred"  # a limit was reached: the next run makes it
    REJECTED = "rejected"  # permanent: the request asks for something that cannot be made
    FAILED = "failed"  # an attempt of a stage failed


TERMINAL_STATES = frozenset({BatchState.DONE, BatchState.DEFERRED, BatchState.REJECTED})


class ClaimOutcome(StrEnum):
    """How the work of a run on a request ended."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    SUBMITTED = "SUBMITTED"  # requeued for the next run
    LOST = "lost"  # the run ended without an outcome, or the row was deleted
    RELEASED = "released"  # a person released it, for another installation
    CANCELLED = "cancelled"  # a person cancelled the request


# The count that has the size of a package that exceeded the bytes of its org.
DEFERRED_BYTES = "deferred_bytes"

# What SQL statements name in braces, in addition to the table and the schema: each value is written once, above.
SQL_VALUES = {
    "status": RequestStatus,
    "stage": Stage,
    "state": BatchState,
    "outcome": ClaimOutcome,
    "job_id": JOB_ID,
    "max_failures": MAX_FAILURES,
    "deferred_bytes": DEFERRED_BYTES,
}

# The counts that report the progress of a running stage.
PROGRESS_KEYS = ("percent", "learners_done", "learners_per_second", "seconds_left")

# A request with a permanent error has the outcome FAILED, and is counted apart: only its requester can correct it.
REJECTED = "rejected"

# How many requests ended how, in one call: by ClaimOutcome, or REJECTED.
Ended = Counter[str]


@dataclass(frozen=True)
class Holder:
    """The run that holds a request."""

    tag: str
    request_id: str
    installation: str
    run_id: str
    claimed_at: datetime
    is_ours: bool  # a run of this installation

    def __str__(self) -> str:
        return f"run {self.run_id}{'' if self.is_ours else f' of {describe_other(self.installation, self.claimed_at)}'}"


def describe_other(installation: str, since: datetime) -> str:
    """Return how messages and the page name another installation."""
    return f"another installation {short_installation(installation)}, since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def short_installation(installation: str) -> str:
    """Return the first characters of an installation's id, as its folder in staging has them."""
    return installation[:12] or "unknown"


@dataclass(frozen=True)
class LostClaim:
    """A claim of an ended run that was released."""

    run_id: str
    tag: str
    request_id: str


@dataclass(frozen=True)
class ReleasedClaim:
    """How a run has ended its work on a request."""

    request_id: str
    outcome: str  # a ClaimOutcome
    permanent: bool  # no run tries the request again


@dataclass(frozen=True)
class Claimed:
    """What a claim came to."""

    requests: list[JobRequest]  # all that the run holds now, the oldest first
    ended: Ended  # requests that get no further attempt
    lost: list[LostClaim]  # claims of ended runs that were released for it


@dataclass(frozen=True)
class BatchRun:
    """What the ledger says about one batch in one run."""

    tag: str
    request_id: str
    batch_id: str
    collection_id: str
    channel: str
    stage: Stage
    state: BatchState
    counts: Mapping[str, int]
    seconds: Mapping[str, float]  # per stage
    size_bytes: int | None
    object_key: str | None
    error: str | None
    permanent: bool  # no retry fixes the error: the request asks for too much, or an operator must correct the installation

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "BatchRun":
        tag, request_id, batch_id, collection_id, channel, stage, state, *rest = row
        return cls(tag, request_id, batch_id, collection_id, channel, Stage(stage), BatchState(state), *rest)

    @property
    def batch(self) -> Batch:
        return Batch(self.tag, self.request_id, self.channel, self.batch_id, self.collection_id)


@dataclass(frozen=True)
class Selection:
    """Which requests a run may claim."""

    most: int
    day: date  # of the run's reports: `force` adds its finished requests
    abandoned_before: datetime  # PROCESSING requests that no run of ours holds are free if they were submitted before this
    request_ids: Sequence[str] = ()  # only these; empty: all
    batch_number: int | None = None  # only this part of the queue
    channels: Sequence[str] = ()  # only those of these requesting orgs; empty: all
    submitted_before: datetime | None = None
    ended_runs: Sequence[str] = ()  # runs that hold requests although they have ended
    force: bool = False
    first_run: str | None = None  # of a chain of next runs: what the chain has claimed and could not make is for another run

    def values(self) -> dict[str, Any]:
        """Return the parameters of the statements. The timestamps of job_request are UTC without a zone."""
        return {
            "most": self.most,
            "day_ending": object_key_ending(self.day),
            "abandoned_before": _naive_utc(self.abandoned_before),
            "request_ids": list(self.request_ids) or None,
            "batch_number": self.batch_number,
            "channels": list(self.channels) or None,
            "submitted_before": self.submitted_before and _naive_utc(self.submitted_before),
            "ended_runs": list(self.ended_runs),
            "force": self.force,
            "first_run": self.first_run,
        }


@dataclass(frozen=True)
class NamedRow:
    """A row of job_request that a run names, and what may keep the run from claiming it."""

    request_id: str
    job_id: str
    status: str | None
    failures: int
    channel: str | None
    in_channels: bool  # the settings channels and batch_number do not exclude it
    in_batch_number: bool
    in_time: bool  # it was submitted before the end of the day of a backfill
    claimed_by_this_run: bool  # now, or before the run was cleared
    cancelled: bool  # a person has cancelled it; it may have been submitted again since

    @property
    def is_of_this_job(self) -> bool:
        return self.job_id == JOB_ID


def parse_job_request(row: Sequence[Any]) -> JobRequest:
    """Read a row of job_request: tag, id, data, requester, channel, encryption key, processed batches."""
    tag, request_id, data, requested_by, channel, encryption_key, processed = row
    return JobRequest(
        tag=tag,
        request_id=request_id,
        request_data=data or "",
        requested_by=requested_by or "",
        requested_channel=channel or "",
        encryption_key=encryption_key or None,
        processed=tuple(parse_processed(processed)),
    )


def parse_processed(text: str | None) -> list[Mapping[str, Any]]:
    """Read processed_batches, which any program may have written; skip every entry whose file we cannot offer again."""
    try:
        entries = json.loads(text or "[]")
        json.dumps(entries, allow_nan=False)  # 1e999 is read as infinite, and could not be written again
    except (ValueError, RecursionError):
        return []
    return [entry for entry in entries if _has_safe_key(entry)] if isinstance(entries, list) else []


def storable(text: str) -> str:
    """Replace the characters that Postgres does not store: an error may quote any text."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)


def key_values(key: Key) -> dict[str, Any]:
    """Return the key of a request as values of a statement."""
    tag, request_id = key
    return {"tag": tag, "request_id": request_id}


def keys_as_arrays(keys: Iterable[Key]) -> dict[str, list[str]]:
    """Return keys of requests as the two arrays that a statement takes."""
    keys = list(keys)
    return {"tags": [tag for tag, _ in keys], "ids": [request_id for _, request_id in keys]}


def _has_safe_key(entry: Any) -> bool:
    """Tell whether an entry names a file that is text, is storable and stays in its folder."""
    key = entry.get("filePath") if isinstance(entry, dict) else None
    return isinstance(key, str) and ".." not in key and key == storable(key)


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Submission:
    """One submission of a request. If the requester submits it again, that is another one."""

    tag: str
    request_id: str
    submitted_at: str  # as Postgres writes it; it may be "infinity", or empty
    passed_over: bool = field(default=False, compare=False)  # a run has claimed other requests since
