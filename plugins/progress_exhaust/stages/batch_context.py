"""One batch of a run, and everything that a stage needs to work on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from progress_exhaust.hooks.requests.models import BatchState, Stage
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.staging.batch_folder import BatchFolder

if TYPE_CHECKING:
    from progress_exhaust.hooks.requests.claims import Claims
    from progress_exhaust.hooks.requests.ledger import Ledger
    from progress_exhaust.hooks.requests.locks import Locks
    from progress_exhaust.hooks.requests.models import BatchRun
    from progress_exhaust.report.request import Batch


class Log(Protocol):
    """The log of a task; Airflow's logger and Python's both fit."""

    def info(self, message: Any, /, *args: Any) -> Any: ...
    def warning(self, message: Any, /, *args: Any) -> Any: ...


@dataclass(frozen=True)
class BatchContext:
    """One batch, in one attempt of one task."""

    site: Site
    params: RunParams
    batch: "Batch"
    day: date  # of the report's file name
    staging: BatchFolder
    claims: "Claims"
    ledger: "Ledger"
    locks: "Locks"
    log: Log
    stage: Stage
    started: float = field(default_factory=monotonic)  # when the task attempt started, in seconds of `monotonic`

    def for_batch(self, batch: "Batch") -> "BatchContext":
        """Return the context of another batch of the same run."""
        return replace(self, batch=batch, staging=self.site.batch_folder(batch, self.stage, self.params))

    def is_from_today(self, instant: datetime) -> bool:
        """Tell whether an instant is from this day in the report time zone: facts of older days are not mixed in."""
        zone = ZoneInfo(self.site.settings.report_timezone)
        return instant.astimezone(zone).date() == datetime.now(UTC).astimezone(zone).date()

    def same_batch_in_other_requests(self) -> "list[BatchRun]":
        """Return the same batch in other requests of the run for the same org: one extract serves all of them."""
        return self.ledger.same_batch_in_other_requests(self.batch)

    def report_progress(self, counts: Mapping[str, int]) -> None:
        """Write counts into the ledger while the stage is running."""
        self.ledger.record(self.batch, stage=self.stage, state=BatchState.RUNNING, counts=counts)
