"""What Airflow's database has about the runs: their states, and the map indexes of batches."""

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.page.request_view import BatchKey, Run


def find_runs(run_ids: Iterable[str]) -> dict[str, Run]:
    """Return the runs with these ids that still exist, by run id."""
    wanted = DagRun.dag_id == REPORT_DAG_ID, DagRun.run_id.in_(set(run_ids))
    with create_session() as session:
        rows = session.execute(select(DagRun.run_id, DagRun.state, DagRun.conf).where(*wanted))
        return {run_id: Run(str(state), (conf or {}).get("layout")) for run_id, state, conf in rows}


def find_map_indexes(run_ids: Iterable[str]) -> dict[BatchKey, int]:
    """Return the map index of each batch of these runs, from the result of list_batches."""
    wanted = select(XComModel).where(
        XComModel.dag_id == REPORT_DAG_ID,
        XComModel.run_id.in_(set(run_ids)),
        XComModel.task_id == Stage.LIST_BATCHES.value,
        XComModel.key == "return_value",
    )
    with create_session() as session:
        return {
            (xcom.run_id, batch["tag"], batch["request_id"], batch["batch_id"]): index
            for xcom in session.scalars(wanted)
            for index, batch in enumerate(_batches(XComModel.deserialize_value(xcom)))
        }


def _batches(value: Any) -> list[Mapping[str, str]]:
    return value if isinstance(value, list) else []
