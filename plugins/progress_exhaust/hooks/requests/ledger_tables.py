"""Check the columns of job_request; create our tables, or upgrade those of an earlier version."""

from collections.abc import Iterator
from contextlib import contextmanager

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.connection import RequestsConnection, Transaction
from progress_exhaust.sql import connection as connection_sql
from progress_exhaust.sql import ledger as sql


class LedgerConnection(RequestsConnection):
    """A connection whose statements need the ledger.

    A dry run creates no ledger. If it is missing or old, each transaction of the dry run creates it and takes it back.
    """

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with super()._transaction() as transaction:
            if self._dry_run and not transaction.ledger_is_current():
                create_ledger(transaction)
                transaction.execute(connection_sql.RESET_SEARCH_PATH)
            yield transaction


def create_ledger(transaction: Transaction) -> None:
    """Create or upgrade the tables; raise SetupError, with the statements to run, if this role may not."""
    try:
        transaction.execute_script(sql.CREATE_LEDGER)
    except SetupError:
        raise SetupError(
            f"{transaction.where()} has no schema {transaction.ledger}, or one of an older version, and this role may not create "
            "or upgrade it. Ask a role with the rights to run the following, which is docs/grants/ledger.sql, and then "
            f"docs/grants/postgres.sql:\n{transaction.script(sql.CREATE_LEDGER)}"
        ) from None


def missing_columns(transaction: Transaction) -> list[str]:
    """Return the optional columns that job_request lacks; raise SetupError if the table or a required column is missing."""
    columns = transaction.columns()
    if not columns:
        raise SetupError(
            f"Postgres has no table {transaction.job_request}; set job_request_table in the Variable to the right name. If the "
            "platform has no such table, create it with the command progress-exhaust init-requests"
        )
    missing = [name for name in sql.JOB_REQUEST_COLUMNS if name not in columns]
    needed = [f"{name} ({sql.JOB_REQUEST_COLUMNS[name]})" for name in missing if name not in sql.OPTIONAL_COLUMNS]
    if needed:
        raise SetupError(
            f"Postgres table {transaction.job_request} lacks {', '.join(needed)}, which the DAG needs. Set job_request_table "
            "in the Variable to the table of the exhaust API that has it"
        )
    return missing
