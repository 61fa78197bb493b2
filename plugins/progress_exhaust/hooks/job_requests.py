"""Postgres: the requests (job_request), who works on them (claims), and what happened (the ledger).

Each method is one transaction on a connection of its own: nothing stays open while a stage reads for minutes. Every
write to job_request names this run's claim; where that is lost, ClaimLostError says who holds the request. Within a run, the
latest try of a stage has the say: an earlier one that goes on although Airflow gave it up for dead gets the same error.
"""

import json
import math
import os
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from threading import Event, Timer
from typing import Any

import psycopg
from airflow.providers.postgres.hooks.postgres import PostgresHook

from progress_exhaust import metrics
from progress_exhaust.errors import ClaimLostError, SetupError, SourceError
from progress_exhaust.report.request import Batch, JobRequest, object_key_ending
from progress_exhaust.sql import job_requests as sql

Key = tuple[str, str]  # tag, request id

MOST_CONNECT_SECONDS = 10

# Counts of how far a stage at work is.
NEWS = ("percent", "learners_done", "learners_per_second", "seconds_left")

DIED_TOO_OFTEN = "The report could not be made: three attempts were broken off. Ask for it again"


@dataclass(frozen=True)
class BatchRun:
    """What the ledger says of one batch in one run."""

    tag: str
    request_id: str
    batch_id: str
    collection_id: str
    channel: str
    stage: str
    state: str  # waiting, running, done, deferred, refused or failed
    counts: Mapping[str, int]
    seconds: Mapping[str, float]  # by stage
    size_bytes: int | None
    object_key: str | None
    error: str | None

    @property
    def batch(self) -> Batch:
        return Batch(self.tag, self.request_id, self.channel, self.batch_id, self.collection_id)


@dataclass(frozen=True)
class Selection:
    """Which requests a run may claim."""

    most: int
    day: date  # of the run's reports: with force, its finished requests too
    abandoned_before: datetime  # PROCESSING that nobody of ours holds, submitted before this, is free
    request_ids: Sequence[str] = ()  # only these; none named: all
    batch_number: int | None = None  # only this part of the queue
    channels: Sequence[str] = ()  # only these requesting orgs'; none named: all
    submitted_before: datetime | None = None
    dead_runs: Sequence[str] = ()
    force: bool = False

    def values(self) -> dict[str, Any]:
        """Return the statements' parameters; job_request's timestamps are UTC without saying so."""
        return {
            "most": self.most,
            "day_ending": object_key_ending(self.day),
            "abandoned_before": _naive_utc(self.abandoned_before),
            "request_ids": list(self.request_ids) or None,
            "batch_number": self.batch_number,
            "channels": list(self.channels) or None,
            "submitted_before": self.submitted_before and _naive_utc(self.submitted_before),
            "dead_runs": list(self.dead_runs),
            "force": self.force,
        }


