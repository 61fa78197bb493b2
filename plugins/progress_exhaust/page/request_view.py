"""What the page shows of one request: its row, its batches, and the state of its run in Airflow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from progress_exhaust.hooks.requests.models import BatchState, RequestStatus, describe_other
from progress_exhaust.hooks.requests.outcomes import without_untrue_promise
from progress_exhaust.hooks.requests.status import BatchDetails, RequestDetails
from progress_exhaust.names import ENDED_RUN_STATES
from progress_exhaust.page.batch_view import UNFINISHED, BatchView
from progress_exhaust.page.progress import BatchProgress, Progress, request_progress
from progress_exhaust.page.titles import Title, make_title

FINISHED = (RequestStatus.SUCCESS, RequestStatus.FAILED)

BatchKey = tuple[str, str, str, str]  # run id, tag, request id, batch id
TaskKey = tuple[str, int]  # run id, map index

_MADE = BatchProgress(share=1, is_made=True)


@dataclass(frozen=True)
class Run:
    """A run of the DAG in Airflow."""

    state: str
    layout: str | None = None  # the Param


@dataclass(frozen=True)
class NewRun:
    """The run that *Make again* starts. Its id is that of the request's state: the button cannot start two runs."""

    run_id: str
    is_active: bool  # it has started, and has not claimed the request yet


@dataclass(frozen=True)
class RequestView:
    """One request and its batches.

    :param run: the run that claimed the request last; None if it was deleted from Airflow, or is in another installation
    """

    request: RequestDetails
    batches: Sequence[BatchView]
    run: Run | None
    new_run: NewRun | None = None

    @property
    def run_state(self) -> str | None:
        return self.run.state if self.run else None

    @property
    def run_id(self) -> str | None:
        return self.request.run_id or self.request.claim_run_id

    @property
    def finished(self) -> bool:
        return self.request.status in FINISHED

    @property
    def held_elsewhere(self) -> bool:
        """Tell whether a run of another installation holds the request."""
        return self.request.held and not self.request.is_ours

    @property
    def holder(self) -> str | None:
        """Return which installation holds the request; None if no run does."""
        if not self.request.held or self.request.claimed_at is None:
            return None
        if self.request.is_ours:
            return "this installation"
        return (
            f"{describe_other(self.request.claim_installation or '', self.request.claimed_at)}, run {self.request.claim_run_id}"
        )

    @property
    def running(self) -> bool:
        """Tell whether a run of this DAG holds the request and has not ended."""
        held = self.request.status == RequestStatus.PROCESSING and (self.request.held or self.request.run_id)
        return bool(held) and self.run_state is not None and self.run_state not in ENDED_RUN_STATES

    @property
    def note(self) -> str | None:
        """Return why a PROCESSING request makes no progress."""
        if self.request.status != RequestStatus.PROCESSING or self.running or self.held_elsewhere:
            return None
        if self.request.run_id:
            return "the run that held it has ended"
        if self.request.held:
            return "the run that held it has ended; the next run claims it"
        return "no run of this DAG holds it; another program may be processing it"

    @property
    def age_seconds(self) -> float | None:
        """Return how long the request has waited; for a finished one, how long it took."""
        if self.request.submitted_at is None:
            return None
        end = self.request.completed_at if self.finished else None
        return ((end or datetime.now(UTC)) - self.request.submitted_at).total_seconds()

    @cached_property
    def _published(self) -> set[str]:
        """Return the batches with a file that counts.

        Any program may have made it. An older file does not count while a run makes the batch again, or if that run has failed.
        If the request is SUCCESS, its files count in any case: another program may have made them since.
        """
        made = {view.batch.batch_id for view in self.batches if view.batch.state == BatchState.DONE and not self._is_older(view)}
        others = self.request.processed if self.request.status == RequestStatus.SUCCESS else self.not_in_ledger
        return made | set(others)

    def _is_older(self, view: BatchView) -> bool:
        """Tell whether only an earlier run has made a batch: a run with `force` makes it again, has failed or was cancelled."""
        request = self.request
        of_another_run = not request.run_id and request.status != RequestStatus.SUCCESS and view.batch.run_id != self.run_id
        return of_another_run and view.batch.batch_id not in request.processed

    @property
    def files(self) -> list[BatchView]:
        """Return the batches with a file; older files are not those of the request."""
        return [view for view in self.batches if view.file_name and not self._is_older(view)]

    @property
    def done(self) -> int:
        """Return how many batches are done."""
        return len(self._published)

    @property
    def total(self) -> int:
        """Return the number of known batches; 0 if no run has listed them. A finished request has those that it names, too."""
        named = self.request.named if self.finished else ()
        return len(self._published | {view.batch.batch_id for view in self.batches} | set(named))

    @property
    def outcome(self) -> str:
        """Return how many batches have a file, and what became of the others.

        The text is empty if no run has listed them. A duplicate has no batches of its own.
        """
        if self.request.duplicate_of or not self.total:
            return ""
        missing = Counter(view.batch.state for view in self.batches if view.batch.batch_id not in self._published)
        failed = missing[BatchState.FAILED] + sum(missing[state] for state in UNFINISHED)  # the run has ended
        others = {"not possible": missing[BatchState.REJECTED], "failed": failed if self.finished else 0}
        return ", ".join([f"{self.done} of {self.total}", *(f"{number} {what}" for what, number in others.items() if number)])

    @cached_property
    def title(self) -> Title:
        return make_title((view.batch for view in self.batches), self.request.named)

    @property
    def error(self) -> str | None:
        return self.request.error and without_untrue_promise(self.request.error, self.request.failures)

    @property
    def not_in_ledger(self) -> list[str]:
        """Return the finished batches that the ledger does not have."""
        recorded = {view.batch.batch_id for view in self.batches}
        return [batch_id for batch_id in self.request.processed if batch_id not in recorded]

    @cached_property
    def progress(self) -> Progress:
        """Return how far the request is in the run that holds it."""
        return request_progress([*map(self._batch_progress, self.batches), *(_MADE for _ in self.not_in_ledger)])

    def _batch_progress(self, view: BatchView) -> BatchProgress:
        """Return how far a batch is. What an earlier run has not made is not finished: this run makes it again."""
        if view.batch.batch_id in self._published:
            return _MADE
        return view.progress if view.batch.run_id == self.run_id else BatchProgress()

    @property
    def percent(self) -> int:
        return self.progress.percent

    @property
    def seconds_left(self) -> float | None:
        return self.progress.seconds_left

    @cached_property
    def learners(self) -> tuple[int, int]:
        """Return how many learners extract has read, and how many are enrolled, in all batches."""
        learners = [view.learners for view in self.batches]
        return sum(done for done, _ in learners), sum(enrolled for _, enrolled in learners)

    @property
    def reported(self) -> int | None:
        """Return the number of rows in all reports; None if the ledger has no finished batch."""
        rows = [
            view.batch.counts.get("reported", 0)
            for view in self.batches
            if view.state == BatchState.DONE and not self._is_older(view)
        ]
        return sum(rows) if rows else None

    @cached_property
    def excluded(self) -> dict[str, int]:
        """Return the number of excluded learners per reason, in all batches."""
        total: Counter[str] = Counter()
        for view in self.batches:
            total.update(view.excluded)
        return dict(total)

    @property
    def size_bytes(self) -> int:
        return sum(view.batch.size_bytes or 0 for view in self.batches if not self._is_older(view))

    @property
    def seconds(self) -> float:
        return sum(view.seconds for view in self.batches)

    @property
    def make_again_params(self) -> dict[str, Any] | None:
        """Return the Params of a run that makes the request again; None while the request waits or is processed."""
        if not self.finished:
            return None
        if self.request.run_id:
            layout = {"layout": self.run.layout} if self.run and self.run.layout else {}
            return {"batch_ids": [view.batch.batch_id for view in self.batches]} | layout
        return {"request_ids": [self.request.request_id], "force": True}


