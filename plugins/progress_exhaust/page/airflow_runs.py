"""What Airflow's database has about the runs: their states, and the map indexes of batches."""

from collections.abc import Iterable, Mapping
from typing import Any

from progress_exhaust import compat
from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.page.request_view import BatchKey, Run, TaskKey


def find_runs(run_ids: Iterable[str]) -> dict[str, Run]:
    """Return the runs with these ids that still exist, by run id."""
    found = compat.find_dag_runs(REPORT_DAG_ID, run_ids)
    return {run.run_id: Run(run.state, run.conf.get("layout")) for run in found}


def find_map_indexes(run_ids: Iterable[str]) -> dict[BatchKey, int]:
    """Return the map index of each batch of these runs, from the result of list_batches."""
    results = compat.find_task_results(REPORT_DAG_ID, run_ids, Stage.LIST_BATCHES)
    return {
        (run_id, batch["tag"], batch["request_id"], batch["batch_id"]): index
        for run_id, result in results.items()
        for index, batch in enumerate(_batches(result))
    }


def find_task_states(run_ids: Iterable[str]) -> dict[TaskKey, str]:
    """Return the state of the batches' tasks that have not ended, of these runs; a batch has one at a time."""
    return {(run_id, map_index): state for run_id, map_index, state in compat.find_active_tasks(REPORT_DAG_ID, run_ids, "batch.")}


def _batches(result: Any) -> list[Mapping[str, str]]:
    return result if isinstance(result, list) else []
