"""Locks: of requests and claims against other runs, and of a stage against a newer attempt of its task.

Only the newest attempt of a task may write. Airflow starts it when it believes that the previous attempt is lost; that one may
still be running.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from progress_exhaust.errors import ClaimLostError, RequestCancelledError, RequestDeletedError
from progress_exhaust.hooks.requests.connection import RequestsConnection, Row, Transaction, Values, batch_values
from progress_exhaust.hooks.requests.models import Holder, Key, Stage, key_values
from progress_exhaust.report.request import Batch
from progress_exhaust.sql import connection as limits
from progress_exhaust.sql import locks as sql

LONGEST_WRITE_SECONDS = 3600  # of one file in staging


class Locks(RequestsConnection):
    """Locks that are held while a task works elsewhere."""

    @contextmanager
    def exclusive_lock(self, work: str) -> Iterator[None]:
        """Let one task of the run at a time do this work; the others wait for it, without a time limit."""
        with self._transaction() as transaction:
            transaction.execute(limits.ALLOW_LONG_WORK)
            transaction.execute_without_limit(sql.WAIT_FOR_EXCLUSIVE_LOCK, {"work": self._lock_name(work)})
            yield

    @contextmanager
    def lock_installation(self) -> Iterator[None]:
        """Let one task at a time, of all installations, give its installation an id."""
        with self._transaction() as transaction:
            transaction.execute(sql.WAIT_FOR_EXCLUSIVE_LOCK, {"work": "progress_exhaust installation"})
            yield

    @contextmanager
    def lock_task_attempt(self, batch: Batch, stage: str) -> Iterator[None]:
        """Keep a newer attempt of this stage from starting while the block writes.

        Raises ClaimLostError, before the block starts, if one has started.
        """
        with self._locked_attempt(batch, stage):
            yield

    @contextmanager
    def lock_claim(self, batch: Batch, seconds: float = LONGEST_WRITE_SECONDS) -> Iterator[None]:
        """Keep other runs from taking the claim while the block publishes.

        Raises ClaimLostError, before the block starts, if another run holds the request, and RequestDeletedError if its row
        was deleted.

        :param seconds: how long the block may take
        """
        with self._locked_attempt(batch, Stage.PACKAGE, seconds) as transaction:
            if batch.request_id:
                if not transaction.execute(sql.LOCK_CLAIM, batch_values(batch)):
                    raise claim_lost(transaction, batch.request_key)
                check_row_exists(transaction, batch.request_key)
            yield

    @contextmanager
    def lock_list(self) -> Iterator[None]:
        """Keep a newer attempt from making the list again while the block writes.

        Raises ClaimLostError, before the block starts, if one has made it.
        """
        with self._transaction() as transaction:
            transaction.execute(limits.ALLOW_LONG_PUT, _milliseconds(LONGEST_WRITE_SECONDS))
            check_list_attempt(transaction)
            yield

    @contextmanager
    def _locked_attempt(self, batch: Batch, stage: str, seconds: float = LONGEST_WRITE_SECONDS) -> Iterator[Transaction]:
        with self._transaction() as transaction:
            transaction.execute(limits.ALLOW_LONG_PUT, _milliseconds(seconds))
            _check_attempt(transaction, sql.LOCK_TASK_ATTEMPT, batch, stage)
            yield transaction

    def _lock_name(self, work: str) -> str:
        return f"progress_exhaust {self.installation} {self.run_id} {work}"


def lock_request(transaction: Transaction, key: Key) -> str | None:
    """Lock the row of a request, and those of its duplicates in this run; return its processed_batches."""
    rows = transaction.fetch_all(sql.LOCK_REQUEST, key_values(key))
    return {(row[0], row[1]): row[2] for row in rows}.get(key)


def check_task_attempt(transaction: Transaction, batch: Batch, stage: str) -> None:
    """Raise ClaimLostError if a newer attempt of the stage has started; keep one from starting in this transaction.

    The transaction may change the row of the batch in the ledger.
    """
    _check_attempt(transaction, sql.LOCK_TASK_ATTEMPT_TO_WRITE, batch, stage)


def _check_attempt(transaction: Transaction, statement: str, batch: Batch, stage: str) -> None:
    if (True,) in _lock_ledger(transaction, statement, batch_values(batch) | {"stage": stage}):
        raise stage_lost(transaction, batch, stage)


def check_list_attempt(transaction: Transaction) -> None:
    """Raise ClaimLostError if a newer attempt has made the list; keep one from making it in this transaction."""
    if (True,) in _lock_ledger(transaction, sql.LOCK_LIST_ATTEMPT):
        raise attempt_replaced(transaction, Stage.LIST_BATCHES)


def stage_lost(transaction: Transaction, batch: Batch, stage: str) -> ClaimLostError:
    """Return the error of a stage that may write nothing more."""
    return _cancelled(transaction, batch.request_key) or attempt_replaced(transaction, f"{batch}: {stage}")


def _lock_ledger(transaction: Transaction, statement: str, values: Values | None = None) -> list[Row]:
    """Lock rows of batch_run; return them.

    A list that is made again replaces the rows. A statement that has waited for it finds neither the old nor the new ones.
    """
    return transaction.fetch_all(statement, values) or transaction.fetch_all(statement, values)


def attempt_replaced(transaction: Transaction, what: str) -> ClaimLostError:
    """Return the error of an attempt that a newer one has replaced."""
    return ClaimLostError(
        f"{what}: a newer attempt of this task has started, because Airflow believed that this one, attempt "
        f"{transaction.task_attempt}, was lost. Only the newest attempt may write: this one changes nothing more"
    )


def check_holder(transaction: Transaction, key: Key) -> None:
    """Raise ClaimLostError if this run does not hold a request."""
    if not holds(transaction, key):
        raise claim_lost(transaction, key)


def holds(transaction: Transaction, key: Key) -> bool:
    """Tell whether this run holds a request."""
    holder = find_holder(transaction, key)
    return holder is not None and holder.is_ours and holder.run_id == transaction.run_id


def check_row_exists(transaction: Transaction, key: Key) -> None:
    """Raise RequestDeletedError if a request has no row any more."""
    _, request_id = key
    if not transaction.fetch_value(sql.REQUEST_EXISTS, key_values(key)):
        raise RequestDeletedError(f"The row of request {request_id} no longer exists in job_request: nothing is published for it")


def claim_lost(transaction: Transaction, key: Key) -> ClaimLostError:
    """Return the error of a run that does not hold a request; it names the run that does."""
    _, request_id = key
    holder = find_holder(transaction, key)
    if not holder and (cancelled := _cancelled(transaction, key)):
        return cancelled
    words = f"is held by {holder}" if holder else "is no longer held by this run"
    if not holder:
        other = transaction.fetch_value(sql.COMPLETED_BY, key_values(key))
        words += f", and run {other} has completed it" if other else ""
    return ClaimLostError(f"request {request_id} {words}: this run changes nothing more of it")


def holder_of(transaction: Transaction, row: Row) -> Holder:
    """Read a holder: tag, request id, installation, run id, time of the claim."""
    tag, request_id, installation, run_id, claimed_at = row
    return Holder(tag, request_id, installation, run_id, claimed_at, is_ours=installation == transaction.installation)


def find_holder(transaction: Transaction, key: Key) -> Holder | None:
    """Return the run that holds a request; None if no run does."""
    rows = transaction.fetch_all(sql.HOLDER, key_values(key))
    return holder_of(transaction, rows[0]) if rows else None


def _cancelled(transaction: Transaction, key: Key) -> RequestCancelledError | None:
    _, request_id = key
    if not request_id or not transaction.fetch_value(sql.IS_CANCELLED, key_values(key)):
        return None
    return RequestCancelledError(
        f"A person has cancelled request {request_id}, so it is no longer held by this run: this run changes nothing more of it"
    )


def _milliseconds(seconds: float) -> dict[str, int]:
    return {"milliseconds": math.ceil(seconds * 1000)}
