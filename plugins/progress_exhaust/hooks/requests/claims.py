"""The queue of requests: find them, claim them, and bring each to an outcome.

Every write to job_request names the claim of this run. If the claim is lost, ClaimLostError says which run holds the request.
Methods that end requests return how many ended how, with their duplicates.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from progress_exhaust.hooks.requests.connection import Transaction, batch_values
from progress_exhaust.hooks.requests.endings import end_request, read_progress, set_processed
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection, missing_columns
from progress_exhaust.hooks.requests.locks import (
    check_holder,
    check_list_attempt,
    check_row_exists,
    check_task_attempt,
    holder_of,
    holds,
    lock_request,
)
from progress_exhaust.hooks.requests.models import (
    Claimed,
    ClaimOutcome,
    Ended,
    Holder,
    Key,
    NamedRow,
    ReleasedClaim,
    Selection,
    Stage,
    keys_as_arrays,
    parse_job_request,
    parse_processed,
)
from progress_exhaust.hooks.requests.outcomes import Ending, decide_ending
from progress_exhaust.hooks.requests.releases import fail_exhausted, release_lost
from progress_exhaust.report.request import Batch, JobRequest
from progress_exhaust.sql import claims as sql
from progress_exhaust.sql import endings as ending_sql
from progress_exhaust.sql import locks as locking


class Claims(LedgerConnection):
    """The requests, and which run holds them."""

    # Find

    def holding_runs(self) -> list[str]:
        """Return the other runs of this installation that hold a request."""
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

    def pending_ids(self, selection: Selection) -> list[str]:
        """Return the ids of all requests that a claim could take, whatever its limit, the oldest first."""
        with self._transaction() as transaction:
            return [request_id for (request_id,) in transaction.fetch_all(sql.PENDING_IDS, selection.values())]

    def named_rows(self, selection: Selection) -> list[NamedRow]:
        """Return the rows with the ids that the selection names, of any job."""
        with self._transaction() as transaction:
            return [NamedRow(**row) for row in transaction.fetch_dicts(sql.NAMED, selection.values())]

    def released(self) -> list[ReleasedClaim]:
        """Return what this run has claimed and released."""
        with self._transaction() as transaction:
            return [ReleasedClaim(*row) for row in transaction.fetch_all(sql.RELEASED_BY_RUN)]

    def with_older_request(self, requests: Iterable[JobRequest]) -> set[Key]:
        """Return those of these requests whose request_id an older row has, too: their files would have the same names."""
        keys = keys_as_arrays(request.key for request in requests)
        with self._transaction() as transaction:
            return {(tag, request_id) for tag, request_id in transaction.fetch_all(sql.WITH_OLDER_REQUEST, keys)}

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

    def request_id_exists(self, request_id: str) -> bool:
        """Tell whether any row has this request id, whatever its tag."""
        with self._transaction() as transaction:
            return bool(transaction.fetch_value(locking.REQUEST_ID_EXISTS, {"request_id": request_id}))

    # Submit and claim

    def submit(self, *, tag: str, request_id: str, data: str, by: str, channel: str, batch_number: int | None) -> None:
        """Submit a request, as the exhaust API does; data: its request_data, as JSON."""
        values = {"tag": tag, "request_id": request_id, "data": data, "by": by, "channel": channel}
        with self._transaction() as transaction:
            missing_columns(transaction)  # a table that is missing, or another one, has a message
            if batch_number is None:
                transaction.execute(sql.SUBMIT, values)
            else:
                transaction.execute(sql.SUBMIT_WITH_BATCH_NUMBER, values | {"batch_number": batch_number})

    def claim(self, selection: Selection) -> Claimed:
        """Claim what is pending; fail the requests whose runs were lost too often.

        With `force`, the packages of previous runs are forgotten: every batch is made again, by this run or a later one.
        """
        values = selection.values()
        with self._transaction() as transaction:
            keys: list[Any] = transaction.fetch_all(sql.LOCK_PENDING, values)
            free, lost = release_lost(transaction, selection.ended_runs, keys)
            exhausted = fail_exhausted(transaction, free)
            transaction.execute(sql.RESET_LIST_ATTEMPT)
            self._take(transaction, [key for key in free if key not in exhausted], forget_packages=selection.force)
            held = self._held(transaction, duplicates=True)
        return Claimed(held, Ended({ClaimOutcome.FAILED: len(exhausted)}), lost)

    def reclaim_unfinished(self) -> list[Holder]:
        """Claim again what this run held and did not complete: its tasks were cleared.

        Returns the other runs that hold some of it now.
        """
        with self._transaction() as transaction:
            rows = transaction.fetch_all(sql.HOLDERS, keys_as_arrays(self._reclaim(transaction)))
            holders = [holder_of(transaction, row) for row in rows]
            return [one for one in holders if not (one.is_ours and one.run_id == self.run_id)]

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

        Raises ClaimLostError if another run holds it, and RequestDeletedError if its row was deleted.
        """
        if not batch.request_id:
            return
        with self._transaction() as transaction:
            check_row_exists(transaction, batch.request_key)
            if not holds(transaction, batch.request_key):
                keys: list[Any] = transaction.fetch_all(sql.CLAIMS_OF_BATCH, batch_values(batch))
                self._take(transaction, keys)
                # Ask again: another batch of this run may have claimed it meanwhile.
                check_holder(transaction, batch.request_key)

    # End

    def complete_batch(
        self,
        batch: Batch,
        *,
        object_key: str,
        size_bytes: int,
        sha256: str | None = None,
        protection_level: str | None = None,
    ) -> Ended:
        """Enter a published batch in its request. If no other batch is unfinished, the request is SUCCESS.

        Returns the requests that ended: none, unless it was the last batch. Raises RequestDeletedError if the row was deleted.
        """
        done = batch_values(batch) | {
            "size_bytes": size_bytes,
            "object_key": object_key,
            "sha256": sha256,
            "protection_level": protection_level,
        }
        with self._transaction() as transaction:
            if not batch.request_id:
                transaction.execute(ending_sql.COMPLETE_BATCH, done)
                return Ended()
            before = lock_request(transaction, batch.request_key)
            check_row_exists(transaction, batch.request_key)
            check_holder(transaction, batch.request_key)
            check_task_attempt(transaction, batch, Stage.MARK_COMPLETE)
            transaction.execute(ending_sql.COMPLETE_BATCH, done)
            entry = {
                "channel": batch.channel,
                "batchId": batch.batch_id,
                "filePath": object_key,
                "fileSize": size_bytes,
            }
            processed = [one for one in parse_processed(before) if one.get("batchId") != batch.batch_id] + [entry]
            progress = read_progress(transaction, batch.request_key, processed)
            ending = decide_ending(progress)
            if ending.outcome == ClaimOutcome.SUCCESS:
                return end_request(transaction, batch.request_key, progress, ending)
            set_processed(transaction, batch.request_key, progress.processed)
            return Ended()

    def settle(self, tag: str, request_id: str, *, list_needs_operator: bool = False) -> tuple[Ending, Ended]:
        """End a request whose tasks have all ended, as the ledger says; return how, and how many requests ended."""
        with self._transaction() as transaction:
            key = tag, request_id
            progress = read_progress(transaction, key, parse_processed(lock_request(transaction, key)))
            ending = decide_ending(progress, list_needs_operator=list_needs_operator)
            return ending, end_request(transaction, key, progress, ending)

    # Inside a transaction

    def _take(self, transaction: Transaction, keys: Iterable[Key], *, forget_packages: bool = False) -> None:
        """Claim those of these requests that no run holds."""
        wanted = keys_as_arrays(keys)
        transaction.execute(locking.LOCK_REQUESTS, wanted)
        taken: list[Any] = transaction.fetch_all(sql.TAKE, wanted)
        if forget_packages:
            transaction.execute(sql.FORGET_PACKAGES, keys_as_arrays(taken))
        transaction.execute(sql.START, keys_as_arrays(taken))

    def _reclaim(self, transaction: Transaction) -> list[Key]:
        """Claim again what this run held and did not complete, if no run holds it; return all of it."""
        keys: list[Any] = transaction.fetch_all(sql.UNFINISHED_CLAIMS)
        self._take(transaction, keys)
        return keys

    def _held(self, transaction: Transaction, *, duplicates: bool) -> list[JobRequest]:
        return [parse_job_request(row) for row in transaction.fetch_all(sql.HELD, {"duplicates": duplicates})]
