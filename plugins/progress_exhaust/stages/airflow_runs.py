"""What Airflow says about the runs of the DAG. Only Airflow decides whether a run has ended, never the age of a claim."""

from typing import TYPE_CHECKING

from progress_exhaust import compat
from progress_exhaust.names import ENDED_RUN_STATES, REPORT_DAG_ID
from progress_exhaust.stages.site_setup import Site

if TYPE_CHECKING:
    from airflow.sdk import Context


def find_ended_runs(context: "Context", site: Site) -> list[str]:
    """Return the runs that hold requests although they have ended or were deleted."""
    return [run_id for run_id in site.claims().holding_runs() if has_ended(context, run_id)]


def prepare_ledger(context: "Context", site: Site) -> None:
    """Create or upgrade the ledger. Adopt what an earlier version recorded of this run, and of runs that Airflow knows.

    Runs that hold a request and are unknown here may belong to another Airflow: a person has to release what they hold.
    """
    ledger = site.ledger()
    ledger.prepare()
    if not site.dry_run:
        known = [run_id for run_id in ledger.unadopted_runs() if run_state(context, run_id) is not None]
        ledger.adopt({site.run_id, *known})


def has_ended(context: "Context", run_id: str) -> bool:
    """Tell whether a run of the report DAG has ended or was deleted."""
    state = run_state(context, run_id)
    return state is None or state in ENDED_RUN_STATES


def run_state(context: "Context", run_id: str) -> str | None:
    """Return the state of a run of the report DAG; None if there is no such run. Any other answer is an error, and is retried."""
    try:
        state = context["ti"].get_dagrun_state(dag_id=REPORT_DAG_ID, run_id=run_id)
    except Exception as error:
        if compat.is_run_not_found(error):
            return None
        raise
    return str(getattr(state, "value", state))  # text in a task, an enum in dag.test()
