"""End the work of a run on a request, together with its duplicates: write the outcome, and release the claim."""

import json
from dataclasses import replace
from typing import Any

from progress_exhaust.hooks.requests.connection import Transaction
from progress_exhaust.hooks.requests.locks import check_row_exists, claim_lost, lock_request
from progress_exhaust.hooks.requests.models import (
    REJECTED,
    BatchRun,
    BatchState,
    ClaimOutcome,
    Ended,
    Key,
    key_values,
    parse_processed,
)
from progress_exhaust.hooks.requests.outcomes import (
    LAST_LIST,
    LIST_AGAIN,
    NEEDS_OPERATOR_TO_LIST,
    Ending,
    Processed,
    RequestProgress,
    describe,
    has_package,
)
from progress_exhaust.report.request import MAX_FAILURES, JobRequest
from progress_exhaust.sql import endings as sql
from progress_exhaust.sql import ledger as ledger_sql


def read_progress(transaction: Transaction, key: Key, processed: Processed) -> RequestProgress:
    """Return how far a request has come. Its row is locked."""
    values = key_values(key)
    rows = transaction.fetch_all(sql.CLAIM_PROGRESS, values)
    batch_ids, failures, failure_counted = rows[0] if rows else (None, 0, False)
    places = {batch_id: place for place, batch_id in enumerate(batch_ids or ())}
    batches = [BatchRun.from_row(row) for row in transaction.fetch_all(ledger_sql.REQUEST_BATCHES, values)]
    return RequestProgress(
        batch_ids=batch_ids or (),
        batches=sorted(batches, key=lambda run: places.get(run.batch_id, len(places))),
        processed=sorted(processed, key=lambda entry: places.get(str(entry.get("batchId")), len(places))),
        attempts_left=failures + (0 if failure_counted else 1) < MAX_FAILURES,
    )


def end_request(transaction: Transaction, key: Key, progress: RequestProgress, ending: Ending) -> Ended:
    """End a request and its duplicates in this run, and release their claims."""
    values = (
        key_values(key)
        | _processed_values(progress.processed)
        | {
            "message": ending.message and transaction.fit_message(ending.message),
            "counted": ending.counts_attempt,
            "permanent": ending.permanent,
            "outcome": ending.outcome,
        }
    )
    if ending.outcome == ClaimOutcome.SUCCESS:
        ended = transaction.fetch_all(sql.SUCCEED, values)
    elif ending.outcome == ClaimOutcome.FAILED:
        ended = transaction.fetch_all(sql.FAIL, values)
    else:
        ended = transaction.fetch_all(sql.REQUEUE, values)
    if key not in ended:
        check_row_exists(transaction, key)
        raise claim_lost(transaction, key)
    transaction.execute(sql.RELEASE, values)
    return Ended({REJECTED if ending.permanent else ending.outcome: len(ended)})


def set_processed(transaction: Transaction, key: Key, processed: Processed) -> None:
    """Enter the finished batches of a request that has not ended, and list their packages."""
    transaction.execute(sql.SET_PROCESSED, key_values(key) | _processed_values(processed))


def reject_request(transaction: Transaction, key: Key, message: str, *, forget_packages: bool = False) -> Ended:
    """Set a request to FAILED by a permanent error. It still offers the packages of its finished batches, unless forgotten."""
    progress = read_progress(transaction, key, parse_processed(lock_request(transaction, key)))
    if forget_packages:
        progress = replace(progress, processed=())
    return end_request(transaction, key, progress, Ending(ClaimOutcome.FAILED, message, permanent=True))


def fail_unlisted(transaction: Transaction, key: Key, *, needs_operator: bool) -> Ended:
    """Set a request to FAILED whose batches could not be listed."""
    progress = read_progress(transaction, key, parse_processed(lock_request(transaction, key)))
    reason = NEEDS_OPERATOR_TO_LIST if needs_operator else LIST_AGAIN if progress.attempts_left else LAST_LIST
    ending = Ending(ClaimOutcome.FAILED, f"The batches of the request {reason}", counts_attempt=not needs_operator)
    return end_request(transaction, key, progress, ending)


def finish_request(transaction: Transaction, request: JobRequest) -> Ended:
    """Set a request to SUCCESS whose batches previous runs have made, except those with a permanent error."""
    progress = read_progress(transaction, request.key, list(request.finished().values()))
    rejected = [run for run in progress.batches if run.state == BatchState.REJECTED]
    ending = Ending(ClaimOutcome.SUCCESS, describe(progress, rejected) if rejected else None)
    return end_request(transaction, request.key, progress, ending)


def _processed_values(processed: Processed) -> dict[str, Any]:
    """Return processed_batches, and the keys of the finished packages; null without a package."""
    urls = [str(entry["filePath"]) for entry in processed if has_package(entry)]
    return {"processed": json.dumps(list(processed)) if processed else None, "urls": urls or None}
