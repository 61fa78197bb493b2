"""What comes next for a batch and for a request: the page and the command line say the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from progress_exhaust.docs_links import docs_page
from progress_exhaust.hooks.requests.models import BatchState, RequestStatus
from progress_exhaust.report.request import MAX_FAILURES

if TYPE_CHECKING:
    from progress_exhaust.hooks.requests.status import RequestDetails

RESUBMIT = "No run tries it again by itself. Do what the error says, then submit the request again."
# A newer version of this package may have written a state that is not here.
OF_STATES: Mapping[str, str] = {
    BatchState.WAITING: "Its run has not started it yet.",
    BatchState.RUNNING: "Its run is making it. If the run has ended, look at the run's tasks.",
    BatchState.DONE: "Its file is in the reports container.",
    BatchState.DEFERRED: "A limit of the settings was reached. A later run makes it.",
    BatchState.REJECTED: RESUBMIT,
}


def next_step(request: "RequestDetails", state: str) -> str:
    """Return what comes next for a batch of the request in this state; empty for an unknown state."""
    if state != BatchState.FAILED:
        return OF_STATES.get(state, "")
    clear = docs_page("how-to/runbook", "rerun-one-stage-of-one-batch")
    repair = f"fix the error, then clear this stage of the batch and its downstream tasks: {clear}"
    if request.status == RequestStatus.PROCESSING:
        return f"Its run may try it again. If the run has ended: {repair}"
    if request.status == RequestStatus.FAILED and request.failures < MAX_FAILURES:
        return f"The next run tries it again. To make it now: {repair}"
    return f"{repair[0].upper()}{repair[1:]}"


def why_no_batches(request: "RequestDetails") -> str:
    """Return why the ledger has no batch of the request, and what comes next."""
    if request.status == RequestStatus.FAILED:
        if request.permanent or request.failures >= MAX_FAILURES:
            return f"It has no batches: it was ended before a run listed them. {RESUBMIT}"
        if request.claim_run_id is None:
            return "Another program has set it to FAILED before a run has listed its batches. The next run tries again."
        return "A run could not list its batches, for the reason in the error. The next run tries again."
    if request.status == RequestStatus.SUBMITTED and request.claim_run_id is not None:
        return "A run could not list its batches. The next run tries again."
    return "No run has listed its batches yet."
