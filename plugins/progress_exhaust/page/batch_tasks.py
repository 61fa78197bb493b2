"""The tasks of a batch in Airflow, as the page uses them: when a stage ran, and whether Airflow tries it again by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from progress_exhaust.hooks.requests.models import BatchState
from progress_exhaust.names import ENDED_RUN_STATES
from progress_exhaust.page.batch_view import WAITING_FOR_RETRY, BatchView

# States of a task that Airflow does not start again by itself.
ENDED_TASK_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")


@dataclass(frozen=True)
class BatchTask:
    """One task of a batch.

    :param state: of Airflow; None if it was cleared, and is not scheduled yet
    :param retry_at: when Airflow tries it again; None if it does not wait for that, or if the time is not known
    """

    state: str | None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    retry_at: datetime | None = None


Tasks = Mapping[tuple[str, str, str], BatchTask]  # by run id, batch id and stage


def retried_task(view: BatchView, tasks: Tasks) -> BatchTask | None:
    """Return the stage of a batch that failed or was killed, if Airflow tries it again, or a person has cleared it; else None."""
    batch = view.batch
    task = tasks.get((batch.run_id, batch.batch_id, batch.stage))
    is_active = view.run_state is not None and view.run_state not in ENDED_RUN_STATES
    if task is None or not is_active:
        return None
    is_failed = view.state == BatchState.FAILED and task.state not in ENDED_TASK_STATES
    is_killed = view.state == BatchState.RUNNING and task.state in WAITING_FOR_RETRY
    return task if is_failed or is_killed else None
