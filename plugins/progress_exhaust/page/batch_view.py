"""What the page shows of one batch: its row in the ledger, joined with the state of its run in Airflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from progress_exhaust.hooks.requests.models import BATCH_STAGES, BatchState, Stage
from progress_exhaust.hooks.requests.status import BatchDetails
from progress_exhaust.names import ENDED_RUN_STATES
from progress_exhaust.page.progress import ACTIVITIES, BatchProgress, batch_progress_text, batch_seconds_left, batch_share
from progress_exhaust.report.excluded import CONTENT_COUNTS
from progress_exhaust.report.excluded import EXCLUDED as EXCLUSION_REASONS

INTERRUPTED = "interrupted"  # the run has ended, and the batch has not recorded how it ended
STATE_LABELS: Mapping[str, str] = {
    BatchState.WAITING: "Waiting",
    BatchState.RUNNING: "In progress",
    BatchState.DONE: "Ready",
    BatchState.DEFERRED: "Waits for a later run",
    BatchState.REJECTED: "Not possible",
    BatchState.FAILED: "Failed",
    INTERRUPTED: "Interrupted",
}
UNFINISHED = (BatchState.WAITING, BatchState.RUNNING)
AFTER_FETCH_HIERARCHY = BATCH_STAGES[1:]
# States of a task of Airflow that has not ended.
WAITING_FOR_SLOT = ("scheduled", "queued")
WAITING_FOR_RETRY = ("up_for_retry", "up_for_reschedule", "restarting")


@dataclass(frozen=True)
class BatchView:
    """One batch of a request.

    :param run_state: state of the batch's run in Airflow; None if the run was deleted, or is in another installation
    :param map_index: map index of the batch's tasks; None if Airflow does not have it
    :param task_state: state in Airflow of that task of the batch that has not ended; None without one, or if it is not known
    """

    batch: BatchDetails
    run_state: str | None
    map_index: int | None = None
    task_state: str | None = None

    @property
    def state(self) -> str:
        # The state of a run of another installation is not known here.
        ended = self.batch.is_ours and (self.run_state is None or self.run_state in ENDED_RUN_STATES)
        return INTERRUPTED if ended and self.batch.state in UNFINISHED else self.batch.state

    @property
    def label(self) -> str:
        """Return the state as the page shows it. A newer version of this package may have written an unknown one."""
        return STATE_LABELS.get(self.state, self.state)

    @property
    def learners(self) -> tuple[int, int]:
        """Return how many learners extract has read, and how many are enrolled; 0 and 0 until they are counted."""
        enrolled = self.batch.counts.get("enrolled", 0)
        return (enrolled if self._extracted == 1 else min(self.batch.counts.get("learners_done", 0), enrolled)), enrolled

    @property
    def _extracted(self) -> float:
        """Return the progress of extract, 0 to 1. While an earlier stage runs again, extract has to run again, too."""
        extracted = Stage.EXTRACT in self.batch.seconds and self.batch.stage in AFTER_FETCH_HIERARCHY
        if self.batch.state == BatchState.DONE or extracted:
            return 1
        return self.batch.counts.get("percent", 0) / 100

    @property
    def is_retried(self) -> bool:
        """Tell whether a stage failed, and Airflow tries it again in the same run."""
        return self.state == BatchState.FAILED and self.task_state is not None

    @property
    def progress(self) -> BatchProgress:
        """Return how far the batch is in its run, which has not ended."""
        if self.state == BatchState.DONE:
            return BatchProgress(share=1, is_made=True)
        if self.state not in UNFINISHED and not self.is_retried:
            return BatchProgress(share=1)
        batch = self.batch
        return BatchProgress(
            share=batch_share(batch.stage, batch.seconds, batch.counts.get("percent", 0)),
            activity=ACTIVITIES.get(batch.stage) if self._is_running else None,
            waits_for_slot=self.task_state in WAITING_FOR_SLOT,
            waits_for_retry=self.task_state in WAITING_FOR_RETRY,
            seconds_left=self.seconds_left,
        )

    @property
    def _is_running(self) -> bool:
        """Tell whether a stage runs. A task that was killed waits, and the batch has not recorded that."""
        return self.state == BatchState.RUNNING and self.task_state not in (*WAITING_FOR_SLOT, *WAITING_FOR_RETRY)

    @property
    def progress_text(self) -> str:
        return batch_progress_text(self.progress)

    @property
    def seconds_left(self) -> int | None:
        """Return an estimate of the batch's remaining time; None without one, or if it does not run."""
        if not self._is_running:
            return None
        left = batch_seconds_left(self.batch.stage, self.batch.seconds, self.batch.counts)
        return left if left is None else max(0, round(left - (datetime.now(UTC) - self.batch.changed_at).total_seconds()))

    @property
    def excluded(self) -> dict[str, int]:
        """Return the number of excluded learners per reason, as the page names the reason."""
        if "reported" not in self.batch.counts:  # not counted yet
            return {}
        return {text: self.batch.counts.get(reason.count_name, 0) for reason, text in EXCLUSION_REASONS.items()}

    @property
    def content_counts(self) -> dict[str, int]:
        """Return what is unusual about the scores and contents, as the page names it."""
        return {text: self.batch.counts.get(name, 0) for name, text in CONTENT_COUNTS.items()}

    @property
    def notes(self) -> list[str]:
        """Return what a reader of the file should know."""
        counts, notes = self.batch.counts, []
        if counts.get("csv_instead_of_xlsx"):
            notes.append("a csv, because it has more rows or columns than Excel can open")
        if counts.get("cut_cells"):
            notes.append(f"{counts['cut_cells']:,} cells are cut to the longest text that Excel can open")
        return notes

    @property
    def seconds(self) -> float:
        return sum(self.batch.seconds.values())

    @property
    def stages(self) -> list[tuple[Stage, float | None]]:
        """Return each stage and its seconds; None if it has not finished."""
        return [(stage, self.batch.seconds.get(stage)) for stage in BATCH_STAGES]

    @property
    def file_name(self) -> str | None:
        return self.batch.object_key and PurePosixPath(self.batch.object_key).name

    @property
    def stage_to_rerun(self) -> str | None:
        """Return the stage to clear, together with its downstream tasks; None if there is nothing to run again."""
        if self.state not in (BatchState.FAILED, INTERRUPTED) or self.run_state is None or self.map_index is None:
            return None
        return self.batch.stage if self.batch.stage in BATCH_STAGES else BATCH_STAGES[0]
