"""The queue of requests: find them, claim them, and bring each to an outcome.

Every write to job_request names the claim of this run. If the claim is lost, ClaimLostError says which run holds the request.
Methods that end requests return how many ended how, with their duplicates.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from progress_exhaust.hooks.requests.connection import Transaction, batch_values
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection
from progress_exhaust.hooks.requests.locks import (
    check_holder,
    check_list_attempt,
    check_task_attempt,
    claim_lost,
    holds,
    lock_request,
)
from progress_exhaust.hooks.requests.models import (
    Claimed,
    ClaimOutcome,
    Ended,
    Key,
    Selection,
    Stage,
    keys_as_arrays,
    parse_job_request,
    parse_processed,
    storable,
)
from progress_exhaust.report.request import Batch, JobRequest
from progress_exhaust.sql import claims as sql
from progress_exhaust.sql import locks as locking

LOST_TOO_OFTEN = "The report could not be made: three attempts were interrupted. Submit the request again"


class Claims(LedgerConnection):
    """The requests, and which run holds them."""

    # Find

    def holding_runs(self) -> list[str]:
        """Return the other runs that hold a request."""
        with self._transaction() as transaction:
            return [run_id for (run_id,) in transaction.fetch_all(sql.HOLDING_RUNS)]

    def count_pending(self, selection: Selection) -> int:
        """Count the requests that a claim would take."""
        with self._transaction() as transaction:
            return int(transaction.fetch_value(sql.COUNT_PENDING, selection.values()))

    def oldest_pending_seconds(self, selection: Selection) -> float:
        """Return the age of the oldest request that waits for any run of this kind; 0 if none waits."""
        whole_queue = replace(selection, request_ids=(), submitted_before=None, force=False)
        with self._transaction() as transaction:
            return float(transaction.fetch_value(sql.OLDEST_PENDING, whole_queue.values()))

    def pending(self, selection: Selection) -> list[JobRequest]:
        """Return what a claim would take, and change nothing: for a dry run."""
        with self._transaction() as transaction:
            return [parse_job_request(row) for row in transaction.fetch_all(sql.PENDING, selection.values())]

    def has_unfinished(self) -> bool:
        """Tell whether this run has ever held a request that it has not brought to SUCCESS."""
        with self._transaction() as transaction:
            return bool(transaction.fetch_value(sql.HAS_UNFINISHED))

    def held_without_duplicates(self) -> list[JobRequest]:
        """Return what this run holds, the oldest first, without requests that share the outcome of another."""
        with self._transaction() as transaction:
            return self._held(transaction, duplicates=False)

    def outcomes(self) -> Counter[str]:
        """Return how many requests of this run ended how; duplicates are counted as `duplicate` in addition."""
        counts: Counter[str] = Counter()
        with self._transaction() as transaction:
            for outcome, is_duplicate, number in transaction.fetch_all(sql.OUTCOMES):
                counts[outcome] += number
                counts["duplicate"] += number if is_duplicate else 0
        return counts

    def encryption_key(self, batch: Batch) -> str | None:
        """Return the encryption_key of the batch's request as it is stored. It is a secret: keep it in memory only."""
        with self._transaction() as transaction:
            key: str | None = transaction.fetch_value(sql.ENCRYPTION_KEY, batch_values(batch))
            return key

    # Submit and claim

    def submit(self, *, tag: str, request_id: str, data: str, by: str, channel: str, batch_number: int | None) -> None:
        """Submit a request, as the exhaust API does; data: its request_data, as JSON."""
        values = {"tag": tag, "request_id": request_id, "data": data, "by": by, "channel": channel}
        with self._transaction() as transaction:
            if batch_number is None:
                transaction.execute(sql.SUBMIT, values)
            else:
                transaction.execute(sql.SUBMIT_WITH_BATCH_NUMBER, values | {"batch_number": batch_number})

    def claim(self, selection: Selection) -> Claimed:
        """Claim what is pending; fail the requests whose runs were lost too often."""
        values = selection.values()
        with self._transaction() as transaction:
            keys: list[Any] = transaction.fetch_all(sql.LOCK_PENDING, values)
            publishing = set(transaction.fetch_all(sql.STILL_PUBLISHING, values | keys_as_arrays(keys)))
            keys = [key for key in keys if key not in publishing]
            locked = keys_as_arrays(keys)
            transaction.execute(sql.COUNT_LOST_ATTEMPTS, values | locked)
            transaction.execute(sql.RELEASE_LOST, values | locked)
            message = _fitting(transaction, LOST_TOO_OFTEN)
            exhausted = set(transaction.fetch_all(sql.FAIL_EXHAUSTED, {"message": message} | locked))
            transaction.execute(sql.RESET_LIST_ATTEMPT)
            self._take(transaction, [key for key in keys if key not in exhausted])
            held = self._held(transaction, duplicates=True)
        return Claimed(held, Ended({ClaimOutcome.FAILED: len(exhausted)}))

    def reclaim_unfinished(self) -> dict[str, str]:
        """Claim again what this run held and did not complete: its tasks were cleared.

        Returns the request ids that other runs hold now, each with its holder.
        """
        with self._transaction() as transaction:
            rows = transaction.fetch_all(sql.HOLDERS, keys_as_arrays(self._reclaim(transaction)))
            return {request_id: run_id for request_id, run_id in rows if run_id != self.run_id}

    def requests_to_list(self) -> list[JobRequest]:
        """Return what this run holds, the oldest first; claim again what its cleared tasks held.

        Raises ClaimLostError if a newer attempt has made the list.
        """
        with self._transaction() as transaction:
            check_list_attempt(transaction)
            self._reclaim(transaction)
            return self._held(transaction, duplicates=True)

    def ensure_claim(self, batch: Batch) -> None:
        """Make sure that this run holds the batch's request; claim it again if no run does.

        Raises ClaimLostError if another run holds it.
        """
        if not batch.request_id:
            return
        with self._transaction() as transaction:
            if not holds(transaction, batch.request_key):
                keys: list[Any] = transaction.fetch_all(sql.CLAIMS_OF_BATCH, batch_values(batch))
                self._take(transaction, keys)
                # Ask again: another batch of this run may have claimed it meanwhile.
                check_holder(transaction, batch.request_key)

    # End

    def complete_batch(self, batch: Batch, *, object_key: str, size_bytes: int) -> Ended:
        """Enter a published batch in its request. If it was the last one, the request is SUCCESS.

        Returns the requests that ended: none, unless it was the last batch.
        """
        done = batch_values(batch) | {"size_bytes": size_bytes, "object_key": object_key}
        with self._transaction() as transaction:
            if not batch.request_id:
                transaction.execute(sql.COMPLETE_BATCH, done)
                return Ended()
            before = lock_request(transaction, batch.request_key)
            check_holder(transaction, batch.request_key)
            check_task_attempt(transaction, batch, Stage.MARK_COMPLETE)
            transaction.execute(sql.COMPLETE_BATCH, done)
            entry = {
                "channel": batch.channel,
                "batchId": batch.batch_id,
                "filePath": object_key,
                "fileSize": size_bytes,
            }
            processed = [one for one in parse_processed(before) if one.get("batchId") != batch.batch_id] + [entry]
            if transaction.fetch_value(sql.UNFINISHED_BATCHES, batch_values(batch)):
                transaction.execute(sql.SET_PROCESSED, batch_values(batch) | {"processed": json.dumps(processed)})
                return Ended()
            return succeed_request(transaction, batch.request_key, processed)

    def fail(self, tag: str, request_id: str, message: str) -> Ended:
        """Set a request to FAILED; count one failed attempt per run. message: what the requester reads."""
        with self._transaction() as transaction:
            return fail_request(transaction, (tag, request_id), message)

    def requeue(self, tag: str, request_id: str) -> Ended:
        """Put a request back to SUBMITTED, for the next run."""
        with self._transaction() as transaction:
            lock_request(transaction, (tag, request_id))
            return _end_request(transaction, sql.REQUEUE, ClaimOutcome.SUBMITTED, (tag, request_id))

    # Inside a transaction

    def _take(self, transaction: Transaction, keys: Iterable[Key]) -> None:
        """Claim those of these requests that no run holds."""
        wanted = keys_as_arrays(keys)
        transaction.execute(locking.LOCK_REQUESTS, wanted)
        taken: list[Any] = transaction.fetch_all(sql.TAKE, wanted)
        transaction.execute(sql.START, keys_as_arrays(taken))

    def _reclaim(self, transaction: Transaction) -> list[Key]:
        """Claim again what this run held and did not complete, if no run holds it; return all of it."""
        keys: list[Any] = transaction.fetch_all(sql.UNFINISHED_CLAIMS)
        self._take(transaction, keys)
        return keys

    def _held(self, transaction: Transaction, *, duplicates: bool) -> list[JobRequest]:
        return [parse_job_request(row) for row in transaction.fetch_all(sql.HELD, {"duplicates": duplicates})]


