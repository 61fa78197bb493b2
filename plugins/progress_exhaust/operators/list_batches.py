"""Find out which batches the requests of the run ask for."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from progress_exhaust import metrics
from progress_exhaust.airflow_names import AirflowNotFoundException
from progress_exhaust.errors import ProgressExhaustError, SetupError
from progress_exhaust.hooks.requests.outcomes import SAME_REQUEST_ID
from progress_exhaust.names import XCOM_LIST_NEEDS_OPERATOR, XCOM_OVER_RUN_LIMIT, XCOM_REQUESTS_NOT_LISTED
from progress_exhaust.stages.airflow_runs import find_ended_runs
from progress_exhaust.stages.base_operator import BaseTaskOperator, needs_operator
from progress_exhaust.stages.selection import select_requests
from progress_exhaust.stages.site_setup import RunParams, Site, report_day
from progress_exhaust.staging.manifests import BatchManifest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
    from progress_exhaust.hooks.report_store import ReportStoreHook
    from progress_exhaust.hooks.requests.models import Key
    from progress_exhaust.report.plan import Plan
    from progress_exhaust.report.request import JobRequest


class ListBatchesOperator(BaseTaskOperator):
    """Return one small dict for each batch, ids only. A request with a permanent error is FAILED here, at once."""

    def run(self, context: "Context", site: Site, params: RunParams) -> list[dict[str, str]]:
        try:
            return self._list(context, site, params)
        except Exception as error:
            context["ti"].xcom_push(key=XCOM_LIST_NEEDS_OPERATOR, value=needs_operator(error))
            raise

    def _list(self, context: "Context", site: Site, params: RunParams) -> list[dict[str, str]]:
        from progress_exhaust.report.catalogue import Catalogue
        from progress_exhaust.report.plan import Limits, duplicates, plan

        requests, store = self._requests(context, site, params), site.store()
        same_request_id = site.claims().with_older_request(requests)
        self._log_same_request_id(same_request_id, dry_run=params.dry_run)
        requests = [request for request in requests if request.key not in same_request_id]
        held = [self._with_existing_files(store, request) for request in requests]
        shared = duplicates(held)
        settings = site.settings
        limits = Limits(settings.batches_per_request, settings.batches_per_channel, settings.batches_per_run)
        day = report_day(context, settings)
        channels = {request.requested_channel for request in requests if not request.standalone}
        of_day = site.ledger().batches_of_day(channels, day)
        over_bytes = site.ledger().over_bytes_of_day(channels, day, settings.bytes_per_channel)
        with site.learner_tables() as tables, site.content_api() as content:
            catalogue = Catalogue(tables.batches, tables.batches_of_collections, content.collections, content.search)
            planned = plan(
                [request for request in held if request.key not in shared],
                catalogue,
                limits,
                force=params.force,
                of_day=of_day,
                over_bytes=over_bytes,
            )
            if planned.to_make:
                self._warn_of_tables(tables)
        self._log_plan(planned, dry_run=params.dry_run)
        context["ti"].xcom_push(key=XCOM_OVER_RUN_LIMIT, value=len(planned.over_run_limit))
        context["ti"].xcom_push(key=XCOM_REQUESTS_NOT_LISTED, value=[request_id for _, request_id in planned.failed])
        if params.dry_run:
            self._write_manifests(site, planned)
        else:
            ended, dropped = site.ledger().list_batches(
                [batch for batch, _ in planned.to_make],
                [batch for batch, _ in planned.deferred],
                not_made=[(batch, reason.text) for batch, reason in planned.not_made.items()],
                duplicates=shared.items(),
                rejected=planned.rejected.items(),
                failed=[(key, needs_operator(error)) for key, error in planned.failed.items()],
                same_request_id=[(key, SAME_REQUEST_ID) for key in same_request_id],
                finished=planned.finished,
                batch_ids=planned.batch_ids,
                processed={
                    request.key: request.processed
                    for before, request in zip(requests, held, strict=True)
                    if request.processed != before.processed
                },
                facts=dict([*planned.to_make, *planned.deferred]),
            )
            metrics.requests_ended(ended)
            for _, request_id in dropped:
                self.log.warning(
                    "Request %s: its row was deleted, or this run no longer holds it: this run does nothing for it", request_id
                )
            planned.to_make = [one for one in planned.to_make if one[0].request_key not in dropped]
            with site.locks().lock_list():
                self._write_manifests(site, planned)
        return [batch.to_dict() for batch, _ in planned.to_make]

    def _requests(self, context: "Context", site: Site, params: RunParams) -> "list[JobRequest]":
        from progress_exhaust.report.request import JobRequest

        if params.batch_ids:
            data = json.dumps({"batchFilter": list(params.batch_ids)})
            return [JobRequest("", "", data, "", "", None, ())]
        if params.dry_run:
            return site.claims().pending(select_requests(context, site, params, find_ended_runs(context, site)))
        return site.claims().requests_to_list()

    def _with_existing_files(self, store: "ReportStoreHook", request: "JobRequest") -> "JobRequest":
        """Return the request with only those finished batches whose files still exist: retention may have deleted some."""
        return replace(request, processed=tuple(one for one in request.processed if store.holds(str(one.get("filePath")))))

    def _log_plan(self, planned: "Plan", *, dry_run: bool) -> None:
        failed, made = ("would be FAILED", "would be SUCCESS") if dry_run else ("FAILED", "SUCCESS")
        for (_, request_id), error in planned.failed.items():
            if not request_id:
                raise error
            text, fault = (str(error), None) if isinstance(error, ProgressExhaustError) else (type(error).__name__, error)
            self.log.warning("Request %s: %s: its batches could not be listed: %s", request_id, failed, text, exc_info=fault)
        for (_, request_id), message in planned.rejected.items():
            if not request_id:
                raise SetupError(f"Param batch_ids: {message}")
            self.log.warning("Request %s: %s: permanent error: %s", request_id, failed, message)
        for batch, reason in planned.not_made.items():
            if batch.request_key not in planned.rejected:
                self.log.warning("%s: cannot be made: %s", batch, reason.text)
        for request in planned.finished:
            self.log.info("Request %s: %s: previous runs made all its batches that can be made", request.request_id, made)
        for batch, _ in planned.deferred:
            self.log.info("%s: deferred to a later run, by a limit of the settings", batch)
        for batch, _ in planned.to_make:
            self.log.info("%s: to make", batch)

    def _log_same_request_id(self, keys: "Iterable[Key]", *, dry_run: bool) -> None:
        failed = "would be FAILED" if dry_run else "FAILED"
        for _, request_id in keys:
            self.log.warning("Request %s: %s: permanent error: %s", request_id, failed, SAME_REQUEST_ID)

    def _warn_of_tables(self, tables: "LearnerTablesHook") -> None:
        """Log what is odd about the tables. If that cannot be found out, the stages that read them report it."""
        try:
            for warning in tables.warnings():
                self.log.warning("%s", warning)
        except (ProgressExhaustError, AirflowNotFoundException) as error:
            self.log.warning("The columns of the learner tables cannot be checked: %s", error)

    def _write_manifests(self, site: Site, planned: "Plan") -> None:
        from progress_exhaust.hooks.report_store import write_atomically

        store = site.store()
        if planned.to_make:
            store.check_staging_is_private(site.run_id)
        for batch, facts in planned.to_make:
            with store.translate_store_errors():
                path = store.batch_folder(site.run_id, batch) / BatchManifest.FILE_NAME
                write_atomically(path, BatchManifest(facts=facts).model_dump_json().encode())
