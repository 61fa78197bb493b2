"""How the work of a run on a request ends, and what the requester reads. This module imports no driver.

One batch never fails another. A request with a finished package is SUCCESS if the errors of its other batches are permanent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from progress_exhaust.hooks.requests.models import BatchRun, BatchState, ClaimOutcome
from progress_exhaust.report.request import MAX_FAILURES

TRIED_AGAIN = "could not be made this time. The next run tries again, up to three times in all"
DEFERRED = "waits for a later run, because of a limit"
LAST_ATTEMPT = "could not be made in three attempts. Submit the request again"
NEEDS_OPERATOR = "cannot be made until an operator corrects the installation. After that, the next run makes it"
LIST_AGAIN = "could not be listed this time. The next run tries again, up to three times in all"
LAST_LIST = "could not be listed in three attempts. Submit the request again"
NEEDS_OPERATOR_TO_LIST = "cannot be listed until an operator corrects the installation. After that, the next run tries again"
NOT_LISTED = "The batches of the request could not be listed this time. The next run tries again"
SAME_REQUEST_ID = "An older request has the same request_id. Submit this request again under another request_id"
MAX_IDS = 20  # that a message names for one reason

Processed = Sequence[Mapping[str, Any]]  # entries of processed_batches


@dataclass(frozen=True)
class Ending:
    """How the work of a run on a request ends."""

    outcome: ClaimOutcome
    message: str | None = None
    counts_attempt: bool = False  # add 1 to iteration
    permanent: bool = False  # no run tries the request again, until it is submitted again


@dataclass(frozen=True)
class RequestProgress:
    """How far a request has come in this run."""

    batch_ids: Sequence[str]  # all batches, in the request's order; empty if no list was made
    batches: Sequence[BatchRun]  # of this run, in that order
    processed: Processed  # in that order; entries of unknown batches are last
    attempts_left: bool  # the request may fail once more after this run

    @property
    def finished(self) -> set[str]:
        """Return the batches that have a package. Entries of batches that the request no longer names do not count."""
        made = {str(entry.get("batchId")) for entry in self.processed if has_package(entry)}
        return made & set(self.batch_ids) if self.batch_ids else made

    @property
    def forgotten(self) -> set[str]:
        """Return the batches whose packages no longer count, because a claim with `force` forgot them.

        This run has made them, or an earlier one has, so that this run did not list them.
        """
        made = {run.batch_id for run in self.batches if run.state == BatchState.DONE}
        not_listed = set(self.batch_ids) - {run.batch_id for run in self.batches}
        return ((made & set(self.batch_ids) if self.batch_ids else made) | not_listed) - self.finished

    @property
    def total(self) -> int:
        return len({*self.batch_ids, *(run.batch_id for run in self.batches), *self.finished})


def decide_ending(progress: RequestProgress, *, list_needs_operator: bool = False) -> Ending:
    """Decide how a request ends whose tasks have all ended.

    :param list_needs_operator: no retry fixes why the batches could not be listed
    """
    if not progress.batch_ids and not progress.batches:
        needs_operator = f"The batches of the request {NEEDS_OPERATOR_TO_LIST}"
        return Ending(ClaimOutcome.SUBMITTED, needs_operator if list_needs_operator else NOT_LISTED)
    failed = [run for run in progress.batches if run.state not in (BatchState.DONE, BatchState.DEFERRED, BatchState.REJECTED)]
    rejected = [run for run in progress.batches if run.state == BatchState.REJECTED and run.batch_id not in progress.finished]
    deferred = [run for run in progress.batches if run.state == BatchState.DEFERRED]
    if failed and deferred and not progress.attempts_left:  # a deferred batch still gets its first attempt
        return Ending(ClaimOutcome.SUBMITTED, describe(progress, [*failed, *rejected, *deferred]))
    if failed:
        counts_attempt = any(not run.permanent for run in failed)
        return Ending(ClaimOutcome.FAILED, describe(progress, [*failed, *rejected]), counts_attempt=counts_attempt)
    if deferred:
        return Ending(ClaimOutcome.SUBMITTED)
    if progress.forgotten:
        return Ending(ClaimOutcome.SUBMITTED, NOT_LISTED)
    if progress.finished:
        return Ending(ClaimOutcome.SUCCESS, describe(progress, rejected) if rejected else None)
    return Ending(ClaimOutcome.FAILED, describe(progress, rejected), permanent=True)


def describe(progress: RequestProgress, not_made: Sequence[BatchRun]) -> str:
    """Return which batches were not made, and why: each reason once, with the number of its batches.

    A batch that was made before and is not made now, in a rerun, is not made.
    """
    made = progress.finished - {run.batch_id for run in not_made}
    groups: dict[str, list[str]] = {}
    for run in not_made:
        groups.setdefault(_reason(run, progress, some_made=bool(made)), []).append(run.batch_id)
    if made:
        parts = "; ".join(f"{list_ids(ids)}: {reason}" for reason, ids in groups.items())
        return f"Made {len(made)} of {progress.total} batches. Not made: {parts}"
    return "; ".join(f"{_name_batches(ids)} {reason}" for reason, ids in groups.items())


def without_untrue_promise(message: str, failures: int) -> str:
    """Return a request's message without the promise of a further attempt, if the request has had its last one."""
    if failures < MAX_FAILURES:
        return message
    return message.replace(TRIED_AGAIN, LAST_ATTEMPT).replace(LIST_AGAIN, LAST_LIST)


def has_package(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("batchId")) and str(entry.get("filePath") or "").endswith(".zip")


def _reason(run: BatchRun, progress: RequestProgress, *, some_made: bool) -> str:
    if run.state == BatchState.REJECTED:
        return str(run.error) if some_made else f"cannot be made: {run.error}"
    if run.state == BatchState.DEFERRED:
        return DEFERRED
    if run.permanent:
        return NEEDS_OPERATOR
    return TRIED_AGAIN if progress.attempts_left else LAST_ATTEMPT


def _name_batches(ids: Sequence[str]) -> str:
    return f"Batch {ids[0]}" if len(ids) == 1 else f"{len(ids)} batches ({list_ids(ids)})"


def list_ids(ids: Sequence[str]) -> str:
    """Return these ids as a text. Of many, return the first ones, and how many more there are."""
    more = f" and {len(ids) - MAX_IDS} more" if len(ids) > MAX_IDS else ""
    return ", ".join(ids[:MAX_IDS]) + more
