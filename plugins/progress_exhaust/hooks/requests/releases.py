"""Release claims: of ended runs, of requests whose rows were deleted, and on behalf of a person. Cancel requests."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from progress_exhaust.errors import ConflictError
from progress_exhaust.hooks.requests.connection import Transaction
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection
from progress_exhaust.hooks.requests.locks import find_holder, holder_of
from progress_exhaust.hooks.requests.models import (
    BATCH_STAGES,
    ClaimOutcome,
    Ended,
    Holder,
    Key,
    LostClaim,
    Selection,
    key_values,
    keys_as_arrays,
)
from progress_exhaust.sql import claims as claiming
from progress_exhaust.sql import locks as locking
from progress_exhaust.sql import releases as sql

LOST_TOO_OFTEN = "The report could not be made: three attempts were interrupted. Submit the request again"
CANCELLED = "The request was cancelled. Submit it again if the report is needed"
LAST_TASK_ATTEMPT = 2**31 - 1  # no attempt of a task is newer


class Releases(LedgerConnection):
    """Claims that are released by another run, or by a person."""

    def release_orphaned(self, selection: Selection) -> tuple[list[LostClaim], Ended]:
        """Release the claims of ended runs that no run of this site will ever take again.

        Their rows were deleted or have ended, or they are in a part of the queue that this site does not process. A row that is
        still PROCESSING becomes SUBMITTED, or FAILED after the last attempt. Returns the claims, and how many requests ended.
        """
        values = selection.values()
        with self._transaction() as transaction:
            keys = [(tag, request_id) for tag, request_id, _ in transaction.fetch_all(sql.ORPHANED, values)]
            transaction.execute(locking.LOCK_REQUESTS, keys_as_arrays(keys))
            orphaned = transaction.fetch_all(sql.ORPHANED, values)  # ask again: the rows are locked now
            keys = [(tag, request_id) for tag, request_id, _ in orphaned]
            processing = [(tag, request_id) for tag, request_id, is_processing in orphaned if is_processing]
            free, lost = release_lost(transaction, selection.ended_runs, keys, counted=processing)
            released = [key for key in processing if key in free]
            exhausted = fail_exhausted(transaction, released)
            transaction.execute(sql.REQUEUE_LOST, keys_as_arrays(released))
        return lost, Ended({ClaimOutcome.FAILED: len(exhausted)})

    def release_deleted(self) -> list[Key]:
        """Release the claims of this run on requests whose rows were deleted; return the keys of those.

        Their duplicates are no longer duplicates: no request makes the files that they share.
        """
        with self._transaction() as transaction:
            rows: list[Any] = transaction.fetch_all(sql.RELEASE_DELETED)
            transaction.execute(sql.CLEAR_LONELY_DUPLICATES)
            return rows

    def holders(self, request_ids: Iterable[str]) -> list[Holder]:
        """Return who holds the requests with these ids, whatever their tags."""
        with self._transaction() as transaction:
            rows = transaction.fetch_all(sql.HOLDERS_OF_IDS, {"request_ids": list(request_ids)})
            return [holder_of(transaction, row) for row in rows]

    def release(self, holder: Holder) -> bool:
        """Release a claim on behalf of a person, and put the request back to SUBMITTED. It counts as no failed attempt.

        Returns False if the run no longer holds the request, or publishes a file of it at this moment.
        """
        key = holder.tag, holder.request_id
        values = {
            "tag": holder.tag,
            "request_id": holder.request_id,
            "holder_installation": holder.installation,
            "holder_run_id": holder.run_id,
        }
        with self._transaction() as transaction:
            transaction.execute(locking.LOCK_REQUESTS, keys_as_arrays([key]))
            if not transaction.execute(sql.LOCK_TO_RELEASE, values):
                return False
            transaction.execute(sql.RELEASE_HELD, values)
            transaction.execute(sql.REQUEUE_LOST, keys_as_arrays([key]))
        return True

    def cancel(self, key: Key) -> None:
        """Set a request that waits, or that a run of this installation holds, to FAILED for good, on behalf of a person.

        A running stage of it loses its claim, and publishes nothing. Finished packages stay. Its duplicates in the run are
        SUBMITTED again. No failed attempt is counted. Raises ConflictError if nothing was changed.
        """
        _, request_id = key
        values: dict[str, Any] = key_values(key) | {
            "task_attempts": json.dumps(dict.fromkeys(BATCH_STAGES, LAST_TASK_ATTEMPT)),
        }
        with self._transaction() as transaction:
            values["message"] = transaction.fit_message(CANCELLED)
            transaction.execute(sql.LOCK_TO_CANCEL, values)
            holder = find_holder(transaction, key)
            if holder and not holder.is_ours:
                raise ConflictError(f"Request {request_id} is held by {holder}. Release its claim first, then cancel it")
            if not transaction.execute(sql.CANCEL_REQUEST, values | {"held": holder is not None}):
                raise ConflictError(f"Request {request_id} has ended, or another program processes it. It is not cancelled")
            rows = transaction.fetch_all(sql.CLAIM_TO_CANCEL, values)
            if not rows:  # no run has claimed it: the person does
                transaction.execute(claiming.TAKE, keys_as_arrays([key]))
                rows = [(self.installation, self.run_id)]
            [(values["installation"], values["run_id"])] = rows
            transaction.execute(sql.LIMIT_WAIT)
            try:
                transaction.execute(sql.LOCK_BATCHES, values)
            except psycopg.errors.LockNotAvailable:
                raise ConflictError(f"A run writes a file of request {request_id} at this moment. Try again later") from None
            transaction.execute(sql.CANCEL_CLAIM, values)
            transaction.execute(sql.CANCEL_BATCHES, values)
            duplicates: list[Any] = transaction.fetch_all(sql.RELEASE_DUPLICATES, values)
            transaction.execute(sql.REQUEUE_LOST, keys_as_arrays(duplicates))


def release_lost(
    transaction: Transaction, ended_runs: Sequence[str], keys: Sequence[Key], *, counted: Sequence[Key] | None = None
) -> tuple[list[Key], list[LostClaim]]:
    """Release the claims of ended runs on these requests, whose rows are locked.

    Returns the requests, without those for which a late task publishes a file at this moment, and the released claims.

    :param counted: the requests for which this is one more failed attempt; None for all
    """
    ended = {"ended_runs": list(ended_runs)}
    publishing = set(transaction.fetch_all(sql.STILL_PUBLISHING, ended | keys_as_arrays(keys)))
    free = [key for key in keys if key not in publishing]
    to_count = free if counted is None else [key for key in counted if key not in publishing]
    transaction.execute(sql.COUNT_LOST_ATTEMPTS, ended | keys_as_arrays(to_count))
    released = transaction.fetch_all(sql.RELEASE_LOST, ended | keys_as_arrays(free))
    return free, [LostClaim(*row) for row in released]


def fail_exhausted(transaction: Transaction, keys: Sequence[Key]) -> set[Key]:
    """Fail those of these requests whose runs were lost too often; return them."""
    values = {"message": transaction.fit_message(LOST_TOO_OFTEN)} | keys_as_arrays(keys)
    rows: list[Any] = transaction.fetch_all(sql.FAIL_EXHAUSTED, values)
    return set(rows)
