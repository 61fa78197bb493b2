"""Claim the pending requests for this run."""

from typing import TYPE_CHECKING

from progress_exhaust import metrics
from progress_exhaust.names import XCOM_REQUESTS_FOUND
from progress_exhaust.stages.airflow_runs import find_ended_runs
from progress_exhaust.stages.base_operator import BaseTaskOperator
from progress_exhaust.stages.selection import select_requests
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.stages.staging_cleanup import StagingCleanup

if TYPE_CHECKING:
    from airflow.sdk import Context


class ClaimRequestsOperator(BaseTaskOperator):
    """Claim each pending request, so that no other run works on it; return the ids of all requests that this run holds."""

    def run(self, context: "Context", site: Site, params: RunParams) -> list[str]:
        claims = site.claims()
        site.ledger().prepare()
        if params.dry_run:
            site.write_check().check_rights()
        if params.batch_ids:
            return []
        ended_runs = find_ended_runs(context, site)
        selection = select_requests(context, site, params, ended_runs)
        found = claims.count_pending(selection)
        context["ti"].xcom_push(key=XCOM_REQUESTS_FOUND, value=found)
        if found > selection.most:
            self.log.warning("requests found=%d limit=%d: the other requests wait for the next run", found, selection.most)
        if params.dry_run:
            held = claims.pending(selection)
        else:
            if ended_runs:
                self.log.warning("Reclaiming what ended or deleted runs still hold: %s", ", ".join(ended_runs))
            for request_id, run_id in claims.reclaim_unfinished().items():
                self.log.warning("Request %s is held by run %s: this run does not change it", request_id, run_id)
            claimed = claims.claim(selection)
            metrics.requests_ended(claimed.ended)
            held = claimed.requests
            cleanup = StagingCleanup(site, self.log)
            for run_id in ended_runs:  # their requests start again
                cleanup.delete(run_id, [site.store().run_folder(run_id)])
            metrics.oldest_pending(claims.oldest_pending_seconds(selection))  # what the claim has left
        missing = set(params.request_ids) - {request.request_id for request in held}
        if missing:
            self.log.warning("Not pending, unknown, or held by another run: %s", ", ".join(sorted(missing)))
        self.log.info("requests found=%d %s=%d", found, "would_be_claimed" if params.dry_run else "claimed", len(held))
        return [request.request_id for request in held]
