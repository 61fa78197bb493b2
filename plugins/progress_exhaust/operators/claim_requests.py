"""Claim the pending requests for this run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from progress_exhaust import metrics
from progress_exhaust.names import XCOM_REQUESTS_FOUND
from progress_exhaust.stages.airflow_runs import find_ended_runs, prepare_ledger
from progress_exhaust.stages.base_operator import BaseTaskOperator
from progress_exhaust.stages.named_requests import check_named_requests
from progress_exhaust.stages.other_installations import release_held_elsewhere
from progress_exhaust.stages.selection import select_requests
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.stages.staging_cleanup import StagingCleanup, by_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.requests.models import LostClaim


class ClaimRequestsOperator(BaseTaskOperator):
    """Claim each pending request, so that no other run works on it; return the ids of all requests that this run holds."""

    def run(self, context: "Context", site: Site, params: RunParams) -> list[str]:
        claims = site.claims()
        prepare_ledger(context, site)
        if params.dry_run:
            site.write_check().check_rights()
        if params.batch_ids:
            return []
        if params.release_claims:
            release_held_elsewhere(site, params, self.log)
        ended_runs = find_ended_runs(context, site)
        selection = select_requests(context, site, params, ended_runs)
        if params.request_ids:
            check_named_requests(context, site, params, selection, self.log)
        found = claims.count_pending(selection)
        context["ti"].xcom_push(key=XCOM_REQUESTS_FOUND, value=found)
        if found > selection.most:
            self.log.info("requests found=%d limit=%d: the next run takes the others", found, selection.most)
        if params.dry_run:
            held = claims.pending(selection)
        else:
            orphaned, ended = site.releases().release_orphaned(selection)
            for holder in claims.reclaim_unfinished():
                self.log.warning("Request %s is held by %s: this run does not change it", holder.request_id, holder)
            claimed = claims.claim(selection)
            metrics.requests_ended(ended + claimed.ended)
            held = claimed.requests
            for lost in claimed.lost:
                self.log.warning("Reclaimed request %s, which the ended or deleted run %s held", lost.request_id, lost.run_id)
            for lost in orphaned:
                self.log.warning(
                    "Released request %s, which the ended or deleted run %s held: its row was deleted or has ended, or this site "
                    "does not process it",
                    lost.request_id,
                    lost.run_id,
                )
            self._delete_staging(site, [*claimed.lost, *orphaned])
            metrics.oldest_pending(claims.oldest_pending_seconds(selection))  # what the claim has left
        self.log.info("requests found=%d %s=%d", found, "would_be_claimed" if params.dry_run else "claimed", len(held))
        return [request.request_id for request in held]

    def _delete_staging(self, site: Site, lost: "Sequence[LostClaim]") -> None:
        """Delete the staging of requests that ended runs held: they start again. Staging of the run's other requests stays."""
        from progress_exhaust.hooks.report_store import delete_empty_folder
        from progress_exhaust.report.request import is_id

        if not lost:
            return
        store, cleanup = site.store(), StagingCleanup(site, self.log)
        # A request with an id that is not valid has no folder: list_batches rejects it.
        claims = [claim for claim in lost if is_id(claim.request_id)]
        folders = by_run((claim.run_id, store.request_folder(claim.run_id, claim.tag, claim.request_id)) for claim in claims)
        still_holding = site.claims().holding_runs() if folders else []
        for run_id, of_run in folders.items():
            if run_id in still_holding:
                cleanup.delete(run_id, of_run)
                continue
            cleanup.delete(run_id, [*of_run, store.shared_folder(run_id)])
            with store.translate_store_errors():
                delete_empty_folder(store.run_folder(run_id))
