"""What the buttons of a request send. Each right is checked again where the call arrives."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from progress_exhaust.hooks.requests.models import BATCH_STAGES, RequestStatus
from progress_exhaust.hooks.requests.status import RequestDetails
from progress_exhaust.page.batch_tasks import Tasks, retried_task
from progress_exhaust.page.batch_view import BatchView
from progress_exhaust.page.request_view import RequestView

ID_DIGITS = 20


@dataclass(frozen=True)
class Rerun:
    """The call that runs the failed stages of some batches again, and the stages after them."""

    run_id: str
    batches: int
    body: dict[str, Any]


def first_run_id(request: RequestDetails) -> str:
    """Return the id of the run that makes a request again. It changes when the request is claimed or submitted again.

    So Airflow refuses a second run for the same state of the request.
    """
    state = (request.tag, request.request_id, request.run_id, request.claim_run_id, request.claimed_at, request.submitted_at)
    return _run_id(repr([str(part) for part in state]))


def next_run_id(run_id: str) -> str:
    """Return the id of the next run, after the run with this id has ended without a claim."""
    return _run_id(run_id)


def rerun_failed(batches: Iterable[BatchView], tasks: Tasks) -> list[Rerun]:
    """Return the calls that run all failed batches again, one for each run; those that Airflow tries again do not count."""
    of_runs: dict[str, list[tuple[str, int]]] = {}
    for view in batches:
        stage, index = view.stage_to_rerun, view.map_index
        if stage and index is not None and not retried_task(view, tasks):
            of_runs.setdefault(view.batch.run_id, []).append((stage, index))
    return [
        Rerun(run_id, len(failed), _clear(run_id, [one for stage, index in failed for one in _from(stage, index)]))
        for run_id, failed in of_runs.items()
    ]


def may_be_cancelled(view: RequestView) -> bool:
    """Tell whether a person can cancel the request: it waits, or a run of this installation holds it."""
    request = view.request
    if request.run_id:
        return False
    return request.status == RequestStatus.SUBMITTED or (
        request.status == RequestStatus.PROCESSING and request.held and request.is_ours
    )


def _run_id(text: str) -> str:
    return f"manual__again_{sha256(text.encode()).hexdigest()[:ID_DIGITS]}"


def _from(stage: str, index: int) -> list[list[Any]]:
    """Return a stage of a batch and those after it, as Airflow's API names them."""
    return [[f"batch.{one}", index] for one in BATCH_STAGES[BATCH_STAGES.index(stage) :]]


def _clear(run_id: str, task_ids: list[Any]) -> dict[str, Any]:
    return {
        "dry_run": False,
        "dag_run_id": run_id,
        "task_ids": [*task_ids, "settle_requests"],
        "only_failed": False,
        "reset_dag_runs": True,
    }
