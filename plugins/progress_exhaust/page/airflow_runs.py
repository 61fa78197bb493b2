"""What Airflow itself knows of the runs: whether they are over, and where a batch's tasks are in the grid."""

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from progress_exhaust.page.views import Run

DAG_ID = "progress_exhaust"


def find_runs(run_ids: Iterable[str]) -> dict[str, Run]:
    """Return those of these runs that still exist, by run id."""
    these = DagRun.dag_id == DAG_ID, DagRun.run_id.in_(set(run_ids))
    with create_session() as session:
        rows = session.execute(select(DagRun.run_id, DagRun.state, DagRun.conf).where(*these))
        return {run_id: Run(str(state), (conf or {}).get("layout")) for run_id, state, conf in rows}


def map_indexes(run_ids: Iterable[str]) -> dict[tuple[str, str, str, str], int]:
    """Return the map index of each batch of these runs, by run id, tag, request id and batch id: list_batches' answer."""
    wanted = select(XComModel).where(
        XComModel.dag_id == DAG_ID,
        XComModel.run_id.in_(set(run_ids)),
        XComModel.task_id == "list_batches",
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
