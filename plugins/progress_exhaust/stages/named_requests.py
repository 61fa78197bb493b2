"""The requests that a run names in its Param request_ids, and why it cannot claim some of them."""

from typing import TYPE_CHECKING

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.models import RequestStatus
from progress_exhaust.report.request import MAX_FAILURES
from progress_exhaust.stages.batch_context import Log
from progress_exhaust.stages.selection import BACKFILL, is_next_run
from progress_exhaust.stages.site_setup import RunParams, Site

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.requests.models import Holder, NamedRow, Selection

MAX_REASONS = 20  # that a message has


def check_named_requests(context: "Context", site: Site, params: RunParams, selection: "Selection", log: Log) -> None:
    """Log why the run cannot claim some of the named requests.

    The days of a backfill have the same Params, and a next run has what another run left: others may have taken their requests.

    Raises SetupError if a request does not exist, or if a run of its own can claim none of them.
    """
    unknown, reasons = find_reasons(site, params, selection)
    for request_id, reason in (unknown | reasons).items():
        log.warning("Request %s: %s", request_id, reason)
    if is_next_run(context["run_id"]):
        return
    alone = context["dag_run"].run_type != BACKFILL
    if unknown or (alone and reasons.keys() >= set(selection.request_ids)):
        texts = [f"{request_id}: {reason}" for request_id, reason in (unknown | reasons).items()]
        more = [f"and {len(texts) - MAX_REASONS} more"] if len(texts) > MAX_REASONS else []
        raise SetupError(f"Param request_ids: {'; '.join(texts[:MAX_REASONS] + more)}. This run has claimed nothing")


def find_reasons(site: Site, params: RunParams, selection: "Selection") -> tuple[dict[str, str], dict[str, str]]:
    """Return the named ids that are not those of a request, and the requests that the run cannot claim, each with the reason.

    What this run has claimed before, and was cleared, is not among them.
    """
    claims = site.claims()
    pending = set(claims.pending_ids(selection))
    left = [request_id for request_id in dict.fromkeys(selection.request_ids) if request_id not in pending]
    if not left:
        return {}, {}
    rows = claims.named_rows(selection)
    holders = {holder.request_id: holder for holder in site.releases().holders(left)}
    would_release = {one for one in holders if params.release_claims and params.dry_run and not holders[one].is_ours}
    unknown, reasons = {}, {}
    for request_id in left:
        found = [row for row in rows if row.request_id == request_id]
        own = [row for row in found if row.is_of_this_job]
        if not own:
            jobs = ", ".join(sorted({row.job_id for row in found}))
            unknown[request_id] = (
                f"it belongs to the job {jobs}" if jobs else f"table {site.settings.job_request_table} has no such request"
            )
        elif not any(row.claimed_by_this_run for row in own) and request_id not in would_release:
            reasons[request_id] = "; ".join(dict.fromkeys(_reason(site, row, holders.get(request_id)) for row in own))
    return unknown, reasons


def _reason(site: Site, row: "NamedRow", holder: "Holder | None") -> str:
    """Return why the run cannot claim a request of this job."""
    settings = site.settings
    if not row.in_channels:
        return f"the setting channels does not have its channel {row.channel}"
    if not row.in_batch_number:
        return f"the setting batch_number is {settings.batch_number}, and its batch_number is another one"
    if holder:
        how_to_release = (
            f". If that installation is shut down, release the request: `make release REQUEST={row.request_id}`, or the Param "
            "release_claims"
        )
        return f"it is held by {holder}{'' if holder.is_ours else how_to_release}"
    if row.status == RequestStatus.SUCCESS:
        return "it is finished (SUCCESS). The Param force makes it again"
    if row.status == RequestStatus.FAILED and row.cancelled:
        return "a person has cancelled it. The Param force makes it again"
    if row.status == RequestStatus.FAILED and row.failures >= MAX_FAILURES:
        return f"it has failed {row.failures} times. The Param force makes it again"
    if not row.in_time:
        return "it was submitted after the day of this backfill"
    if row.status == RequestStatus.PROCESSING:
        return (
            "it is PROCESSING, and no run holds it: another program may be making it. A run takes it "
            f"{settings.abandoned_processing_hours} hours after it was submitted (setting abandoned_processing_hours)"
        )
    return f"its status is {row.status}, and another run may be claiming it. Start this run again later"