def mark_duplicates(transaction: Transaction, duplicates: Iterable[tuple[Key, str]]) -> None:
    """Let requests of this run share the outcome of another, whose id each comes with; clear all earlier marks."""
    transaction.execute(sql.CLEAR_DUPLICATES)
    for (tag, request_id), duplicate_of in duplicates:
        transaction.execute(sql.MARK_DUPLICATE, {"tag": tag, "request_id": request_id, "duplicate_of": duplicate_of})


def succeed_request(transaction: Transaction, key: Key, processed: Sequence[Mapping[str, Any]]) -> Ended:
    """Set a request to SUCCESS; processed: all its batches."""
    urls = [str(entry["filePath"]) for entry in processed if str(entry.get("filePath") or "").endswith(".zip")]
    return _end_request(transaction, sql.SUCCEED, ClaimOutcome.SUCCESS, key, urls=urls, processed=json.dumps(processed))


def fail_request(transaction: Transaction, key: Key, message: str) -> Ended:
    """Set a request to FAILED."""
    processed = lock_request(transaction, key)
    message = _fitting(transaction, message)
    return _end_request(transaction, sql.FAIL, ClaimOutcome.FAILED, key, message=message, processed=processed)


def _end_request(transaction: Transaction, statement: str, outcome: ClaimOutcome, key: Key, **values: Any) -> Ended:
    """End a request and its duplicates, and release their claims."""
    tag, request_id = key
    values |= {"tag": tag, "request_id": request_id}
    ended = transaction.fetch_all(statement, values)
    if key not in ended:
        raise claim_lost(transaction, key)
    transaction.execute(sql.RELEASE, values | {"outcome": outcome})
    return Ended({outcome: len(ended)})


def _fitting(transaction: Transaction, message: str) -> str:
    """Shorten a message to the length of the site's err_message: a long one must not make the update fail."""
    message, longest = storable(message), transaction.columns().get("err_message")
    return message if longest is None or len(message) <= longest else message[: longest - 1] + "…"
