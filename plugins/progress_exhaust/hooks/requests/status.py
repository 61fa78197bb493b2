"""The state of the requests, read only, for the page and the command line.

It reads nothing about a learner, no requester and no key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import psycopg

from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import RequestError, SetupError
from progress_exhaust.hooks.requests.connection import RequestsConnection, Transaction
from progress_exhaust.report.request import parse_request_data
from progress_exhaust.sql import connection as limits
from progress_exhaust.sql import status as sql

# A person is waiting for the page.
CONNECT_TIMEOUT_SECONDS, ANSWER_SECONDS, LOST_AFTER_MILLISECONDS = 5, 25, 20_000


class Sort(StrEnum):
    """What a list of requests can be sorted by."""

    SUBMITTED = "submitted"
    FINISHED = "finished"
    STATUS = "status"
    ORG = "org"


@dataclass(frozen=True)
class Filter:
    """Which requests to return; an empty text means all.

    Ids and names match by their start, names also by the start of a word. Upper and lower case are the same.
    """

    request: str = ""  # its id, or the id of a standalone run
    batch: str = ""
    collection: str = ""
    channel: str = ""
    status: str = ""  # a whole RequestStatus
    text: str = ""  # any of these, or a word of the error
    submitted_from: str = ""  # ISO date and time in UTC, without a zone
    submitted_before: str = ""


@dataclass(frozen=True)
class Order:
    """The order of a list of requests."""

    sort: Sort = Sort.SUBMITTED
    ascending: bool = False


NEWEST_FIRST = Order()


@dataclass(frozen=True)
class RequestDetails:
    """One request of job_request, or the batches of one standalone run."""

    tag: str
    request_id: str
    run_id: str  # of a standalone run; else empty
    status: str | None
    channel: str | None
    submitted_at: datetime | None
    completed_at: datetime | None
    failures: int
    error: str | None
    processed: tuple[str, ...]  # ids of the batches whose package processed_batches names; any program may have made it
    claim_run_id: str | None  # the run that claimed it last
    held: bool  # that run has not released its claim
    duplicate_of: str  # id of the request whose outcome this one gets
    claim_installation: str | None = None  # of that run
    claimed_at: datetime | None = None
    is_ours: bool = True  # that run is one of this installation
    named: tuple[str, ...] = ()  # ids of the batches that the request names
    permanent: bool = False  # that run failed it with a permanent error: no run tries it again by itself

    @property
    def key(self) -> tuple[str, str, str]:
        return self.tag, self.request_id, self.run_id


@dataclass(frozen=True)
class BatchDetails:
    """One batch of a request, as its last run recorded it."""

    batch_id: str
    run_id: str
    collection_id: str
    stage: str
    state: str  # a BatchState, or a word that a newer version of this package wrote
    counts: Mapping[str, int]
    seconds: Mapping[str, float]  # per stage
    size_bytes: int | None
    object_key: str | None
    error: str | None
    listed_at: datetime
    changed_at: datetime
    is_ours: bool = True  # the run is one of this installation
    collection_name: str | None = None  # None if it is not known
    batch_name: str | None = None
    sha256: str | None = None  # of the package
    protection_level: str | None = None  # of the package; a security.levels.Level
    is_listed: bool = True  # the request still had it when its last run listed the batches


@dataclass(frozen=True)
class ClaimDetails:
    """A claim of a run on a request."""

    run_id: str
    claimed_at: datetime
    released_at: datetime | None  # None while the run holds the request
    outcome: str | None  # a ClaimOutcome, or a word that a newer version of this package wrote
    installation: str
    is_ours: bool  # the run is one of this installation


@dataclass(frozen=True)
class Tally:
    """How many requests have a status, and when the oldest one was submitted."""

    status: str
    requests: int
    oldest_at: datetime | None


@dataclass(frozen=True)
class Night:
    """The figures of the runs of one day."""

    day: date
    requests: int
    learners: int
    seconds: float
    failures: int


class RequestStatusReader(RequestsConnection):
    """Reads the queue of requests and the ledger. Each method is one short transaction."""

    rights = f"docs/grants/operators.sql has every right ({docs_page('how-to/protect-connections')})"
    permanent_errors = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)

    def __init__(self, *, job_request_table: str, ledger_schema: str, installation: str = "") -> None:
        super().__init__(
            job_request_table=job_request_table,
            ledger_schema=ledger_schema,
            installation=installation,
            timeout_seconds=ANSWER_SECONDS,
        )

    def requests(self, chosen: Filter, *, most: int, skip: int, order: Order = NEWEST_FIRST) -> tuple[list[RequestDetails], int]:
        """Return one page of the requests, and the number of all."""
        with self._transaction() as transaction:
            rows = transaction.fetch_dicts(sql.LIST, vars(chosen) | vars(order) | {"most": most, "skip": skip})
        return [_request(row) for row in rows], rows[0]["found"] if rows else 0

    def request(self, tag: str, request_id: str, run_id: str) -> RequestDetails | None:
        """Return one request, or the standalone run with this id; None if it does not exist."""
        with self._transaction() as transaction:
            rows = transaction.fetch_dicts(sql.ONE, {"tag": tag, "request_id": request_id, "run_id": run_id})
        return _request(rows[0]) if rows else None

    def batches(self, requests: Sequence[RequestDetails]) -> dict[tuple[str, str, str], list[BatchDetails]]:
        """Return the batches that the ledger has of these requests, by the key of the request."""
        found: dict[tuple[str, str, str], list[BatchDetails]] = {request.key: [] for request in requests}
        tags, ids, runs = ([key[place] for key in found] for place in range(3))
        with self._transaction() as transaction:
            rows = transaction.fetch_dicts(sql.BATCHES, {"tags": tags, "ids": ids, "runs": runs})
        for row in rows:
            key = row.pop("tag"), row.pop("request_id"), row.pop("standalone_run")
            found[key].append(BatchDetails(**row))
        return found

    def claims(self, tag: str, request_id: str) -> list[ClaimDetails]:
        """Return the last claims on a request, the oldest first; none for a standalone run."""
        with self._transaction() as transaction:
            rows = transaction.fetch_dicts(sql.CLAIMS, {"tag": tag, "request_id": request_id})
        return [ClaimDetails(**row) for row in reversed(rows)]

    def tally(self) -> list[Tally]:
        """Return the number of requests per status."""
        with self._transaction() as transaction:
            return [Tally(**row) for row in transaction.fetch_dicts(sql.TALLY)]

    def nights(self, nights: int, zone: str) -> list[Night]:
        """Return the last days of a time zone, the oldest first, including those without a run."""
        with self._transaction() as transaction:
            return [Night(**row) for row in transaction.fetch_dicts(sql.NIGHTS, {"nights": nights, "zone": zone})]

    def _limit_time(self, transaction: Transaction) -> None:
        transaction.execute(limits.LIMIT_READS)
        if not transaction.ledger_is_current():
            raise SetupError(
                f"{self._where()} has no ledger yet (schema {self._ledger}), or one of an older version. The first run of the "
                "DAG progress_exhaust creates or upgrades it. If there were runs, check the setting ledger_schema and the "
                "connection: they name another place"
            )

    def _connect_options(self) -> dict[str, Any]:
        return {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "tcp_user_timeout": LOST_AFTER_MILLISECONDS}

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:
        connection = super()._create_connection(conn_args)
        connection.read_only = True
        return connection


def _request(row: Mapping[str, Any]) -> RequestDetails:
    values = {name: value for name, value in row.items() if name not in ("processed_batches", "request_data", "found")}
    values |= {name: moment and moment.replace(tzinfo=UTC) for name, moment in values.items() if name.endswith("_at")}
    return RequestDetails(**values, processed=_batch_ids(row["processed_batches"]), named=_named_ids(row["request_data"]))


def _named_ids(request_data: str | None) -> tuple[str, ...]:
    """Return the batches that a request names; none for a search, or for data that no run can read either."""
    try:
        return parse_request_data(request_data or "").batch_ids
    except RequestError:
        return ()


def _batch_ids(processed: str | None) -> tuple[str, ...]:
    """Return the batches that have a package. The Spark job lists a `.csv` for a batch that it never packaged."""
    try:
        entries = json.loads(processed or "[]")
    except (ValueError, RecursionError):
        return ()
    entries = entries if isinstance(entries, list) else []
    return tuple(
        str(entry["batchId"])
        for entry in entries
        if isinstance(entry, dict) and entry.get("batchId") and str(entry.get("filePath")).endswith(".zip")
    )
