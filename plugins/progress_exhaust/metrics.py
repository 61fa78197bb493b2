"""Metrics of the tasks, sent through Airflow's own metrics (StatsD or OpenTelemetry, if the site has set them up).

docs/reference/signals.md lists every name, deploy/monitoring/ has those in Prometheus. A name contains an outcome, a stage or a
reason, but never an id. So the number of metrics does not grow.
"""

from collections.abc import Mapping

from progress_exhaust import compat
from progress_exhaust.hooks.requests.models import REJECTED, ClaimOutcome

PREFIX = "progress_exhaust"
OUTCOME_NAMES: Mapping[str, str] = {
    ClaimOutcome.SUCCESS: "succeeded",
    ClaimOutcome.FAILED: "failed",
    REJECTED: "rejected",
    ClaimOutcome.SUBMITTED: "deferred",
}
EXCLUDED = "excluded."  # prefix of the counts of excluded learners, before the reason


def requests_ended(outcomes: Mapping[str, int]) -> None:
    """Count the requests that a run has finished, per outcome."""
    for outcome, number in outcomes.items():
        if number:
            compat.increment_metric(f"{PREFIX}.requests.{OUTCOME_NAMES[outcome]}", number)


def oldest_pending(age_seconds: float) -> None:
    """Set the age of the oldest request that the next run may take. It is 0 if no request waits."""
    compat.set_metric(f"{PREFIX}.oldest_pending_seconds", round(age_seconds))


def undeleted_staging(folders: int | None) -> None:
    """Set how many folders with learner data stay in staging because the store did not delete them. None: not known."""
    if folders is not None:
        compat.set_metric(f"{PREFIX}.undeleted_staging_folders", folders)


def old_staging(folders: int | None) -> None:
    """Set how many ended runs have staging that retention should have deleted. None: not known."""
    if folders is not None:
        compat.set_metric(f"{PREFIX}.old_staging_folders", folders)


def batch_ended(state: str) -> None:
    """Count a batch that is done, deferred or rejected, or a failed attempt of a batch."""
    compat.increment_metric(f"{PREFIX}.batches.{state}")


def stage_took(stage: str, seconds: float) -> None:
    """Record how long a stage of a batch took."""
    compat.time_metric(f"{PREFIX}.stage_duration.{stage}", seconds)


def learners(counts: Mapping[str, int]) -> None:
    """Count the learners of a finished batch: the reported ones, and the excluded ones per reason."""
    compat.increment_metric(f"{PREFIX}.learners", counts.get("reported", 0))
    for name, number in counts.items():
        if name.startswith(EXCLUDED) and number:
            compat.increment_metric(f"{PREFIX}.{name}", number)
