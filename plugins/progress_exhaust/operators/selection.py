"""Which requests a run may take: what the sensor counts and claim_requests claims."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow.sdk.exceptions import AirflowRuntimeError

from progress_exhaust.operators.site_operator import RunParams, Site, report_day

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.job_requests import Selection

REPORT_DAG_ID = "progress_exhaust"
ENDED = ("success", "failed")
BACKFILL = "backfill"


def selection(context: "Context", site: Site, params: RunParams, dead_runs: Sequence[str]) -> "Selection":
    """Return the run's selection; a backfill of a day takes what was submitted up to the end of that day."""
    from progress_exhaust.hooks.job_requests import Selection

    settings, day = site.settings, report_day(context, site.settings)
    next_day = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(settings.report_timezone))
    return Selection(
        most=settings.batches_per_run,
        day=day,
        abandoned_before=datetime.now(UTC) - timedelta(hours=settings.abandoned_after_hours),
        request_ids=params.request_ids,
        batch_number=settings.batch_number,
        channels=settings.channels,
        submitted_before=next_day if context["dag_run"].run_type == BACKFILL else None,
        ended_runs=dead_runs,
        force=params.force,
    )


def dead_runs(context: "Context", site: Site) -> list[str]:
    """Return the runs that hold requests although they have ended or are gone, by Airflow's word and never by age."""
    return [run_id for run_id in site.requests().holding_runs() if run_is_over(context, run_id)]


def run_is_over(context: "Context", run_id: str) -> bool:
    """Ask Airflow whether a run of the reports' DAG has ended or is gone."""
    state = run_state(context, run_id)
    return state is None or state in ENDED


def run_state(context: "Context", run_id: str) -> str | None:
    """Ask Airflow how a run of the reports' DAG stands; None: it knows no such run. Any doubt is raised and tried again."""
    try:
        state = context["ti"].get_dagrun_state(dag_id=REPORT_DAG_ID, run_id=run_id)
    except Exception as error:
        if _says_not_found(error):
            return None
        raise
    return str(getattr(state, "value", state))  # a word in a task, an enum in dag.test()


def _says_not_found(error: Exception) -> bool:
    if getattr(getattr(error, "response", None), "status_code", None) == 404:
        return True
    return isinstance(error, AirflowRuntimeError) and ("not_found" in str(error) or "404" in str(error))