class RequestsHook(PostgresHook):
    """The queue of requests and the ledger of this package.

    :param run_id: the DAG run that claims and writes
    :param job_request_table: table of the requests, `schema.table` too
    :param ledger_schema: schema of our own tables
    :param try_number: which try of its task writes
    :param timeout_seconds: how long one statement may take; the wait of `alone` may take longer
    """

    default_conn_name = "progress_exhaust_requests"

    def __init__(
        self,
        *,
        run_id: str,
        job_request_table: str,
        ledger_schema: str,
        try_number: int = 1,
        timeout_seconds: float = 60,
    ) -> None:
        super().__init__(postgres_conn_id=self.default_conn_name)
        self.run_id = run_id
        self.try_number = try_number
        self._timeout_seconds = timeout_seconds
        self._job_request = ".".join(f'"{part}"' for part in job_request_table.split("."))
        self._ledger = f'"{ledger_schema}"'
        self._ended: Counter[str] = Counter()  # requests by outcome, in the transaction that is open

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
                self._create_ledger(cursor)

    def _create_ledger(self, cursor: Any) -> None:
        try:
            self._run(cursor, sql.CREATE_LEDGER)
        except SetupError:
            statements = sql.CREATE_LEDGER.format(job_request=self._job_request, ledger=self._ledger)
            raise SetupError(
                f"{self._where()} has no schema {self._ledger}, or an older one, and this role may not make it. Let one that "
                f"may run the following, which is docs/grants/ledger.sql, and then docs/grants/postgres.sql:\n{statements}"
            ) from None

    # The queue

    def holding_runs(self) -> list[str]:
        """Return the other runs that hold a request."""
        with self._transaction() as cursor:
            self._run(cursor, sql.HOLDING_RUNS, {"run_id": self.run_id})
            return [run_id for (run_id,) in cursor.fetchall()]

    def count_pending(self, selection: Selection) -> int:
        with self._transaction() as cursor:
            self._run(cursor, sql.COUNT_PENDING, selection.values())
            return int(cursor.fetchone()[0])

    def oldest_pending_seconds(self, selection: Selection) -> float:
        """Return the age of the oldest request that waits for any run like this one; 0 where none does."""
        whole_queue = replace(selection, request_ids=(), submitted_before=None, force=False)
        with self._transaction() as cursor:
            self._run(cursor, sql.OLDEST_PENDING, whole_queue.values())
            return float(cursor.fetchone()[0])

    def pending(self, selection: Selection) -> list[JobRequest]:
        """Return what a claim would take, and take nothing: a dry run's view."""
        with self._transaction() as cursor:
            self._run(cursor, sql.PENDING, selection.values())
            return [_job_request(row) for row in cursor.fetchall()]

    def claim(self, selection: Selection) -> list[JobRequest]:
        """Claim what is pending; return all that this run holds, the oldest first."""
        with self._transaction() as cursor:
            values = selection.values()
            self._run(cursor, sql.LOCK_PENDING, values)
            keys = cursor.fetchall()
            self._run(cursor, sql.PINNED, values | _keys(keys))
            pinned = set(cursor.fetchall())
            locked = _keys(key for key in keys if key not in pinned)
            self._run(cursor, sql.COUNT_DEATHS, values | locked)
            self._run(cursor, sql.RELEASE_DEAD, values | locked)
            message = self._fitting(cursor, DIED_TOO_OFTEN)
            self._run(cursor, sql.FAIL_EXHAUSTED, {"message": message} | locked)
            exhausted = set(cursor.fetchall())
            self._ended["FAILED"] += len(exhausted)
            self._run(cursor, sql.UNMARK_LIST, {"run_id": self.run_id})
            self._take(cursor, [key for key in zip(locked["tags"], locked["ids"], strict=True) if key not in exhausted])
            return self._held(cursor, twins=True)

    def retake(self) -> dict[str, str]:
        """Take again what this run held and left unfinished: its tasks were cleared.

        Returns the request ids that other runs hold by now, and the holders.
        """
        with self._transaction() as cursor:
            self._run(cursor, sql.HOLDERS, _keys(self._retake(cursor)))
            return {request_id: run_id for request_id, run_id in cursor.fetchall() if run_id != self.run_id}

    def has_unfinished(self) -> bool:
        """Tell whether this run has ever held a request that it has not brought to SUCCESS."""
        with self._transaction() as cursor:
            self._run(cursor, sql.HAS_UNFINISHED, {"run_id": self.run_id})
            return bool(cursor.fetchone()[0])

    def held_without_twins(self) -> list[JobRequest]:
        """Return what this run holds, the oldest first, without those that only share another's outcome."""
        with self._transaction() as cursor:
            return self._held(cursor, twins=False)

    def submit(self, *, tag: str, request_id: str, data: str, by: str, channel: str, batch_number: int | None) -> None:
        """Enter a request, as the exhaust API does; data: its request_data, as JSON."""
        values = {"tag": tag, "request_id": request_id, "data": data, "by": by, "channel": channel}
        with self._transaction() as cursor:
            self._run(cursor, sql.SUBMIT, values | {"batch_number": batch_number})

    # The list

    def requests_to_list(self) -> list[JobRequest]:
        """Return what this run holds, the oldest first, with what it takes again, its tasks having been cleared.

        Raises ClaimLostError where a later try has made the list.
        """
        with self._transaction() as cursor:
            self._pin_list(cursor)
            self._retake(cursor)
            return self._held(cursor, twins=True)

    def list_batches(
        self,
        to_make: Iterable[Batch],
        deferred: Iterable[Batch],
        *,
        twins: Iterable[tuple[Key, str]] = (),
        refused: Iterable[tuple[Key, str]] = (),
        finished: Iterable[JobRequest] = (),
    ) -> None:
        """Enter what the run does about its requests, whole or not at all.

        to_make, deferred: the batches that the run makes, and those that its requests have to wait for
        twins: requests that share another's outcome, and that one's id
        refused: requests that can never be met, which are FAILED now, and why, in words for the requester
        finished: requests whose files earlier runs have made, which are SUCCESS now
        Raises ClaimLostError where a later try has made the list, or another run holds a request.
        """
        states = [*((batch, "waiting") for batch in to_make), *((batch, "deferred") for batch in deferred)]
        twins, refused, finished = list(twins), list(refused), list(finished)
        listed = list(dict.fromkeys(batch.request_key for batch, _ in states))
        over = [*(key for key, _ in refused), *(request.key for request in finished)]
        with self._transaction() as cursor:
            self._run(cursor, sql.LOCK_REQUESTS, _keys([*listed, *over, *(key for key, _ in twins)]))
            self._pin_list(cursor)
            for key in listed:
                if key[1] and self._holder(cursor, *key) != self.run_id:
                    raise self._lost(cursor, *key)
            self._run(cursor, sql.FORGET_TWINS, {"run_id": self.run_id})
            for (tag, request_id), twin_of in twins:
                values = {"tag": tag, "request_id": request_id, "run_id": self.run_id, "twin_of": twin_of}
                self._run(cursor, sql.MARK_TWIN, values)
            for key, message in refused:
                self._fail(cursor, *key, message)
            for request in finished:
                self._succeed(cursor, *request.key, list(request.finished().values()))
            self._run(cursor, sql.FORGET_LIST, {"run_id": self.run_id} | _keys(listed))
            for batch, state in states:
                self._run(cursor, sql.LIST_BATCH, self._of(batch) | {"state": state})
            self._run(cursor, sql.MARK_LIST, {"run_id": self.run_id, "try_number": self.try_number})

    @contextmanager
    def pinned_list(self) -> Iterator[None]:
        """Keep a later try from making the list anew while the block writes; raises ClaimLostError before it starts."""
        with self._transaction() as cursor:
            self._run(cursor, sql.WITHOUT_TIMEOUTS_FOR_A_PUT)
            self._pin_list(cursor)
            yield

    # One batch

    def hold(self, batch: Batch) -> None:
        """Make sure that this run holds the batch's request, taking it again where it is free.

        Raises ClaimLostError where another run holds it.
        """
        if not batch.request_id:
            return
        with self._transaction() as cursor:
            if self._holder(cursor, *batch.request_key) != self.run_id:
                self._run(cursor, sql.RUN_CLAIMS, self._of(batch))
                self._take(cursor, cursor.fetchall())
                # Asked again: another batch of this run may have taken it meanwhile.
                if self._holder(cursor, *batch.request_key) != self.run_id:
                    raise self._lost(cursor, *batch.request_key)

    @contextmanager
    def pinned(self, batch: Batch) -> Iterator[None]:
        """Keep the claim from being taken over while the block publishes; raises ClaimLostError before it starts."""
        with self.pinned_try(batch, "package") as cursor:
            if batch.request_id:
                self._run(cursor, sql.PIN_CLAIM, self._of(batch))
                if cursor.rowcount == 0:
                    raise self._lost(cursor, *batch.request_key)
            yield

    @contextmanager
    def pinned_try(self, batch: Batch, stage: str) -> Iterator[Any]:
        """Keep a later try from taking this stage over while the block writes; raises ClaimLostError before it starts."""
        with self._transaction() as cursor:
            self._run(cursor, sql.WITHOUT_TIMEOUTS_FOR_A_PUT)
            self._pin_try(cursor, batch, stage)
            yield cursor

    def record(
        self,
        batch: Batch,
        *,
        stage: str,
        state: str,
        counts: Mapping[str, int] | None = None,
        seconds: float | None = None,
        size_bytes: int | None = None,
        error: str | None = None,
    ) -> None:
        """Write down in the ledger where a batch stands; raises ClaimLostError where a later try of the stage has begun.

        counts: added to those of before, of which NEWS are forgotten while a stage runs
        """
        values = self._of(batch) | {
            "stage": stage,
            "state": state,
            "counts": json.dumps(counts or {}),
            "news": list(NEWS),
            "seconds": json.dumps({} if seconds is None else {stage: round(seconds, 3)}),
            "size_bytes": size_bytes,
            "error": error and _storable(error),
        }
        with self._transaction() as cursor:
            self._run(cursor, sql.RECORD, values)
            if cursor.rowcount == 0:
                self._run(cursor, sql.BATCH_RUN, values)
                if cursor.rowcount:  # else it is not in the ledger at all, as in a dry run
                    raise self._overtaken(f"{batch}: {stage}")

    def encryption_key(self, batch: Batch) -> str | None:
        """Return the encryption_key of the batch's request as it is stored. It is a secret, and goes nowhere but into memory."""
        with self._transaction() as cursor:
            self._run(cursor, sql.ENCRYPTION_KEY, self._of(batch))
            row = cursor.fetchone()
            return row[0] if row else None

    def complete(self, batch: Batch, *, object_key: str, size_bytes: int) -> bool:
        """Enter a published batch in its request; where it was the last one, the request is SUCCESS.

        Returns whether the request is.
        """
        done = self._of(batch) | {"size_bytes": size_bytes, "object_key": object_key}
        with self._transaction() as cursor:
            if not batch.request_id:
                self._run(cursor, sql.COMPLETE, done)
                return False
            before = self._lock(cursor, *batch.request_key)
            if self._holder(cursor, *batch.request_key) != self.run_id:
                raise self._lost(cursor, *batch.request_key)
            self._pin_try(cursor, batch, "mark_complete")
            self._run(cursor, sql.COMPLETE, done)
            entry = {
                "channel": batch.channel,
                "batchId": batch.batch_id,
                "filePath": object_key,
                "fileSize": size_bytes,
            }
            processed = [one for one in _entries(before) if one.get("batchId") != batch.batch_id] + [entry]
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
            self._run(cursor, sql.WITHOUT_TIMEOUTS)
            # The one statement without an end of its own: the work that it waits for may take long.
            cursor.execute(sql.WAIT_IN_LINE, {"work": f"progress_exhaust {self.run_id} {work}"})
            yield

    # The end of a request

    def fail(self, tag: str, request_id: str, message: str) -> None:
        """FAILED, in words for the requester; counts one failed attempt, once a run."""
        with self._transaction() as cursor:
            self._fail(cursor, tag, request_id, message)

    def give_back(self, tag: str, request_id: str) -> None:
        """SUBMITTED again, for the next run."""
        with self._transaction() as cursor:
            self._lock(cursor, tag, request_id)
            self._end(cursor, sql.GIVE_BACK, "SUBMITTED", tag, request_id)

    def batch_run(self, batch: Batch) -> BatchRun | None:
        """Return what the ledger says of one batch of this run; None where it is not in it, as in a dry run."""
        with self._transaction() as cursor:
            self._run(cursor, sql.BATCH_RUN, self._of(batch))
            row = cursor.fetchone()
            return BatchRun(*row) if row else None

    def run_batches(self) -> list[BatchRun]:
        """Return what the ledger says of this run's batches."""
        with self._transaction() as cursor:
            self._run(cursor, sql.RUN_BATCHES, {"run_id": self.run_id})
            return [BatchRun(*row) for row in cursor.fetchall()]

    def left_by_others(self) -> list[tuple[str, Batch]]:
        """Return the run id and batch of what other runs left unfinished of the requests that this run brought to SUCCESS."""
        with self._transaction() as cursor:
            self._run(cursor, sql.LEFT_BY_OTHERS, {"run_id": self.run_id})
            return [(run_id, Batch(*batch)) for run_id, *batch in cursor.fetchall()]

    def outcomes(self) -> Counter[str]:
        """Return how many requests of this run ended how; twins are counted as `duplicate` too."""
        counts: Counter[str] = Counter()
        with self._transaction() as cursor:
            self._run(cursor, sql.OUTCOMES, {"run_id": self.run_id})
            for outcome, is_twin, number in cursor.fetchall():
                counts[outcome] += number
                counts["duplicate"] += number if is_twin else 0
        return counts

    def channel_bytes(self, batch: Batch) -> int:
        """Return how much this run has published for the batch's channel, in bytes, the batch itself left out."""
        with self._transaction() as cursor:
            self._run(cursor, sql.CHANNEL_BYTES, self._of(batch))
            return int(cursor.fetchone()[0])

    # Inside a transaction

    def _take(self, cursor: Any, keys: Iterable[Key]) -> list[Key]:
        """Hold those of these requests that no living run holds; return them."""
        wanted = _keys(keys)
        self._run(cursor, sql.LOCK_REQUESTS, wanted)
        self._run(cursor, sql.TAKE, {"run_id": self.run_id} | wanted)
        taken: list[Key] = cursor.fetchall()
        self._run(cursor, sql.START, _keys(taken))
        return taken

    def _retake(self, cursor: Any) -> list[Key]:
        """Take again what this run held and left unfinished, where nobody holds it; return all of it."""
        self._run(cursor, sql.UNFINISHED_CLAIMS, {"run_id": self.run_id})
        keys: list[Key] = cursor.fetchall()
        self._take(cursor, keys)
        return keys

    def _fitting(self, cursor: Any, message: str) -> str:
        """Shorten a message to what the site's err_message takes: a long one must not fail the update."""
        message, longest = _storable(message), self._columns(cursor).get("err_message")
        return message if longest is None or len(message) <= longest else message[: longest - 1] + "…"

    def _fail(self, cursor: Any, tag: str, request_id: str, message: str) -> None:
        processed = self._lock(cursor, tag, request_id)
        message = self._fitting(cursor, message)
        self._end(cursor, sql.FAIL, "FAILED", tag, request_id, message=message, processed=processed)

    def _succeed(self, cursor: Any, tag: str, request_id: str, processed: list[Mapping[str, Any]]) -> None:
        urls = [str(entry["filePath"]) for entry in processed if str(entry.get("filePath") or "").endswith(".zip")]
        self._end(cursor, sql.SUCCEED, "SUCCESS", tag, request_id, urls=urls, processed=json.dumps(processed))

    def _end(self, cursor: Any, statement: str, outcome: str, tag: str, request_id: str, **values: Any) -> None:
        values |= {"tag": tag, "request_id": request_id, "run_id": self.run_id}
        self._run(cursor, statement, values)
        ended = cursor.fetchall()
        if (tag, request_id) not in ended:
            raise self._lost(cursor, tag, request_id)
        self._run(cursor, sql.RELEASE, values | {"outcome": outcome})
        self._ended[outcome] += len(ended)

    def _held(self, cursor: Any, twins: bool) -> list[JobRequest]:
        self._run(cursor, sql.HELD, {"run_id": self.run_id, "twins": twins})
        return [_job_request(row) for row in cursor.fetchall()]

    def _lock(self, cursor: Any, tag: str, request_id: str) -> str | None:
        """Lock a request's row, and those of its twins in this run; return its processed_batches."""
        self._run(cursor, sql.LOCK_REQUEST, {"tag": tag, "request_id": request_id, "run_id": self.run_id})
        return {(row[0], row[1]): row[2] for row in cursor.fetchall()}.get((tag, request_id))

    def _holder(self, cursor: Any, tag: str, request_id: str) -> str | None:
        self._run(cursor, sql.HOLDER, {"tag": tag, "request_id": request_id})
        row = cursor.fetchone()
        return row[0] if row else None

    def _lost(self, cursor: Any, tag: str, request_id: str) -> ClaimLostError:
        holder = self._holder(cursor, tag, request_id)
        by = f"is held by run {holder}" if holder else "is no longer held by this run"
        if not holder:
            self._run(cursor, sql.MAKER, {"tag": tag, "request_id": request_id, "run_id": self.run_id})
            for (maker,) in cursor.fetchall():
                by += f", and run {maker} has made it"
        return ClaimLostError(f"request {request_id} {by}: this run changes nothing more of it")

    def _pin_try(self, cursor: Any, batch: Batch, stage: str) -> None:
        self._run(cursor, sql.PIN_TRY, self._of(batch) | {"stage": stage})
        if cursor.fetchone() == (True,):
            raise self._overtaken(f"{batch}: {stage}")

    def _pin_list(self, cursor: Any) -> None:
        self._run(cursor, sql.PIN_LIST, {"run_id": self.run_id, "try_number": self.try_number})
        if (True,) in cursor.fetchall():
            raise self._overtaken("list_batches")

    def _overtaken(self, what: str) -> ClaimLostError:
        return ClaimLostError(
            f"{what} is in the hands of a later try of this task, since Airflow gave up this one, try "
            f"{self.try_number}: it changes nothing more"
        )

    def _columns(self, cursor: Any) -> dict[str, int | None]:
        self._run(cursor, sql.TABLE_COLUMNS, {"table": self._job_request})
        return dict(cursor.fetchall())

    def _of(self, batch: Batch) -> dict[str, Any]:
        return batch.to_dict() | {"run_id": self.run_id, "try_number": self.try_number}

    def _run(self, cursor: Any, statement: str, values: Mapping[str, Any] | None = None) -> None:
        try:
            with self._in_time(cursor.connection):
                cursor.execute(statement.format(job_request=self._job_request, ledger=self._ledger), values)
        except psycopg.errors.InsufficientPrivilege as error:
            reads = statement.replace("WHERE", "SELECT")
            needed = dict.fromkeys(re.findall(r"\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE)\b", reads))
            raise SetupError(
                f"{self._where()}: {_first_line(error)} (for {', '.join(needed)}); docs/grants/postgres.sql has every right, "
                "and operators.sql those of people (docs/security.md)"
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            connection = self.get_conn()
        except psycopg.OperationalError as error:
            raise SourceError(f"{self._where()} does not answer: {_first_line(error)}") from None
        except psycopg.ProgrammingError as error:
            raise SetupError(f"{self._where()}: {_first_line(error)}; mend the connection's extra") from None
        self._ended.clear()
        try:
            with connection.cursor() as cursor:
                self._run(cursor, sql.WITHOUT_IDLING)
                yield cursor
            with self._in_time(connection):
                connection.commit()
            metrics.requests_ended(self._ended)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise SourceError(
                f"{self._where()} takes no writes: {_first_line(error)}. After a fail-over, let the connection name the primary"
            ) from None
        except psycopg.Error as error:  # its further lines may quote a row, with the requester's key in it
            raise SourceError(f"{self._where()}: {_first_line(error)}") from None
        finally:
            connection.close()  # the server rolls back what was not committed

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:
        """Connect, as Airflow's hook does, in bounded time: the driver itself waits for two minutes."""
        seconds = math.ceil(min(self._timeout_seconds, MOST_CONNECT_SECONDS))
        return super()._create_connection({"connect_timeout": seconds} | conn_args)

    @contextmanager
    def _in_time(self, connection: Any) -> Iterator[None]:
        """Break the connection off where an answer takes too long: a server that hangs ends no statement by itself."""
        over = Event()

        def end() -> None:
            over.set()
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

        with socket.socket(fileno=os.dup(connection.fileno())) as held:
            timer = Timer(self._timeout_seconds, end)
            timer.daemon = True
            timer.start()
            try:
                yield
            except psycopg.Error:
                if not over.is_set():
                    raise
                raise psycopg.OperationalError(
                    f"no answer in {self._timeout_seconds:g} s: the server hangs, or another session keeps a lock that long"
                ) from None
            finally:
                timer.cancel()
                timer.join()

    def _where(self) -> str:
        connection = self.connection
        return f"Postgres at {connection.host}:{connection.port or 5432} (connection {self.default_conn_name})"


def _keys(rows: Iterable[Key]) -> dict[str, list[str]]:
    rows = list(rows)
    return {"tags": [tag for tag, _ in rows], "ids": [request_id for _, request_id in rows]}


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _storable(text: str) -> str:
    """Replace what Postgres does not take: an error may quote anything."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _entries(processed: str | None) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(processed or "[]")
        json.dumps(entries, allow_nan=False)  # 1e999 is read as infinite, and could not be written again
    except (ValueError, RecursionError):
        return []
    return [entry for entry in entries if _names_a_file(entry)] if isinstance(entries, list) else []


def _names_a_file(entry: Any) -> bool:
    """Tell whether an entry has a key that may be offered again: one that leads elsewhere, or is no text, is nobody's file."""
    key = entry.get("filePath") if isinstance(entry, dict) else None
    return isinstance(key, str) and ".." not in key and key == _storable(key)


def _job_request(row: Sequence[Any]) -> JobRequest:
    tag, request_id, data, requested_by, channel, encryption_key, processed = row
    return JobRequest(
        tag=tag,
        request_id=request_id,
        request_data=data or "",
        requested_by=requested_by or "",
        requested_channel=channel or "",
        encryption_key=encryption_key or None,
        processed=tuple(_entries(processed)),
    )
