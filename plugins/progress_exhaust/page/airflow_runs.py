"""What Airflow's database has about the runs: their states, the map indexes of batches, and the tasks of batches."""

from collections.abc import Iterable, Mapping
from typing import Any

from progress_exhaust import compat
from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.names import ENDED_RUN_STATES, REPORT_DAG_ID
from progress_exhaust.page.actions import next_run_id
from progress_exhaust.page.batch_tasks import BatchTask, Tasks
from progress_exhaust.page.request_view import BatchKey, NewRun, Run, TaskKey


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


def find_tasks(map_indexes: Mapping[BatchKey, int]) -> Tasks:
    """Return the tasks of these batches."""
    batches = {(run_id, index): batch_id for (run_id, _, _, batch_id), index in map_indexes.items()}
    run_ids = {run_id for run_id, _ in batches}
    retry_times = compat.find_retry_times(REPORT_DAG_ID, run_ids)
    return {
        (task.run_id, batches[task.run_id, task.map_index], task.task_id.rpartition(".")[2]): BatchTask(
            task.state, task.started_at, task.ended_at, retry_times.get((task.run_id, task.task_id, task.map_index))
        )
        for task in compat.find_tasks(REPORT_DAG_ID, run_ids, {index for _, index in batches})
        if (task.run_id, task.map_index) in batches
    }


def find_new_runs(run_ids: Iterable[str]) -> dict[str, NewRun]:
    """Return the runs that *Make again* starts, by the ids that they have at first.

    A run that has ended without a claim leaves its id used up: then the next one is taken.
    """
    new_runs: dict[str, NewRun] = {}
    remaining = {run_id: run_id for run_id in run_ids}
    while remaining:
        states = {run.run_id: run.state for run in compat.find_dag_runs(REPORT_DAG_ID, remaining.values())}
        ended = {first: run_id for first, run_id in remaining.items() if states.get(run_id) in ENDED_RUN_STATES}
        new_runs |= {first: NewRun(run_id, run_id in states) for first, run_id in remaining.items() if first not in ended}
        remaining = {first: next_run_id(run_id) for first, run_id in ended.items()}
    return new_runs


def _batches(result: Any) -> list[Mapping[str, str]]:
    return result if isinstance(result, list) else []
