"""Postgres: the requests (job_request), who works on them (claims), and what happened (the ledger).

Each method is one transaction on a connection of its own: nothing stays open while a stage reads for minutes. Every
write to job_request names this run's claim; where that is lost, ClaimLostError says who holds the request.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from airflow.providers.postgres.hooks.postgres import PostgresHook

from progress_exhaust.errors import ClaimLostError, SetupError, SourceError
from progress_exhaust.report.request import Batch, JobRequest
from progress_exhaust.sql import job_requests as sql

Key = tuple[str, str]  # tag, request id


@dataclass(frozen=True)
class BatchRun:
    """What the ledger says of one batch in one run."""

    tag: str
    request_id: str
    batch_id: str
    collection_id: str
    stage: str
    state: str  # waiting, running, done, refused or failed
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    size_bytes: int | None = None
    object_key: str | None = None
    error: str | None = None


class RequestsHook(PostgresHook):
    """The queue of requests and the ledger of this package.

    :param run_id: the DAG run that claims and writes
    :param job_request_table: table of the requests, `schema.table` too
    :param ledger_schema: schema of our own tables
    """

    default_conn_name = "progress_exhaust_requests"

    def __init__(self, *, run_id: str, job_request_table: str, ledger_schema: str) -> None:
        super().__init__(postgres_conn_id=self.default_conn_name)
        self.run_id = run_id
        self._job_request = ".".join(f'"{part}"' for part in job_request_table.split("."))
        self._ledger = f'"{ledger_schema}"'

    # Set-up

    def prepare(self) -> None:
        """Make the claim and ledger tables where they are missing; check that job_request has every column."""
        with self._transaction() as cursor:
            columns = self._columns(cursor)
            if not columns:
                raise SetupError(
                    f"Postgres has no table {self._job_request}; set job_request_table in the Variable, or create it"
                )
            missing = [name for name in sql.JOB_REQUEST_COLUMNS if name not in columns]
            if missing:
                added = ", ".join(f"ADD COLUMN {name} {sql.JOB_REQUEST_COLUMNS[name]}" for name in missing)
                raise SetupError(
                    f"Postgres table {self._job_request} lacks {', '.join(missing)}; run: "
                    f"ALTER TABLE {self._job_request} {added};"
                )
            names = {"claim": f"{self._ledger}.claim", "batch_run": f"{self._ledger}.batch_run"}
            self._run(cursor, sql.LEDGER_EXISTS, names)
            if not cursor.fetchone()[0]:
                self._run(cursor, sql.CREATE_LEDGER)

    # The queue

    def count_pending(self, request_ids: Sequence[str] | None = None) -> int:
        with self._transaction() as cursor:
            self._run(cursor, sql.COUNT_PENDING, {"request_ids": request_ids})
            return int(cursor.fetchone()[0])

    def holding_runs(self) -> list[str]:
        """Return the other runs that hold a request."""
        with self._transaction() as cursor:
            self._run(cursor, sql.HOLDING_RUNS, {"run_id": self.run_id})
            return [run_id for (run_id,) in cursor.fetchall()]

    def claim(
        self, *, most: int, dead_runs: Sequence[str], request_ids: Sequence[str] | None = None, force: bool = False
    ) -> list[JobRequest]:
        """Claim what is pending or held by a dead run; return all that this run holds, the oldest first."""
        with self._transaction() as cursor:
            self._run(
                cursor,
                sql.LOCK_PENDING,
                {"most": most, "dead_runs": list(dead_runs), "request_ids": request_ids, "force": force},
            )
            locked = _keys(cursor.fetchall())
            self._run(cursor, sql.RELEASE_DEAD, {"dead_runs": list(dead_runs), **locked})
            self._run(cursor, sql.TAKE, {"run_id": self.run_id, **locked})
            self._run(cursor, sql.START, _keys(cursor.fetchall()))
            return self._held(cursor, twins=True)

    def held(self, *, twins: bool = True) -> list[JobRequest]:
        """Return what this run holds, the oldest first; twins: also those that only share another's outcome."""
        with self._transaction() as cursor:
            return self._held(cursor, twins)

    def pending(self, *, most: int, request_ids: Sequence[str] | None = None, force: bool = False) -> list[JobRequest]:
        """Return what a claim would take, and take nothing: a dry run's view."""
        with self._transaction() as cursor:
            self._run(cursor, sql.PENDING, {"most": most, "request_ids": request_ids, "force": force})
            return [_job_request(row) for row in cursor.fetchall()]

    def mark_twins(self, twins: Mapping[Key, str]) -> None:
        """Let each of these requests share the outcome of the request with that id."""
        with self._transaction() as cursor:
            for (tag, request_id), twin_of in twins.items():
                values = {"tag": tag, "request_id": request_id, "run_id": self.run_id, "twin_of": twin_of}
                self._run(cursor, sql.MARK_TWIN, values)

    # One batch

    def list_batches(self, batches: Iterable[Batch]) -> None:
        """Enter the batches of this run in the ledger."""
        with self._transaction() as cursor:
            for batch in batches:
                self._run(cursor, sql.LIST_BATCH, self._of(batch) | {"collection_id": batch.collection_id})

    def hold(self, batch: Batch) -> None:
        """Make sure that this run holds the batch's request, taking it again where it is free.

        Raises ClaimLostError where another run holds it.
        """
        if not batch.request_id:
            return
        with self._transaction() as cursor:
            if self._holder(cursor, batch) == self.run_id:
                return
            self._run(cursor, sql.RUN_CLAIMS, self._of(batch))
            keys = cursor.fetchall() or [(batch.tag, batch.request_id)]
            for tag, request_id in keys:
                self._run(cursor, sql.LOCK_REQUEST, {"tag": tag, "request_id": request_id})
            self._run(cursor, sql.TAKE, {"run_id": self.run_id, **_keys(keys)})
            taken = cursor.fetchall()
            if (batch.tag, batch.request_id) not in taken:
                raise self._lost(cursor, batch)
            self._run(cursor, sql.START, _keys(taken))

    @contextmanager
    def pinned(self, batch: Batch) -> Iterator[None]:
        """Keep the claim from being taken over while the block publishes; raises ClaimLostError before it starts."""
        with self._transaction() as cursor:
            if batch.request_id:
                self._run(cursor, sql.PIN_CLAIM, self._of(batch))
                if cursor.rowcount == 0:
                    raise self._lost(cursor, batch)
            yield

    def record(
        self,
        batch: Batch,
        *,
        stage: str,
        state: str,
        counts: Mapping[str, int] | None = None,
        seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        """Write down in the ledger where a batch stands."""
        values = self._of(batch) | {
            "stage": stage,
            "state": state,
            "counts": json.dumps(counts or {}),
            "seconds": json.dumps({} if seconds is None else {stage: round(seconds, 3)}),
            "error": error,
        }
        with self._transaction() as cursor:
            self._run(cursor, sql.RECORD, values)

    def complete(self, batch: Batch, *, object_key: str, size_bytes: int) -> bool:
        """Enter a published batch in its request; where it was the last one, the request is SUCCESS.

        Returns whether the request is.
        """
        done = self._of(batch) | {"size_bytes": size_bytes, "object_key": object_key}
        with self._transaction() as cursor:
            if not batch.request_id:
                self._run(cursor, sql.COMPLETE, done)
                return False
            self._run(cursor, sql.LOCK_REQUEST, self._of(batch))
            row = cursor.fetchone()
            if row is None or self._holder(cursor, batch) != self.run_id:
                raise self._lost(cursor, batch)
            self._run(cursor, sql.COMPLETE, done)
            entry = {
                "channel": batch.channel,
                "batchId": batch.batch_id,
                "filePath": object_key,
                "fileSize": size_bytes,
            }
            processed = [one for one in _entries(row[0]) if one.get("batchId") != batch.batch_id] + [entry]
            self._run(cursor, sql.UNFINISHED_BATCHES, self._of(batch))
            if cursor.fetchone()[0]:
                self._run(cursor, sql.SET_PROCESSED, self._of(batch) | {"processed": json.dumps(processed)})
                return False
            self._succeed(cursor, batch.tag, batch.request_id, processed)
            return True

    @contextmanager
    def alone(self, work: str) -> Iterator[None]:
        """Let one task at a time do this work of the run; the others wait for it."""
        with self._transaction() as cursor:
            self._run(cursor, sql.WAIT_IN_LINE, {"work": f"progress_exhaust {self.run_id} {work}"})
            yield

    # The end of a request

    def succeed(self, request: JobRequest) -> None:
        """SUCCESS with the files that earlier runs finished."""
        with self._transaction() as cursor:
            self._run(cursor, sql.LOCK_REQUEST, {"tag": request.tag, "request_id": request.request_id})
            self._succeed(cursor, request.tag, request.request_id, list(request.finished().values()))

    def fail(self, tag: str, request_id: str, message: str) -> None:
        """FAILED, in words for the requester; counts one failed attempt, once a run."""
        with self._transaction() as cursor:
            self._run(cursor, sql.LOCK_REQUEST, {"tag": tag, "request_id": request_id})
            (processed,) = cursor.fetchone() or (None,)
            longest = self._columns(cursor).get("err_message")
            shortened = message if longest is None or len(message) <= longest else message[: longest - 1] + "…"
            self._end(cursor, sql.FAIL, "FAILED", tag, request_id, message=shortened, processed=processed)

    def give_back(self, tag: str, request_id: str) -> None:
        """SUBMITTED again, for the next run."""
        with self._transaction() as cursor:
            self._run(cursor, sql.LOCK_REQUEST, {"tag": tag, "request_id": request_id})
            self._end(cursor, sql.GIVE_BACK, "SUBMITTED", tag, request_id)

    def run_batches(self) -> list[BatchRun]:
        """Return what the ledger says of this run's batches."""
        with self._transaction() as cursor:
            self._run(cursor, sql.RUN_BATCHES, {"run_id": self.run_id})
            return [BatchRun(*row) for row in cursor.fetchall()]

    # Inside a transaction

    def _succeed(self, cursor: Any, tag: str, request_id: str, processed: list[Mapping[str, Any]]) -> None:
        urls = [str(entry["filePath"]) for entry in processed if str(entry.get("filePath") or "").endswith(".zip")]
        self._end(cursor, sql.SUCCEED, "SUCCESS", tag, request_id, urls=urls, processed=json.dumps(processed))

    def _end(self, cursor: Any, statement: str, outcome: str, tag: str, request_id: str, **values: Any) -> None:
        values |= {"tag": tag, "request_id": request_id, "run_id": self.run_id}
        self._run(cursor, statement, values)
        if cursor.rowcount == 0:
            raise ClaimLostError(f"request {request_id} is not held by run {self.run_id}; nothing was changed")
        self._run(cursor, sql.RELEASE, values | {"outcome": outcome})

    def _held(self, cursor: Any, twins: bool) -> list[JobRequest]:
        self._run(cursor, sql.HELD, {"run_id": self.run_id, "twins": twins})
        return [_job_request(row) for row in cursor.fetchall()]

    def _holder(self, cursor: Any, batch: Batch) -> str | None:
        self._run(cursor, sql.HOLDER, self._of(batch))
        row = cursor.fetchone()
        return row[0] if row else None

    def _lost(self, cursor: Any, batch: Batch) -> ClaimLostError:
        holder = self._holder(cursor, batch)
        by = f"is held by run {holder}" if holder else "is no longer held by this run"
        return ClaimLostError(f"request {batch.request_id} {by}: this run changes nothing more of it")

    def _columns(self, cursor: Any) -> dict[str, int | None]:
        self._run(cursor, sql.TABLE_COLUMNS, {"table": self._job_request})
        return dict(cursor.fetchall())

    def _of(self, batch: Batch) -> dict[str, Any]:
        return {"tag": batch.tag, "request_id": batch.request_id, "batch_id": batch.batch_id, "run_id": self.run_id}

    def _run(self, cursor: Any, statement: str, values: Mapping[str, Any] | None = None) -> None:
        cursor.execute(statement.format(job_request=self._job_request, ledger=self._ledger), values)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            connection = self.get_conn()
        except psycopg2.OperationalError as error:
            raise SourceError(f"{self._where()} does not answer: {_first_line(error)}") from None
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise SourceError(f"{self._where()}: {_first_line(error)}") from None
        except psycopg2.errors.InsufficientPrivilege as error:
            raise SetupError(f"{self._where()}: {_first_line(error)}; see the grants in the docs") from None
        finally:
            connection.close()

    def _where(self) -> str:
        connection = self.connection
        return f"Postgres at {connection.host}:{connection.port or 5432} (connection {self.default_conn_name})"


def _keys(rows: Iterable[Key]) -> dict[str, list[str]]:
    rows = list(rows)
    return {"tags": [tag for tag, _ in rows], "ids": [request_id for _, request_id in rows]}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _entries(processed: str | None) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(processed or "[]")
    except ValueError:
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _job_request(row: Sequence[Any]) -> JobRequest:
    tag, request_id, data, requested_by, channel, encryption_key, submitted_at, processed = row
    return JobRequest(
        tag=tag,
        request_id=request_id,
        request_data=data or "",
        requested_by=requested_by or "",
        requested_channel=channel or "",
        encryption_key=encryption_key or None,
        submitted_at=submitted_at,
        processed=tuple(_entries(processed)),
    )
