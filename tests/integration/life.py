"""What the tests of a request's life share: a database of their own, rows as the exhaust API writes them, runs' hooks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from dev import services
from progress_exhaust.hooks.requests.claims import Claims
from progress_exhaust.hooks.requests.endings import end_request, read_progress
from progress_exhaust.hooks.requests.ledger import Ledger
from progress_exhaust.hooks.requests.locks import Locks, lock_request
from progress_exhaust.hooks.requests.models import ClaimOutcome, Ended, Key, Selection, parse_processed
from progress_exhaust.hooks.requests.outcomes import Ending
from progress_exhaust.hooks.requests.releases import Releases
from progress_exhaust.report.request import Batch

CONNECTION = "AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"
LEDGER = "progress_exhaust"
DAY = date(2022, 9, 27)
SUBMITTED_AT = datetime(2022, 9, 26, 10, 0)  # naive and UTC, as the API writes it
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

CURRENT = """
CREATE TABLE job_request (
  tag text, request_id text, job_id text, status text, request_data json, requested_by text, requested_channel text,
  dt_job_submitted timestamp, download_urls text[], dt_file_created timestamp, dt_job_completed timestamp,
  execution_time bigint, err_message text, iteration integer, encryption_key text, batch_number integer,
  processed_batches jsonb, PRIMARY KEY (tag, request_id)
)"""


INSTALLATION, OTHER_INSTALLATION = "a" * 32, "b" * 32
ELSEWHERE = "elsewhere:"  # before the id of a run of the other installation


class RunHook(Claims, Ledger, Locks, Releases):
    """The claims, the ledger, the locks and the releases of one run in one object.

    `fail` and `requeue` end a request at any moment, as a run does when its tasks have ended: by the same statements.
    """

    def fail(self, tag: str, request_id: str, message: str) -> Ended:
        return self._end((tag, request_id), Ending(ClaimOutcome.FAILED, message, counts_attempt=True))

    def requeue(self, tag: str, request_id: str) -> Ended:
        return self._end((tag, request_id), Ending(ClaimOutcome.SUBMITTED))

    def _end(self, key: Key, ending: Ending) -> Ended:
        with self._transaction() as transaction:
            progress = read_progress(transaction, key, parse_processed(lock_request(transaction, key)))
            return end_request(transaction, key, progress, ending)


def empty_database(name: str) -> str:
    """Return the URI of a database that holds nothing."""
    uri = services.create_database(name)
    with_cursor = connect(uri).cursor()
    with_cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'")
    for (schema,) in with_cursor.fetchall():
        with_cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    with_cursor.execute("CREATE SCHEMA public")
    with_cursor.connection.close()
    return uri


@contextmanager
def database_of_requests(name: str) -> Iterator[Any]:
    """Yield a cursor on a database of its own, to which runs' hooks connect."""
    with pytest.MonkeyPatch.context() as patch:
        uri = empty_database(name)
        patch.setenv(CONNECTION, uri)
        connection = connect(uri)
        connection.cursor().execute(CURRENT)
        yield connection.cursor()
        connection.close()


def emptied(cursor: Any) -> Any:
    """Return the cursor of a database whose requests and ledger are empty."""
    hook_of("any").prepare()
    cursor.execute(f"TRUNCATE job_request, {LEDGER}.claim, {LEDGER}.batch_run")
    return cursor


def connect(uri: str) -> Any:
    connection = psycopg2.connect(uri)
    connection.autocommit = True
    return connection


def hook_of(run: str, table: str = "job_request", ledger: str = LEDGER) -> RunHook:
    """Return the hook of a run; one of the other installation is named elsewhere:<run id>."""
    run_id = run.removeprefix(ELSEWHERE)
    installation = INSTALLATION if run == run_id else OTHER_INSTALLATION
    return RunHook(run_id=run_id, installation=installation, job_request_table=table, ledger_schema=ledger)


def batch_of(key: tuple[str, str], batch_id: str = "b1") -> Batch:
    """Return a batch of a request."""
    return Batch(*key, "org-1", batch_id, "do_1")


def name_of(installation: str, run_id: str) -> str:
    """Return how the tests name a run."""
    return f"{ELSEWHERE if installation == OTHER_INSTALLATION else ''}{run_id}"


def chosen(**changes: Any) -> Selection:
    """Return a selection of everything that is pending; nothing counts as abandoned unless a test says so."""
    return Selection(**{"most": 1000, "day": DAY, "abandoned_before": LONG_AGO} | changes)


def insert(cursor: Any, request_id: str, *, table: str = "job_request", minutes: int = 0, **columns: Any) -> tuple[str, str]:
    """Insert a row as the exhaust API does, submitted so many minutes later than SUBMITTED_AT; return its key."""
    row = {
        "tag": f"label:{request_id[-1:]}",
        "request_id": request_id,
        "job_id": "progress-exhaust",
        "status": "SUBMITTED",
        "request_data": json.dumps({"batchFilter": [f"batch-of-{request_id}"]}),
        "requested_by": "user-1",
        "requested_channel": "org-1",
        "dt_job_submitted": SUBMITTED_AT + timedelta(minutes=minutes),
        "iteration": 0,
    } | columns
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    cursor.execute(statement, list(row.values()))
    return row["tag"], request_id


def row_of(cursor: Any, request_id: str, table: str = "job_request") -> dict[str, Any]:
    """Return a request's row by column, its JSON parsed whatever the column's type."""
    cursor.execute(sql.SQL("SELECT * FROM {} WHERE request_id = %s").format(sql.Identifier(*table.split("."))), [request_id])
    names = [column.name for column in cursor.description]
    row = dict(zip(names, cursor.fetchone(), strict=True))
    if isinstance(row.get("processed_batches"), str):
        row["processed_batches"] = json.loads(row["processed_batches"])
    return row


def whole_rows(cursor: Any, table: str = "job_request") -> dict[tuple[str, str], str]:
    """Return every row as one text, by its key: what no change may slip through."""
    name = sql.Identifier(*table.split("."))
    cursor.execute(sql.SQL("SELECT tag, request_id, j::text FROM {} j").format(name))
    return {(tag, request_id): text for tag, request_id, text in cursor.fetchall()}


def holders(cursor: Any, ledger: str = LEDGER) -> list[tuple[str, str, str]]:
    """Return the live claims, straight from the table: tag, request id, run."""
    cursor.execute(
        sql.SQL("SELECT tag, request_id, installation, run_id FROM {}.claim WHERE released_at IS NULL").format(
            sql.Identifier(ledger)
        )
    )
    return sorted((tag, request_id, name_of(installation, run_id)) for tag, request_id, installation, run_id in cursor.fetchall())
