"""What the tasks tell Airflow's own metrics (StatsD or OpenTelemetry, where the site has set them up in Airflow).

docs/signals.md lists every name. Names hold outcomes, stages and reasons, never an id: how many there are does not grow.
"""

from collections.abc import Mapping
from datetime import timedelta

from airflow.sdk.observability import stats

from progress_exhaust.hooks.requests.models import ClaimOutcome

PREFIX = "progress_exhaust"
OUTCOMES = {ClaimOutcome.SUCCESS: "succeeded", ClaimOutcome.FAILED: "failed", ClaimOutcome.SUBMITTED: "deferred"}
EXCLUDED = "excluded."


def requests_ended(outcomes: Mapping[ClaimOutcome, int]) -> None:
    """Count requests by the outcome that a run has given them."""
    for outcome, number in outcomes.items():
        if number:
            stats.incr(f"{PREFIX}.requests.{OUTCOMES[outcome]}", number)


def oldest_pending(age_seconds: float) -> None:
    """Say how long the oldest request has waited that the next run may take; 0: none waits."""
    stats.gauge(f"{PREFIX}.oldest_pending_seconds", round(age_seconds))


def batch_ended(state: str) -> None:
    """Count a batch that is done, deferred or rejected, or an attempt at one that failed."""
    stats.incr(f"{PREFIX}.batches.{state}")


def stage_took(stage: str, seconds: float) -> None:
    stats.timing(f"{PREFIX}.stage_duration.{stage}", timedelta(seconds=seconds))


def learners(counts: Mapping[str, int]) -> None:
    """Count the learners of a batch that is done: reported, and excluded by reason."""
    stats.incr(f"{PREFIX}.learners", counts.get("reported", 0))
    for name, number in counts.items():
        if name.startswith(EXCLUDED):
            stats.incr(f"{PREFIX}.{name}", number)
