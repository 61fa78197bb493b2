"""How much of a request is made: one number, for the bar, its text and the time left. Everything here is a pure function.

A batch is done to the share that its finished stages have of `STAGE_WEIGHTS`, plus the finished part of the running stage. It
never goes back within a task attempt. A batch that ended without a file counts as finished, but not as made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from progress_exhaust.hooks.requests.models import BATCH_STAGES, Stage
from progress_exhaust.page.formatting import format_duration

# How many percent of a batch's time a stage usually takes (benchmarks/README.md); small batches spend more on the short stages.
STAGE_WEIGHTS: Mapping[str, int] = {
    Stage.FETCH_HIERARCHY: 3,
    Stage.EXTRACT: 80,
    Stage.PIVOT: 10,
    Stage.PACKAGE: 5,
    Stage.MARK_COMPLETE: 2,
}
ACTIVITIES: Mapping[str, str] = {
    Stage.FETCH_HIERARCHY: "reading the course",
    Stage.EXTRACT: "extracting",
    Stage.PIVOT: "writing",
    Stage.PACKAGE: "packaging",
    Stage.MARK_COMPLETE: "finishing",
}


@dataclass(frozen=True)
class BatchProgress:
    """How far one batch is.

    :param share: from 0 to 1; 1 if it is finished
    :param is_made: it has its file
    :param activity: what its running stage does; None if no stage runs
    :param waits_for_slot: its next task waits for a slot of the pool, or for a worker
    :param waits_for_retry: its task failed, and Airflow tries it again
    :param seconds_left: estimate of its remaining time; None without one
    """

    share: float = 0.0
    is_made: bool = False
    activity: str | None = None
    waits_for_slot: bool = False
    waits_for_retry: bool = False
    seconds_left: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far a request is: the bar's value in percent, and the same as a text."""

    percent: int
    text: str
    seconds_left: float | None = None


def batch_share(stage: str, finished_stages: Mapping[str, float], percent: float) -> float:
    """Return how much of an unfinished batch is done, from 0 to 1.

    :param stage: the stage that runs, or that ran last
    :param finished_stages: the stages that have ended; those after `stage` are of an earlier attempt, and do not count
    :param percent: how much of that stage is done
    """
    if stage not in BATCH_STAGES:
        return 0.0
    before = sum(STAGE_WEIGHTS[one] for one in _before(stage))
    part = 1.0 if stage in finished_stages else min(max(percent, 0), 100) / 100
    return (before + STAGE_WEIGHTS[stage] * part) / 100


def batch_seconds_left(stage: str, seconds: Mapping[str, float], counts: Mapping[str, int]) -> float | None:
    """Return an estimate of the remaining seconds of an unfinished batch; None if nothing is known yet.

    :param seconds: of each finished stage
    :param counts: what the running stage has reported: its percent, and its seconds left
    """
    if stage not in BATCH_STAGES:
        return None
    percent, left = counts.get("percent", 0), counts.get("seconds_left")
    later = sum(STAGE_WEIGHTS[one] for one in BATCH_STAGES[BATCH_STAGES.index(Stage(stage)) + 1 :])
    if left is not None and stage not in seconds:
        whole_stage = left / (1 - percent / 100) if percent < 100 else 0
        return left + whole_stage * later / STAGE_WEIGHTS[stage]
    timed = [one for one in (*_before(stage), stage) if one in seconds]
    if Stage.EXTRACT not in timed:  # the time of a short stage says nothing about the long one
        return None
    rate = sum(seconds[one] for one in timed) / sum(STAGE_WEIGHTS[one] for one in timed)
    return rate * (later + (0 if stage in seconds else STAGE_WEIGHTS[stage]))


def request_progress(batches: Sequence[BatchProgress]) -> Progress:
    """Return how far a request is whose run has not ended."""
    if not batches:
        return Progress(0, "its batches are not listed yet")
    percent = _percent(batches)
    left = request_seconds_left(batches)
    made = f"{sum(batch.is_made for batch in batches)} of {len(batches)} batch{'' if len(batches) == 1 else 'es'}"
    return Progress(percent, f"{made} · {_describe(batches, percent, left)}", left)


def batch_progress_text(batch: BatchProgress) -> str:
    """Return how far one batch is, by the same rule."""
    return _describe([batch], _percent([batch]), batch.seconds_left)


def _percent(batches: Sequence[BatchProgress]) -> int:
    return int(100 * sum(batch.share for batch in batches) / len(batches) + 1e-9)  # 0.29 * 100 is less than 29


def _describe(batches: Sequence[BatchProgress], percent: int, seconds_left: float | None) -> str:
    running = Counter(batch.activity for batch in batches if batch.activity)
    activity = next((name for name in ACTIVITIES.values() if running[name]), "finishing" if percent == 100 else "")
    retries, waiting = sum(batch.waits_for_retry for batch in batches), sum(batch.waits_for_slot for batch in batches)
    parts = [
        f"{activity} {percent} %".strip(),
        f"{waiting} waiting for a slot" if waiting else "",
        f"{retries} to be tried again" if retries else "",
        format_estimate(seconds_left) if seconds_left else "",
    ]
    return " · ".join(part for part in parts if part)


def request_seconds_left(batches: Sequence[BatchProgress]) -> float | None:
    """Return an estimate of a request's remaining seconds; None without one of a running batch.

    Batches that have not started are taken to be as large as the mean of those that run, and to run as many at a time.
    """
    running = [(batch.seconds_left, batch.share) for batch in batches if batch.activity and batch.seconds_left is not None]
    if not running:
        return None
    whole = sum(left / (1 - share) for left, share in running if share < 1) / len(running)
    left_in_all = sum((1 - batch.share) * whole for batch in batches if not batch.activity)
    return max(max(left for left, _ in running), (sum(left for left, _ in running) + left_in_all) / len(running))


def format_estimate(seconds: float) -> str:
    """Return an estimate, rounded so that it does not jump: to a minute, from ten minutes on to 5, from an hour on to 30."""
    if seconds < 50:
        return "less than a minute"
    step_minutes = 1 if seconds < 600 else 5 if seconds < 3600 else 30
    minutes = step_minutes * max(1, round(seconds / 60 / step_minutes))
    return f"about {f'{minutes} min' if minutes < 60 else format_duration(60 * minutes)}"


def _before(stage: str) -> tuple[Stage, ...]:
    return BATCH_STAGES[: BATCH_STAGES.index(Stage(stage))]
