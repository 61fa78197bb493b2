"""What the page shows of one batch: its row in the ledger, joined with the state of its run in Airflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from progress_exhaust.hooks.requests.models import BATCH_STAGES, BatchState, Stage
from progress_exhaust.hooks.requests.status import BatchDetails
from progress_exhaust.names import ENDED_RUN_STATES
from progress_exhaust.report.excluded import CONTENT_COUNTS
from progress_exhaust.report.excluded import EXCLUDED as EXCLUSION_REASONS

INTERRUPTED = "interrupted"  # the run has ended, and the batch has not recorded how it ended
STATE_LABELS: Mapping[str, str] = {state.value: state.value for state in BatchState} | {
    BatchState.DEFERRED.value: "waits for a later run"
}
UNFINISHED = (BatchState.WAITING, BatchState.RUNNING)
AFTER_FETCH_HIERARCHY = BATCH_STAGES[1:]
EXTRACT_SHARE = 0.95  # extract takes nearly all of a batch's time, and only extract reports its progress


@dataclass(frozen=True)
class BatchView:
    """One batch of a request.

    :param run_state: state of the batch's run in Airflow; None if the run was deleted, or is in another installation
    :param map_index: map index of the batch's tasks; None if Airflow does not have it
    """

    batch: BatchDetails
    run_state: str | None
    map_index: int | None = None

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
    def share(self) -> float:
        """Return how much of the batch is done, 0 to 1."""
        return 1 if self.batch.state == BatchState.DONE else EXTRACT_SHARE * self._extracted

    @property
    def seconds_left(self) -> int | None:
        """Return extract's estimate of its remaining time; None if it has not reported one."""
        left = self.batch.counts.get("seconds_left")
        if self.state != BatchState.RUNNING or self.batch.stage != Stage.EXTRACT or left is None:
            return None
        return max(0, round(left - (datetime.now(UTC) - self.batch.changed_at).total_seconds()))

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
