"""Finds out which batches the run's requests are made of."""

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from progress_exhaust.errors import SetupError
from progress_exhaust.operators.selection import dead_runs, selection
from progress_exhaust.operators.site_operator import RunParams, Site, SiteOperator
from progress_exhaust.operators.stage import FACTS_FILE

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.job_requests import RequestsHook
    from progress_exhaust.report.plan import Plan
    from progress_exhaust.report.request import JobRequest


class ListBatchesOperator(SiteOperator):
    """Returns one small dict a batch, ids only; a request that no retry can mend is FAILED here, at once."""

    def work(self, context: "Context", site: Site, params: RunParams) -> list[dict[str, str]]:
        from progress_exhaust.report.plan import Catalogue, Limits, duplicates, plan

        requests = site.requests()
        held = [self._with_files(site, request) for request in self._requests(context, requests, site, params)]
        shared = duplicates(held)
        settings = site.settings
        limits = Limits(settings.batches_per_request, settings.batches_per_channel, settings.batches_per_run)
        with site.learner_tables() as tables, site.content_api() as content:
            catalogue = Catalogue(tables.batches, tables.batches_of_collections, content.collections, content.search)
            planned = plan([request for request in held if request.key not in shared], catalogue, limits, force=params.force)
        self._tell(planned)
        if params.dry_run:
            self._leave_facts(site, planned)
        else:
            self._enter(requests, planned, shared)
            with requests.pinned_list():
                self._leave_facts(site, planned)
        return [batch.to_dict() for batch, _ in planned.to_make]

    def _requests(self, context: "Context", requests: "RequestsHook", site: Site, params: RunParams) -> "list[JobRequest]":
        from progress_exhaust.report.request import JobRequest

        if params.batch_ids:
            data = json.dumps({"batchFilter": list(params.batch_ids)})
            return [JobRequest("", "", data, "", "", None, ())]
        if params.dry_run:
            return requests.pending(selection(context, site, params, dead_runs(context, site)))
        return requests.requests_to_list()

    def _with_files(self, site: Site, request: "JobRequest") -> "JobRequest":
        """Count as finished only what can still be downloaded: retention may have removed a file since."""
        if not request.processed:
            return request
        store = site.store()
        return replace(request, processed=tuple(one for one in request.processed if store.holds(str(one.get("filePath")))))

    def _tell(self, planned: "Plan") -> None:
        for (_, request_id), message in planned.rejected.items():
            if not request_id:
                raise SetupError(f"Param batch_ids: {message}")
            self.log.warning("Request %s: FAILED: %s", request_id, message)
        for request in planned.finished:
            self.log.info("Request %s: SUCCESS: its batches were all made before", request.request_id)
        for batch, _ in planned.deferred:
            self.log.info("Waits for the next run, by a limit of the settings: %s", batch)
        for batch, _ in planned.to_make:
            self.log.info("To make: %s", batch)

    def _enter(self, requests: "RequestsHook", planned: "Plan", shared: "dict[tuple[str, str], str]") -> None:
        requests.list_batches(
            [batch for batch, _ in planned.to_make],
            [batch for batch, _ in planned.deferred],
            twins=shared.items(),
            refused=planned.rejected.items(),
            finished=planned.finished,
        )

    def _leave_facts(self, site: Site, planned: "Plan") -> None:
        from progress_exhaust.hooks.report_store import write_whole

        store = site.store()
        if planned.to_make:
            store.keep_staging_private(site.run_id)
        for batch, facts in planned.to_make:
            with store.telling_staging():
                write_whole(store.batch_folder(site.run_id, batch) / FACTS_FILE, json.dumps(asdict(facts)).encode())
