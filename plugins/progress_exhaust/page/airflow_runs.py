"""What Airflow says about runs, for the page: their states, and the places of their batches in the grid."""

from collections.abc import Iterable, Mapping
from typing import Any

from progress_exhaust import compat
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.page.views import Run


def find_runs(run_ids: Iterable[str]) -> dict[str, Run]:
    """Return those of these runs that still exist, by run id."""
    found = compat.find_dag_runs(REPORT_DAG_ID, run_ids)
    return {run.run_id: Run(run.state, run.conf.get("layout")) for run in found}


def map_indexes(run_ids: Iterable[str]) -> dict[tuple[str, str, str, str], int]:
    """Return the map index of each batch of these runs, by run id, tag, request id and batch id."""
    results = compat.find_task_results(REPORT_DAG_ID, run_ids, "list_batches")
    return {
        (run_id, batch["tag"], batch["request_id"], batch["batch_id"]): index
        for run_id, result in results.items()
        for index, batch in enumerate(_batches(result))
    }


def _batches(result: Any) -> list[Mapping[str, str]]:
    return result if isinstance(result, list) else []
