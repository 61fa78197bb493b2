"""The ledger: our own tables, which record what each run did about each batch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from progress_exhaust.hooks.requests.connection import batch_values
from progress_exhaust.hooks.requests.endings import fail_unlisted, finish_request, reject_request, set_processed
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection, create_ledger, missing_columns
from progress_exhaust.hooks.requests.locks import check_list_attempt, check_task_attempt, stage_lost
from progress_exhaust.hooks.requests.models import (
    PROGRESS_KEYS,
    BatchRun,
    BatchState,
    Ended,
    Key,
    Stage,
    key_values,
    keys_as_arrays,
    storable,
)
from progress_exhaust.report.plan import FileKey
from progress_exhaust.report.request import Batch, BatchFacts, JobRequest, object_key_ending
from progress_exhaust.sql import claims as claim_sql
from progress_exhaust.sql import ledger as sql
from progress_exhaust.sql import locks as locking

MAX_NAME_CHARACTERS = 500  # the page shows names in a line


class Ledger(LedgerConnection):
    """What each run did about each batch."""

    def prepare(self) -> list[str]:
        """Create or upgrade our tables, unless they are current; check the columns of job_request.

        A dry run takes back what it creates. Return the optional columns that job_request lacks: they count as null.
        """
        with self._transaction() as transaction:
            missing = missing_columns(transaction)
            if not transaction.ledger_is_current():
                transaction.execute(sql.LOCK_LEDGER)
                if not transaction.ledger_is_current():  # ask again: another run may have made it meanwhile, and use it now
                    create_ledger(transaction)
        return missing

    def unadopted_runs(self) -> list[str]:
        """Return the runs of an earlier version, which noted no installation, that still hold a request."""
        with self._transaction() as transaction:
            return [run_id for (run_id,) in transaction.fetch_all(sql.UNADOPTED_RUNS)]

    def adopt(self, run_ids: Iterable[str]) -> None:
        """Note that these runs of an earlier version belong to this installation."""
        values = {"run_ids": list(run_ids)}
        with self._transaction() as transaction:
            transaction.execute(sql.ADOPT_CLAIMS, values)
            transaction.execute(sql.ADOPT_BATCH_RUNS, values)

    def list_batches(
        self,
        to_make: Iterable[Batch],
        deferred: Iterable[Batch],
        *,
        not_made: Iterable[tuple[Batch, str]] = (),
        duplicates: Iterable[tuple[Key, str]] = (),
        rejected: Iterable[tuple[Key, str]] = (),
        failed: Iterable[tuple[Key, bool]] = (),
        same_request_id: Iterable[tuple[Key, str]] = (),
        finished: Iterable[JobRequest] = (),
        batch_ids: Mapping[Key, Sequence[str]] | None = None,
        processed: Mapping[Key, Sequence[Mapping[str, Any]]] | None = None,
        facts: Mapping[Batch, BatchFacts] | None = None,
    ) -> tuple[Ended, set[Key]]:
        """Enter what the run does about its requests, completely or not at all.

        Returns how many ended now, and how; and the requests that this run no longer holds, or whose rows were deleted. Nothing
        is entered for them.

        to_make, deferred: the batches that the run makes, and those that its requests have to wait for
        not_made: the batches with a permanent error, each with the message for the requester
        duplicates: requests that share the outcome of another, each with the id of that one
        rejected: requests that can never be met, which are FAILED now, each with the message for the requester
        failed: requests that could not be listed, which are FAILED now; and whether only an operator can correct that
        same_request_id: requests with the request_id of an older one, which are FAILED now
        finished: requests whose files earlier runs have made, which are SUCCESS now
        batch_ids: all batches of a request, in its order
        processed: the finished batches of a request, where they are fewer than its row says
        facts: what is known about a batch: its names are entered, for the page
        Raises ClaimLostError if a newer attempt has made the list.
        """
        entries = [
            *((batch, BatchState.WAITING, None) for batch in to_make),
            *((batch, BatchState.DEFERRED, None) for batch in deferred),
            *((batch, BatchState.REJECTED, message) for batch, message in not_made),
        ]
        duplicates, rejected, failed, finished = list(duplicates), list(rejected), list(failed), list(finished)
        same_request_id = list(same_request_id)
        ending = [key for key, _ in (*rejected, *failed, *same_request_id)] + [request.key for request in finished]
        of_batches = [batch.request_key for batch, _, _ in entries if batch.request_id]  # a standalone run has no request
        keys = list(dict.fromkeys([*of_batches, *ending, *(key for key, _ in duplicates)]))
        ended = Ended()
        with self._transaction() as transaction:
            transaction.execute(locking.LOCK_REQUESTS, keys_as_arrays(keys))
            check_list_attempt(transaction)
            held: list[Any] = transaction.fetch_all(claim_sql.HELD_KEYS, keys_as_arrays(keys))
            dropped = {*keys}.difference(held)
            dropped_ids = {request_id for _, request_id in dropped}
            transaction.execute(claim_sql.CLEAR_DUPLICATES)
            # Before the duplicates are marked: a mark names a request_id alone.
            for key, message in same_request_id:
                if key not in dropped:
                    ended += reject_request(transaction, key, message, forget_packages=True)
            for key, duplicate_of in duplicates:
                if key not in dropped and duplicate_of not in dropped_ids:
                    transaction.execute(claim_sql.MARK_DUPLICATE, key_values(key) | {"duplicate_of": duplicate_of})
            transaction.execute(sql.DELETE_UNFINISHED_BATCHES, keys_as_arrays([*of_batches, *ending]))
            transaction.execute_many(
                sql.LIST_BATCH,
                (
                    batch_values(batch) | _names((facts or {}).get(batch)) | {"state": state, "error": error and storable(error)}
                    for batch, state, error in entries
                    if batch.request_key not in dropped
                ),
            )
            transaction.execute_many(
                claim_sql.SET_BATCH_IDS,
                (
                    key_values(key) | {"batch_ids": [storable(one) for one in ids]}
                    for key, ids in (batch_ids or {}).items()
                    if key not in dropped
                ),
            )
            for key, still_there in (processed or {}).items():
                set_processed(transaction, key, still_there)
            for key, message in rejected:
                if key not in dropped:
                    ended += reject_request(transaction, key, message)
            for key, needs_operator in failed:
                if key not in dropped:
                    ended += fail_unlisted(transaction, key, needs_operator=needs_operator)
            for request in finished:
                if request.key not in dropped:
                    ended += finish_request(transaction, request)
            transaction.execute(sql.MARK_LIST_ATTEMPT)
        return ended, dropped

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
        permanent: bool = False,
    ) -> None:
        """Record the state of a batch. Raises ClaimLostError if a newer attempt of the stage has started.

        permanent: no retry fixes the error
        counts: added to the earlier ones; while a stage runs, the earlier PROGRESS_KEYS are removed
        """
        values = batch_values(batch) | {
            "stage": stage,
            "state": state,
            "counts": json.dumps(counts or {}),
            "progress_keys": list(PROGRESS_KEYS),
            "seconds": json.dumps({} if seconds is None else {stage: round(seconds, 3)}),
            "size_bytes": size_bytes,
            "error": error and storable(error),
            "permanent": permanent,
        }
        with self._transaction() as transaction:
            # A batch that is not in the ledger at all is one of a dry run.
            if not transaction.execute(sql.RECORD, values) and transaction.fetch_all(sql.BATCH_RUN, values):
                raise stage_lost(transaction, batch, stage)

    def batch_run(self, batch: Batch) -> BatchRun | None:
        """Return what the ledger says about one batch of this run; None if it is not there, as in a dry run."""
        with self._transaction() as transaction:
            rows = transaction.fetch_all(sql.BATCH_RUN, batch_values(batch))
            return BatchRun.from_row(rows[0]) if rows else None

    def run_batches(self) -> list[BatchRun]:
        """Return what the ledger says about the batches of this run."""
        with self._transaction() as transaction:
            return [BatchRun.from_row(row) for row in transaction.fetch_all(sql.RUN_BATCHES)]

    def same_batch_in_other_requests(self, batch: Batch) -> list[BatchRun]:
        """Return what the ledger says about this batch in other requests of this run for the same org."""
        with self._transaction() as transaction:
            return [BatchRun.from_row(row) for row in transaction.fetch_all(sql.SAME_BATCH, batch_values(batch))]

    def batches_of_day(self, channels: Iterable[str], day: date) -> dict[str, set[FileKey]]:
        """Return the batches that some orgs have got with the reports of a day, or that other runs are making for them."""
        found: dict[str, set[FileKey]] = {}
        values = {"channels": sorted(set(channels)), "day_ending": object_key_ending(day)}
        with self._transaction() as transaction:
            for channel, request_id, batch_id in transaction.fetch_all(sql.BATCHES_OF_DAY, values):
                found.setdefault(channel, set()).add((request_id, batch_id))
        return found

    def over_bytes_of_day(self, channels: Iterable[str], day: date, limit_bytes: int) -> set[FileKey]:
        """Return the batches that a run of this day has deferred because of their size, if they still do not fit.

        To make them again only to find this out would take minutes of every run.
        """
        values = {"channels": sorted(set(channels)), "day_ending": object_key_ending(day), "limit_bytes": limit_bytes}
        with self._transaction() as transaction:
            return set(transaction.fetch_all(sql.OVER_BYTES_OF_DAY, values))

    def unfinished_in_other_runs(self) -> list[tuple[str, Batch]]:
        """Return what other runs of this installation left unfinished of the requests that this run brought to SUCCESS.

        Each batch comes with the id of its run.
        """
        with self._transaction() as transaction:
            return [(run_id, Batch(*batch)) for run_id, *batch in transaction.fetch_all(sql.UNFINISHED_IN_OTHER_RUNS)]

    def reserve_bytes(self, batch: Batch, size_bytes: int, limit_bytes: int, day: date) -> int | None:
        """Record the size of a package before it is published, unless its channel would exceed its limit for the day.

        Packages that are published at the same time count each other. The first package of a channel is never over the limit.
        Returns None if there is room, else the bytes that the channel has already.
        """
        values = batch_values(batch) | {"size_bytes": size_bytes, "day_ending": object_key_ending(day)}
        with self._transaction() as transaction:
            transaction.execute(
                locking.WAIT_FOR_EXCLUSIVE_LOCK,
                {"work": f"progress_exhaust {self.installation} bytes of {batch.channel}"},
            )
            check_task_attempt(transaction, batch, Stage.PACKAGE)
            published = int(transaction.fetch_value(sql.CHANNEL_BYTES, values))
            if batch.request_id and published and published + size_bytes > limit_bytes:
                return published
            transaction.execute(sql.RESERVE_BYTES, values)
        return None

    def free_bytes(self, batch: Batch) -> None:
        """Forget the size of a package that could not be published."""
        with self._transaction() as transaction:
            transaction.execute(sql.RESERVE_BYTES, batch_values(batch) | {"size_bytes": None})


def _names(facts: BatchFacts | None) -> dict[str, str | None]:
    """Return the names of a batch and of its collection as values of a statement; null where they are not known."""
    names = {
        "collection_name": facts.collection_name if facts else None,
        "batch_name": facts.batch_name if facts else None,
    }
    return {column: name and storable(name)[:MAX_NAME_CHARACTERS] for column, name in names.items()}
