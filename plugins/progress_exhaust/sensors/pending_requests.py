"""Waits for a first request, and skips the run where none comes."""

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from progress_exhaust import metrics
from progress_exhaust.operators.selection import dead_runs, selection
from progress_exhaust.operators.site_operator import RunParams, no_retry_mends, read_site

if TYPE_CHECKING:
    from airflow.sdk import Context


class PendingRequestsSensor(BaseSensorOperator):
    """Succeeds once a request is pending; skips when none came within the setting `wait_seconds`."""

    def execute(self, context: "Context") -> Any:
        # Around the whole sensor, not in the poke: one that may skip would make a wrong setting a skipped, green run.
        with no_retry_mends():
            self.site = read_site(context)
            self.run_params = RunParams.of(context)
            self.site.layout(self.run_params)
            self.timeout = self.site.settings.wait_seconds
            self.site.requests().prepare()
            return super().execute(context)

    def poke(self, context: "Context") -> bool:
        if self.run_params.batch_ids:
            return True
        requests = self.site.requests()
        if requests.has_unfinished():
            self.log.info("This run has requests already: it was cleared")
            return True
        chosen = selection(context, self.site, self.run_params, dead_runs(context, self.site))
        metrics.oldest_pending(requests.oldest_pending_seconds(chosen))
        pending = requests.count_pending(chosen)
        self.log.info("%d requests are pending", pending)
        if self.run_params.request_ids and not pending:
            self.log.warning(
                "None of the named request_ids can be taken: job_request has no such request, or it is finished (the Param force "
                "makes a SUCCESS again), or another run is at it. The page Progress exhaust and `make status` show which"
            )
        return pending > 0
