"""The ledger: our own tables, which record what each run did about each batch."""

import json
from collections.abc import Iterable, Mapping

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.claims import fail_request, mark_duplicates, succeed_request
from progress_exhaust.hooks.requests.connection import batch_values
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection, create_ledger
from progress_exhaust.hooks.requests.locks import attempt_replaced, check_holder, check_list_attempt
from progress_exhaust.hooks.requests.models import PROGRESS_KEYS, BatchRun, BatchState, Ended, Key, keys_as_arrays, storable
from progress_exhaust.report.request import Batch, JobRequest
from progress_exhaust.sql import ledger as sql
from progress_exhaust.sql import locks as locking


class Ledger(LedgerConnection):
    """What each run did about each batch."""

    def prepare(self) -> list[str]:
        """Create or upgrade our tables, unless they are current; check the columns of job_request.

        A dry run takes back what it creates. Return the optional columns that job_request lacks: they count as null.
        """
        with self._transaction() as transaction:
            columns = transaction.columns()
            if not columns:
                raise SetupError(
                    f"Postgres has no table {self._job_request}; set job_request_table in the Variable to the right name"
                )
            missing = [name for name in sql.JOB_REQUEST_COLUMNS if name not in columns]
            needed = [f"{name} ({sql.JOB_REQUEST_COLUMNS[name]})" for name in missing if name not in sql.OPTIONAL_COLUMNS]
            if needed:
                raise SetupError(
                    f"Postgres table {self._job_request} lacks {', '.join(needed)}, which the DAG needs. Set job_request_table "
                    "in the Variable to the table of the exhaust API that has it"
                )
            if not transaction.ledger_is_current():
                create_ledger(transaction)
        return missing

    def list_batches(
        self,
        to_make: Iterable[Batch],
        deferred: Iterable[Batch],
        *,
        duplicates: Iterable[tuple[Key, str]] = (),
        rejected: Iterable[tuple[Key, str]] = (),
        finished: Iterable[JobRequest] = (),
    ) -> Ended:
        """Enter what the run does about its requests, completely or not at all; return how many ended now, and how.

        to_make, deferred: the batches that the run makes, and those that its requests have to wait for
        duplicates: requests that share the outcome of another, each with the id of that one
        rejected: requests that can never be met, which are FAILED now, each with the message for the requester
        finished: requests whose files earlier runs have made, which are SUCCESS now
        Raises ClaimLostError if a newer attempt has made the list, or if another run holds a request.
        """
        states = [
            *((batch, BatchState.WAITING) for batch in to_make),
            *((batch, BatchState.DEFERRED) for batch in deferred),
        ]
        duplicates, rejected, finished = list(duplicates), list(rejected), list(finished)
        listed = list(dict.fromkeys(batch.request_key for batch, _ in states))
        others = [*(key for key, _ in rejected), *(request.key for request in finished), *(key for key, _ in duplicates)]
        ended = Ended()
        with self._transaction() as transaction:
            transaction.execute(locking.LOCK_REQUESTS, keys_as_arrays([*listed, *others]))
            check_list_attempt(transaction)
            for key in listed:
                if key[1]:  # a standalone run has no request
                    check_holder(transaction, key)
            mark_duplicates(transaction, duplicates)
            for key, message in rejected:
                ended += fail_request(transaction, key, message)
            for request in finished:
                ended += succeed_request(transaction, request.key, list(request.finished().values()))
            transaction.execute(sql.DELETE_UNFINISHED_BATCHES, keys_as_arrays(listed))
            for batch, state in states:
                transaction.execute(sql.LIST_BATCH, batch_values(batch) | {"state": state})
            transaction.execute(sql.MARK_LIST_ATTEMPT)
        return ended

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
        """Record the state of a batch. Raises ClaimLostError if a newer attempt of the stage has started.

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
        }
        with self._transaction() as transaction:
            # A batch that is not in the ledger at all is one of a dry run.
            if not transaction.execute(sql.RECORD, values) and transaction.fetch_all(sql.BATCH_RUN, values):
                raise attempt_replaced(transaction, f"{batch}: {stage}")

    def batch_run(self, batch: Batch) -> BatchRun | None:
        """Return what the ledger says about one batch of this run; None if it is not there, as in a dry run."""
        with self._transaction() as transaction:
            rows = transaction.fetch_all(sql.BATCH_RUN, batch_values(batch))
            return BatchRun.from_row(rows[0]) if rows else None

    def run_batches(self) -> list[BatchRun]:
        """Return what the ledger says about the batches of this run."""
        with self._transaction() as transaction:
            return [BatchRun.from_row(row) for row in transaction.fetch_all(sql.RUN_BATCHES)]

    def unfinished_in_other_runs(self) -> list[tuple[str, Batch]]:
        """Return what other runs left unfinished of the requests that this run brought to SUCCESS: run id and batch."""
        with self._transaction() as transaction:
            return [(run_id, Batch(*batch)) for run_id, *batch in transaction.fetch_all(sql.UNFINISHED_IN_OTHER_RUNS)]

    def channel_bytes(self, batch: Batch) -> int:
        """Return the bytes that this run has published for the batch's channel, without those of the batch itself."""
        with self._transaction() as transaction:
            return int(transaction.fetch_value(sql.CHANNEL_BYTES, batch_values(batch)))
