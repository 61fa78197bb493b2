"""Transactions on Postgres: connect, send statements in bounded time, translate errors. All classes of this folder use it."""

import math
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Timer
from typing import Any

import psycopg
from airflow.providers.postgres.hooks.postgres import PostgresHook

from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.requests import kept_connections
from progress_exhaust.hooks.requests.models import SQL_VALUES, storable
from progress_exhaust.report.request import Batch
from progress_exhaust.sql import connection as sql

MAX_CONNECT_SECONDS = 10

Row = tuple[Any, ...]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Transaction:
    """One open transaction of a run. It sends statements of `sql/`, with the names of the settings put in.

    `installation`, `run_id` and `task_attempt` are values of every statement, in addition to those that a call gives.
    """

    cursor: Any
    installation: str
    run_id: str
    task_attempt: int
    job_request: str  # the quoted table
    ledger: str  # the quoted schema
    timeout_seconds: float  # for one statement
    where: Callable[[], str]  # the server, for messages
    rights: str  # which files have the rights that a role needs, for messages

    def execute(self, statement: str, values: Values | None = None) -> int:
        """Run a statement; return its number of rows. Raises SetupError if the role lacks a right."""
        own = {"installation": self.installation, "run_id": self.run_id, "task_attempt": self.task_attempt}
        bound = own | dict(values or {})
        with self._checking_rights(statement), answer_within(self.timeout_seconds, self.cursor.connection):
            self.cursor.execute(statement.format(job_request=self.job_request, ledger=self.ledger, **SQL_VALUES), bound)
        return int(self.cursor.rowcount)

    def execute_many(self, statement: str, values: Iterable[Values]) -> None:
        """Run a statement once for each of these values. They are sent together."""
        own = {"installation": self.installation, "run_id": self.run_id, "task_attempt": self.task_attempt}
        bound = [own | dict(one) for one in values]
        with self._checking_rights(statement), answer_within(self.timeout_seconds, self.cursor.connection):
            self.cursor.executemany(statement.format(job_request=self.job_request, ledger=self.ledger, **SQL_VALUES), bound)

    def execute_script(self, statement: str) -> None:
        """Run several statements that have no values."""
        with self._checking_rights(statement), answer_within(self.timeout_seconds, self.cursor.connection):
            self.cursor.execute(statement.format(job_request=self.job_request, ledger=self.ledger, **SQL_VALUES))

    def execute_without_limit(self, statement: str, values: Values) -> None:
        """Run a statement that waits for other work, for as long as that takes."""
        self.cursor.execute(statement.format(job_request=self.job_request, ledger=self.ledger, **SQL_VALUES), values)

    def fetch_all(self, statement: str, values: Values | None = None) -> list[Row]:
        """Run a statement; return its rows."""
        self.execute(statement, values)
        rows: list[Row] = self.cursor.fetchall()
        return rows

    def fetch_value(self, statement: str, values: Values | None = None) -> Any:
        """Run a statement; return the first column of its first row, or None if there is no row."""
        rows = self.fetch_all(statement, values)
        return rows[0][0] if rows else None

    def fetch_dicts(self, statement: str, values: Values | None = None) -> list[dict[str, Any]]:
        """Run a statement; return its rows by column name."""
        rows = self.fetch_all(statement, values)
        names = [column.name for column in self.cursor.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def script(self, statement: str) -> str:
        """Return a statement as it is sent, for a person who has to run it."""
        return statement.format(job_request=self.job_request, ledger=self.ledger, **SQL_VALUES)

    def columns(self) -> dict[str, int | None]:
        """Return the columns of job_request, each with the longest text that fits into it."""
        return dict(self.fetch_all(sql.TABLE_COLUMNS, {"table": self.job_request}))

    def fit_message(self, message: str) -> str:
        """Shorten a message to the length of the site's err_message: a long one must not make the update fail."""
        message, longest = storable(message), self.columns().get("err_message")
        return message if longest is None or len(message) <= longest else message[: longest - 1] + "…"

    def ledger_is_current(self) -> bool:
        """Tell whether the ledger exists in the form of this version."""
        names = {"claim": "claim", "batch_run": "batch_run", "index": "batch_run_of_channel"}
        parts = {part: f"{self.ledger}.{name}" for part, name in names.items()}
        return bool(self.fetch_value(sql.LEDGER_IS_CURRENT, parts))

    @contextmanager
    def _checking_rights(self, statement: str) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            reads = statement.replace("WHERE", "SELECT")
            needed = dict.fromkeys(re.findall(r"\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE)\b", reads))
            raise SetupError(f"{self.where()}: {first_line(error)} (for {', '.join(needed)}); {self.rights}") from None


class RequestsConnection(PostgresHook):
    """The database of the requests.

    Each method of a subclass is one transaction. It has a connection for itself: in a task one that an earlier transaction has
    used (`kept_connections`), elsewhere a new one.

    :param job_request_table: table of the requests; may be `schema.table`
    :param ledger_schema: schema of our own tables
    :param installation: id of the Airflow that the run belongs to: other Airflows may have runs with the same id
    :param run_id: the DAG run that claims and writes; empty for a reader
    :param task_attempt: which attempt of its task writes
    :param timeout_seconds: how long one statement may take
    :param dry_run: whether every transaction is rolled back
    """

    default_conn_name = "progress_exhaust_requests"
    rights = (
        f"docs/grants/postgres.sql has every right, and operators.sql those of people ({docs_page('how-to/protect-connections')})"
    )
    permanent_errors: tuple[type[psycopg.Error], ...] = ()  # errors that an engineer has to fix: no retry does

    def __init__(
        self,
        *,
        job_request_table: str,
        ledger_schema: str,
        installation: str = "",
        run_id: str = "",
        task_attempt: int = 1,
        timeout_seconds: float = 60,
        dry_run: bool = False,
    ) -> None:
        super().__init__(postgres_conn_id=self.default_conn_name)
        self.installation = installation
        self.run_id = run_id
        self.task_attempt = task_attempt
        self._timeout_seconds = timeout_seconds
        self._dry_run = dry_run
        self._job_request = ".".join(f'"{part}"' for part in job_request_table.split("."))
        self._ledger = f'"{ledger_schema}"'

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        """Open a transaction; commit it at the end of the block, unless the block raises or this is a dry run."""
        connection: Any = None
        try:
            connection = self._kept_connection() or self._new_connection()
            with connection.cursor() as cursor:
                yield self._transaction_of(cursor)
            with answer_within(self._timeout_seconds, connection):
                connection.rollback() if self._dry_run else connection.commit()
            connection = kept_connections.keep(connection)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise SourceError(
                f"{self._where()} takes no writes: {first_line(error)}. After a fail-over, let the connection name the primary"
            ) from None
        except self.permanent_errors as error:
            raise SetupError(f"{self._where()}: {first_line(error)}; see the setting job_request_table") from None
        except psycopg.Error as error:  # its further lines may quote a row, with the requester's key in it
            raise SourceError(f"{self._where()}: {first_line(error)}") from None
        finally:
            if connection is not None:
                connection.close()  # the server rolls back what was not committed

    def _kept_connection(self) -> Any:
        """Return a kept connection in a new transaction; None if there is no usable one."""
        connection = kept_connections.take()
        if connection is not None:
            try:
                self._start(connection)
            except psycopg.OperationalError:
                connection.close()
                return None
        return connection

    def _new_connection(self) -> Any:
        """Return a new connection in a new transaction."""
        try:
            connection: Any = self.get_conn()
        except psycopg.OperationalError as error:
            raise SourceError(f"{self._where()} does not answer: {first_line(error)}") from None
        except psycopg.ProgrammingError as error:
            raise SetupError(f"{self._where()}: {first_line(error)}. Fix the extra field of the connection") from None
        try:
            self._start(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _start(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            self._limit_time(self._transaction_of(cursor))

    def _transaction_of(self, cursor: Any) -> Transaction:
        return Transaction(
            cursor=cursor,
            installation=self.installation,
            run_id=self.run_id,
            task_attempt=self.task_attempt,
            job_request=self._job_request,
            ledger=self._ledger,
            timeout_seconds=self._timeout_seconds,
            where=self._where,
            rights=self.rights,
        )

    def _limit_time(self, transaction: Transaction) -> None:
        """Let the server end a transaction that its client has left."""
        transaction.execute(sql.LIMIT_IDLE_TIME)

    def _connect_options(self) -> dict[str, Any]:
        """Return options that the connection in Airflow may replace; the driver itself waits for two minutes.

        A pooler in front of Postgres may give each transaction another session, so no statement is prepared in one.
        """
        return {"connect_timeout": math.ceil(min(self._timeout_seconds, MAX_CONNECT_SECONDS)), "prepare_threshold": None}

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:
        return super()._create_connection(self._connect_options() | conn_args)

    def _where(self) -> str:
        connection = self.connection
        return f"Postgres at {connection.host}:{connection.port or 5432} (connection {self.default_conn_name})"


@contextmanager
def answer_within(seconds: float, connection: Any) -> Iterator[None]:
    """Close the connection if the block takes longer: a server that hangs ends no statement by itself."""
    timed_out = Event()

    def end() -> None:
        timed_out.set()
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)

    with socket.socket(fileno=os.dup(connection.fileno())) as held:
        timer = Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error:
            if not timed_out.is_set():
                raise
            raise psycopg.OperationalError(
                f"no answer in {seconds:g} s: the server hangs, or another session keeps a lock that long"
            ) from None
        finally:
            timer.cancel()
            timer.join()


def batch_values(batch: Batch) -> dict[str, Any]:
    """Return a batch as values of a statement."""
    return dict(batch.to_dict())


def first_line(error: Exception) -> str:
    """Return the first line of an error. The other lines may quote a row."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
