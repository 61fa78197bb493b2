"""What the tasks tell Airflow's own metrics (StatsD or OpenTelemetry, where the site has set them up in Airflow).

docs/signals.md lists every name. Names hold outcomes, stages and reasons, never an id: how many there are does not grow.
"""

from collections.abc import Mapping

from progress_exhaust import compat

PREFIX = "progress_exhaust"
OUTCOMES = {"SUCCESS": "succeeded", "FAILED": "failed", "SUBMITTED": "deferred"}  # of a request, by its status then
LEFT_OUT = "left_out."


def requests_ended(outcomes: Mapping[str, int]) -> None:
    """Count requests by the status that a run has given them."""
    for outcome, number in outcomes.items():
        if number:
            compat.increment_metric(f"{PREFIX}.requests.{OUTCOMES[outcome]}", number)


def oldest_pending(age_seconds: float) -> None:
    """Say how long the oldest request has waited that the next run may take; 0: none waits."""
    compat.set_metric(f"{PREFIX}.oldest_pending_seconds", round(age_seconds))


def batch_ended(state: str) -> None:
    """Count a batch that is done, deferred or refused, or an attempt at one that failed."""
    compat.increment_metric(f"{PREFIX}.batches.{state}")


def stage_took(stage: str, seconds: float) -> None:
    compat.time_metric(f"{PREFIX}.stage_duration.{stage}", seconds)


def learners(counts: Mapping[str, int]) -> None:
    """Count the learners of a batch that is done: reported, and left out by reason."""
    compat.increment_metric(f"{PREFIX}.learners", counts.get("reported", 0))
    for name, number in counts.items():
        if name.startswith(LEFT_OUT):
            compat.increment_metric(f"{PREFIX}.{name}", number)
