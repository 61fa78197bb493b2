"""Postgres, read only: what became of the requests, for people who ask.

Each method is one short transaction on a connection of its own. Nothing of a learner, no requester and no key is read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from airflow.providers.postgres.hooks.postgres import PostgresHook
from psycopg.rows import dict_row

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.sql import request_status as sql

CONNECT_TIMEOUT_SECONDS, LOST_AFTER_MILLISECONDS = 5, 20_000  # somebody is waiting for the page


@dataclass(frozen=True)
class Filter:
    """Which requests are asked for; an empty text asks for all."""

    request: str = ""  # its id's beginning, or that of a standalone run's
    batch: str = ""
    collection: str = ""
    channel: str = ""
    status: str = ""


@dataclass(frozen=True)
class RequestStatus:
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
    processed: tuple[str, ...]  # ids of the batches whose package processed_batches names, by whichever program
    claim_run_id: str | None  # the run that took it last
    held: bool  # by that run, still: its claim is not released
    twin_of: str  # request id whose outcome this one gets

    @property
    def key(self) -> tuple[str, str, str]:
        return self.tag, self.request_id, self.run_id


@dataclass(frozen=True)
class BatchStatus:
    """One batch of a request, as the ledger has it of its last run."""

    batch_id: str
    run_id: str
    collection_id: str
    stage: str
    state: str  # waiting, running, done, deferred, refused or failed
    counts: Mapping[str, int]
    seconds: Mapping[str, float]  # by stage
    size_bytes: int | None
    object_key: str | None
    error: str | None
    listed_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Tally:
    """How many requests have a status, and since when the oldest one waits."""

    status: str
    requests: int
    oldest_at: datetime | None


@dataclass(frozen=True)
class Night:
    """What the runs of one day came to."""

    day: date
    requests: int
    learners: int
    seconds: float
    failures: int


class RequestStatusHook(PostgresHook):
    """The queue of requests and the ledger, to look at.

    :param job_request_table: table of the requests, `schema.table` too
    :param ledger_schema: schema of our own tables
    """

    default_conn_name = "progress_exhaust_requests"

    def __init__(self, *, job_request_table: str, ledger_schema: str) -> None:
        super().__init__(postgres_conn_id=self.default_conn_name)
        self._job_request = ".".join(f'"{part}"' for part in job_request_table.split("."))
        self._ledger = f'"{ledger_schema}"'

    def requests(self, chosen: Filter, *, most: int, skip: int) -> tuple[list[RequestStatus], int]:
        """Return a page of the requests, the newest first, and how many there are in all."""
        rows = self._rows(sql.LIST, vars(chosen) | {"most": most, "skip": skip})
        return [_request(row) for row in rows], rows[0]["found"] if rows else 0

    def request(self, tag: str, request_id: str, run_id: str) -> RequestStatus | None:
        """Return one request, or with a run id alone one standalone run; None where there is no such."""
        rows = self._rows(sql.ONE, {"tag": tag, "request_id": request_id, "run_id": run_id})
        return _request(rows[0]) if rows else None

    def batches(self, requests: Sequence[RequestStatus]) -> dict[tuple[str, str, str], list[BatchStatus]]:
        """Return the batches that the ledger has of these requests, by the request's key."""
        found: dict[tuple[str, str, str], list[BatchStatus]] = {request.key: [] for request in requests}
        keys = [list(part) for part in zip(*found, strict=True)] or [[], [], []]
        for row in self._rows(sql.BATCHES, dict(zip(("tags", "ids", "runs"), keys, strict=True))):
            key = row.pop("tag"), row.pop("request_id"), row.pop("standalone_run")
            found[key].append(BatchStatus(**row))
        return found

    def tally(self) -> list[Tally]:
        return [Tally(**row) for row in self._rows(sql.TALLY)]

    def nights(self, nights: int, zone: str) -> list[Night]:
        """Return the last days of a time zone, the oldest first, those without a run too."""
        return [Night(**row) for row in self._rows(sql.NIGHTS, {"nights": nights, "zone": zone})]

    def _rows(self, statement: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        with self._transaction() as cursor:
            names = {"claim": f"{self._ledger}.claim", "batch_run": f"{self._ledger}.batch_run"}
            cursor.execute(sql.LEDGER_EXISTS, names)
            if not cursor.fetchone()["there"]:
                raise SetupError(
                    f"{self._where()} has no ledger yet (schema {self._ledger}): the first run of the DAG progress_exhaust makes "
                    "it. Where runs were made, the setting ledger_schema or the connection names another place"
                )
            cursor.execute(statement.format(job_request=self._job_request, ledger=self._ledger), values)
            rows: list[dict[str, Any]] = cursor.fetchall()
            return rows

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        connection = self.connection
        bounds = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "tcp_user_timeout": LOST_AFTER_MILLISECONDS}
        connection.extra = json.dumps(bounds | connection.extra_dejson)
        try:
            session = self.get_conn()
        except psycopg.OperationalError as error:
            raise SourceError(f"{self._where()} does not answer: {_first_line(error)}") from None
        except psycopg.ProgrammingError as error:
            raise SetupError(f"{self._where()}: {_first_line(error)}; mend the connection's extra") from None
        try:
            session.read_only = True
            with session, session.cursor(row_factory=dict_row) as cursor:
                cursor.execute(sql.WITH_TIMEOUT)
                yield cursor
        except psycopg.errors.InsufficientPrivilege as error:
            raise SetupError(f"{self._where()}: {_first_line(error)}; docs/grants/operators.sql has every right") from None
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise SetupError(f"{self._where()}: {_first_line(error)}; see the setting job_request_table") from None
        except psycopg.Error as error:  # its further lines may quote a row
            raise SourceError(f"{self._where()}: {_first_line(error)}") from None
        finally:
            session.close()

    def _where(self) -> str:
        connection = self.connection
        return f"Postgres at {connection.host}:{connection.port or 5432} (connection {self.default_conn_name})"


def _request(row: Mapping[str, Any]) -> RequestStatus:
    values = {name: value for name, value in row.items() if name not in ("processed_batches", "found")}
    values |= {name: moment and moment.replace(tzinfo=UTC) for name, moment in values.items() if name.endswith("_at")}
    return RequestStatus(**values, processed=_batch_ids(row["processed_batches"]))


def _batch_ids(processed: str | None) -> tuple[str, ...]:
    """Return the batches that need no new file: the Spark job lists a `.csv` for one that it never packaged."""
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
