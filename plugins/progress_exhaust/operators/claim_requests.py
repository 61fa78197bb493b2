"""Takes the pending requests for this run."""

from typing import TYPE_CHECKING

from progress_exhaust import metrics
from progress_exhaust.operators.selection import dead_runs, selection
from progress_exhaust.operators.site_operator import RunParams, Site, SiteOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

FOUND = "found"  # XCom key: how many requests were pending


class ClaimRequestsOperator(SiteOperator):
    """Claims each pending request, so that no other run works on it; returns the ids of all that this run holds."""

    def work(self, context: "Context", site: Site, params: RunParams) -> list[str]:
        requests = site.requests()
        requests.prepare()
        if params.batch_ids:
            return []
        dead = dead_runs(context, site)
        chosen = selection(context, site, params, dead)
        found = requests.count_pending(chosen)
        context["ti"].xcom_push(key=FOUND, value=found)
        if found > chosen.most:
            self.log.warning("%d requests are pending, and a run takes %d: the rest waits for the next", found, chosen.most)
        if params.dry_run:
            held = requests.pending(chosen)
        else:
            if dead:
                self.log.warning("Taking over what runs that are over still hold: %s", ", ".join(dead))
            for request_id, run_id in requests.retake().items():
                self.log.warning("Request %s is held by run %s: this run changes nothing of it", request_id, run_id)
            held = requests.claim(chosen)
            self._remove_staging(site, dead)
            metrics.oldest_pending(requests.oldest_pending_seconds(chosen))  # what the claim has left
        missing = set(params.request_ids) - {request.request_id for request in held}
        if missing:
            self.log.warning("Not pending, unknown, or held by another run: %s", ", ".join(sorted(missing)))
        self.log.info("This run %s %d requests", "would claim" if params.dry_run else "holds", len(held))
        return [request.request_id for request in held]

    def _remove_staging(self, site: Site, dead: list[str]) -> None:
        """Remove what dead runs left in staging: their requests start anew."""
        from progress_exhaust.hooks.report_store import remove_folder

        store = site.store()
        for run_id in dead:
            remove_folder(store.run_folder(run_id))
