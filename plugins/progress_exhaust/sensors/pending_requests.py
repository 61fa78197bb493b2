"""Wait for a first request; skip the run if no request is pending."""

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from progress_exhaust import metrics
from progress_exhaust.stages.airflow_runs import find_ended_runs
from progress_exhaust.stages.base_operator import fail_on_permanent_errors
from progress_exhaust.stages.selection import check_batch_number, is_next_run, select_requests
from progress_exhaust.stages.site_setup import RunParams, read_site

if TYPE_CHECKING:
    from airflow.sdk import Context


class PendingRequestsSensor(BaseSensorOperator):
    """Succeed once a request is pending; skip if that takes longer than the setting `wait_for_requests_seconds`."""

    def execute(self, context: "Context") -> Any:
        # Around the whole sensor, not in poke: a sensor that may skip would turn a wrong setting into a skipped, green run.
        with fail_on_permanent_errors():
            self.site = read_site(context)
            self.run_params = RunParams.of(context)
            self.site.layout(self.run_params)
            self.timeout = self.site.settings.wait_for_requests_seconds
            missing = self.site.ledger().prepare()
            check_batch_number(self.site.settings, missing)
            result = super().execute(context)  # raises if there is nothing to do yet
            for column in missing:
                self.log.warning("Table %s lacks %s: it counts as null", self.site.settings.job_request_table, column)
            return result

    def poke(self, context: "Context") -> bool:
        if self.run_params.batch_ids:
            return True
        claims = self.site.claims()
        if claims.has_unfinished():
            self.log.info("This run already holds requests: its tasks were cleared")
            return True
        selection = select_requests(context, self.site, self.run_params, find_ended_runs(context, self.site))
        metrics.oldest_pending(claims.oldest_pending_seconds(selection))
        pending = claims.count_pending(selection)
        self.log.info("requests pending=%d", pending)
        if self.run_params.request_ids and not is_next_run(context["run_id"]):
            return True  # claim_requests fails with the reason, if it cannot claim them
        return pending > 0
