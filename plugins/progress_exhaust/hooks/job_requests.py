"""The former names of `hooks.requests`, for callers that still use them. It counts ended requests in the metrics."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from progress_exhaust import metrics
from progress_exhaust.hooks.requests.claims import LOST_TOO_OFTEN, Claims
from progress_exhaust.hooks.requests.ledger import Ledger
from progress_exhaust.hooks.requests.locks import Locks
from progress_exhaust.hooks.requests.models import PROGRESS_KEYS, BatchRun, ClaimOutcome, Key, Selection
from progress_exhaust.report.request import Batch, JobRequest

__all__ = ["LOST_TOO_OFTEN", "PROGRESS_KEYS", "BatchRun", "RequestsHook", "Selection"]


class RequestsHook(Claims, Ledger, Locks):
    """The claims, the ledger and the locks of one run, in one object."""

    def __init__(
        self, *, run_id: str, job_request_table: str, ledger_schema: str, try_number: int = 1, timeout_seconds: float = 60
    ) -> None:
        super().__init__(
            run_id=run_id,
            job_request_table=job_request_table,
            ledger_schema=ledger_schema,
            task_attempt=try_number,
            timeout_seconds=timeout_seconds,
        )

    def claim(self, selection: Selection) -> list[JobRequest]:  # type: ignore[override]
        claimed = super().claim(selection)
        metrics.requests_ended(claimed.ended)
        return claimed.requests

    def list_batches(  # type: ignore[override]
        self,
        to_make: Iterable[Batch],
        deferred: Iterable[Batch],
        *,
        twins: Iterable[tuple[Key, str]] = (),
        refused: Iterable[tuple[Key, str]] = (),
        finished: Iterable[JobRequest] = (),
    ) -> None:
        ended = super().list_batches(to_make, deferred, duplicates=twins, rejected=refused, finished=finished)
        metrics.requests_ended(ended)

    def complete(self, batch: Batch, *, object_key: str, size_bytes: int) -> bool:
        ended = self.complete_batch(batch, object_key=object_key, size_bytes=size_bytes)
        metrics.requests_ended(ended)
        return ended[ClaimOutcome.SUCCESS] > 0

    def fail(self, tag: str, request_id: str, message: str) -> None:  # type: ignore[override]
        metrics.requests_ended(super().fail(tag, request_id, message))

    def give_back(self, tag: str, request_id: str) -> None:
        metrics.requests_ended(self.requeue(tag, request_id))

    def retake(self) -> dict[str, str]:
        return self.reclaim_unfinished()

    def held_without_twins(self) -> list[JobRequest]:
        return self.held_without_duplicates()

    def hold(self, batch: Batch) -> None:
        self.ensure_claim(batch)

    def pinned(self, batch: Batch) -> AbstractContextManager[None]:
        return self.lock_claim(batch)

    def pinned_try(self, batch: Batch, stage: str) -> AbstractContextManager[None]:
        return self.lock_task_attempt(batch, stage)

    def pinned_list(self) -> AbstractContextManager[None]:
        return self.lock_list()

    def alone(self, work: str) -> AbstractContextManager[None]:
        return self.exclusive_lock(work)

    def left_by_others(self) -> list[tuple[str, Batch]]:
        return self.unfinished_in_other_runs()
