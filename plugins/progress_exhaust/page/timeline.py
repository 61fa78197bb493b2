"""What happened to a request, in the order of time: submitted, claimed, listed, each stage, and how it ended."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from progress_exhaust.hooks.requests.models import BATCH_STAGES, ClaimOutcome, RequestStatus, describe_other
from progress_exhaust.hooks.requests.status import ClaimDetails
from progress_exhaust.page.batch_tasks import BatchTask, Tasks
from progress_exhaust.page.request_view import RequestView

CLAIM_ENDS = {
    ClaimOutcome.SUCCESS: "Published",
    ClaimOutcome.FAILED: "Failed",
    ClaimOutcome.SUBMITTED: "Put back, for the next run",
    ClaimOutcome.LOST: "The run ended without a result",
    ClaimOutcome.RELEASED: "Claim released by a person",
    ClaimOutcome.CANCELLED: "Cancelled by a person",
}


@dataclass(frozen=True)
class Event:
    """One event, or a stage, which takes some time.

    :param at: when it happened or started; None if it is not known
    :param until: when a stage ended; None while it runs, or for an event
    :param run_id: the run that it names
    :param has_run: whether Airflow still has that run
    """

    title: str
    at: datetime | None
    until: datetime | None = None
    text: str = ""
    run_id: str | None = None
    has_run: bool = False


def make_timeline(view: RequestView, claims: Sequence[ClaimDetails], tasks: Tasks) -> list[Event]:
    """Return the events of a request. The stages are those of its last run, as far as Airflow has their tasks."""
    request = view.request
    events = [Event("Submitted", request.submitted_at)] if not request.run_id and request.submitted_at else []
    for claim in claims[:-1]:
        events += [*_claimed(claim, view, is_last=False), *_claim_end(claim)]
    for claim in claims[-1:]:
        events += _claimed(claim, view, is_last=True)
    events += _of_last_run(view, tasks)
    if claims:
        return events + _claim_end(claims[-1])
    if view.finished and request.completed_at:
        events.append(Event("Published" if request.status == RequestStatus.SUCCESS else "Failed", request.completed_at))
    return events


def _claimed(claim: ClaimDetails, view: RequestView, *, is_last: bool) -> list[Event]:
    if not claim.run_id:  # a person has cancelled the request before a run claimed it
        return []
    where = "" if claim.is_ours else describe_other(claim.installation, claim.claimed_at)
    return [Event("Claimed", claim.claimed_at, None, where, claim.run_id, is_last and view.run_state is not None)]


def _claim_end(claim: ClaimDetails) -> list[Event]:
    if claim.released_at is None:
        return []
    ends = {str(outcome): text for outcome, text in CLAIM_ENDS.items()}
    return [Event(ends.get(claim.outcome or "", claim.outcome or ""), claim.released_at)]


def _of_last_run(view: RequestView, tasks: Tasks) -> list[Event]:
    """Return when the last run listed the batches, and when it ran each stage."""
    batches = [one.batch for one in view.batches if one.batch.run_id == view.run_id]
    if not batches:
        return []
    events = [Event("Batches listed", min(one.listed_at for one in batches), None, _count(len(batches)))]
    for stage in BATCH_STAGES:
        of_stage = [task for one in batches if (task := tasks.get((one.run_id, one.batch_id, stage))) is not None]
        started = [task.started_at for task in of_stage if task.started_at]
        if started:
            events.append(Event(str(stage), min(started), _end(of_stage), _states(of_stage)))
    return events


def _end(tasks: Iterable[BatchTask]) -> datetime | None:
    """Return when the last of these tasks ended; None if one has not."""
    ends = [task.ended_at for task in tasks]
    return max((end for end in ends if end), default=None) if all(ends) else None


def _states(tasks: Sequence[BatchTask]) -> str:
    states = Counter(task.state or "cleared" for task in tasks)
    if set(states) == {"success"}:
        return _count(len(tasks))
    return ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in states.items())


def _count(batches: int) -> str:
    return f"{batches:,} batch{'' if batches == 1 else 'es'}"