def make_view(
    request: RequestDetails,
    batches: Sequence[BatchDetails],
    runs: Mapping[str, Run],
    map_indexes: Mapping[BatchKey, int],
    task_states: Mapping[TaskKey, str] | None = None,
) -> RequestView:
    """Join a request, its batches, their runs, map indexes and tasks that have not ended (see airflow_runs).

    Batches that the request no longer has do not count.
    """
    dropped = {batch.batch_id for batch in batches if not batch.is_listed}
    request = replace(request, processed=tuple(batch_id for batch_id in request.processed if batch_id not in dropped))
    states = {run_id: run.state for run_id, run in runs.items()}
    views = []
    for batch in batches:
        if not batch.is_listed:
            continue
        key = batch.run_id, request.tag, request.request_id, batch.batch_id
        map_index = map_indexes.get(key) if batch.is_ours else None
        task_state = None if map_index is None else (task_states or {}).get((batch.run_id, map_index))
        views.append(BatchView(batch, states.get(batch.run_id) if batch.is_ours else None, map_index, task_state))
    run = runs.get(request.run_id or request.claim_run_id or "") if request.is_ours else None
    if request.run_id and run and run.state not in ENDED_RUN_STATES:  # it may try a failed batch again
        request = replace(request, status=RequestStatus.PROCESSING, completed_at=None)
    return RequestView(request, views, run)
