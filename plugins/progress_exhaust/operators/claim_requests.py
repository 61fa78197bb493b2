"""Takes the pending requests for this run."""

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowRuntimeError

from progress_exhaust.operators.site import RunParams, Site, SiteOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

ENDED = ("success", "failed")


class ClaimRequestsOperator(SiteOperator):
    """Claims each pending request, so that no other run works on it; returns the ids of all that this run holds."""

    def work(self, context: "Context", site: Site, params: RunParams) -> list[str]:
        requests = site.requests()
        requests.prepare()
        if params.batch_ids:
            return []
        wanted = {
            "most": site.settings.batches_per_run,
            "request_ids": list(params.request_ids) or None,
            "force": params.force,
        }
        if params.dry_run:
            held = requests.pending(**wanted)
        else:
            dead = [run_id for run_id in requests.holding_runs() if run_is_over(context, run_id)]
            if dead:
                self.log.warning("Taking over what runs that are over still hold: %s", ", ".join(dead))
            held = requests.claim(dead_runs=dead, **wanted)
        missing = set(params.request_ids) - {request.request_id for request in held}
        if missing:
            self.log.warning("Not pending, unknown, or held by another run: %s", ", ".join(sorted(missing)))
        self.log.info("This run %s %d requests", "would claim" if params.dry_run else "holds", len(held))
        return [request.request_id for request in held]


def run_is_over(context: "Context", run_id: str) -> bool:
    """Ask Airflow whether a run of this DAG has ended or is gone; any doubt is raised and tried again."""
    try:
        state = context["ti"].get_dagrun_state(dag_id=context["dag"].dag_id, run_id=run_id)
    except Exception as error:
        if _says_not_found(error):
            return True
        raise
    return state in ENDED


def _says_not_found(error: Exception) -> bool:
    response = getattr(error, "response", None)
    if getattr(response, "status_code", None) == 404:
        return True
    return isinstance(error, AirflowRuntimeError) and ("not_found" in str(error) or "404" in str(error))
