"""One run of the DAG, here and now, without an Airflow server.

    CONF='{"request_ids": ["…"]}' python dev/run_once.py

It runs against whatever AIRFLOW_CONN_PROGRESS_EXHAUST_* and AIRFLOW_VAR_PROGRESS_EXHAUST point at; Airflow's metadata is
SQLite in AIRFLOW_HOME. If these are other systems than those of the demo, it first prints what it claims. The exit status is
0 only when the run succeeded.
"""

import fcntl
import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from dev.claims_preview import print_preview, uses_the_demo

DAG_ID = "progress_exhaust"
POOL_SLOTS = 4
LOG_LEVELS = (
    "airflow.task.operators.progress_exhaust=INFO cassandra.cluster=ERROR py.warnings=ERROR airflow.sdk.definitions.dag=ERROR"
)


def main() -> int:
    """Run the DAG once with the Params in CONF; return the exit status."""
    try:
        conf = json.loads(os.environ.get("CONF") or "{}")
    except ValueError as error:
        print(f"CONF is not valid JSON: {error}", file=sys.stderr)
        return 2
    if not isinstance(conf, dict):
        print('CONF must be a JSON object of Params, such as {"dry_run": true}', file=sys.stderr)
        return 2
    state, seconds = run(conf)
    print(f"The run ended: {state} after {seconds:.1f} s", flush=True)
    return 0 if state == "success" else 1


def run(conf: dict[str, Any]) -> tuple[str, float]:
    """Run the DAG once; return the state that the run ended in, and its seconds, without Airflow's start."""
    home = Path(os.environ["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home}/airflow.db"
    # A person waits for it: errors are retried soon, and only the DAG's own lines are shown.
    os.environ.setdefault("PROGRESS_EXHAUST_RETRIES", "2")
    os.environ.setdefault("PROGRESS_EXHAUST_RETRY_DELAY_SECONDS", "5")
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("AIRFLOW__LOGGING__NAMESPACE_LEVELS", LOG_LEVELS)
    os.environ.setdefault("AIRFLOW__LOGGING__LOG_FORMAT", "%(asctime)s %(message)s")
    # Most of what the start creates stays: looking for garbage each 700 objects would take a fifth of its time.
    gc.set_threshold(50_000)
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    def prepare() -> None:
        initdb()
        Pool.create_or_update_pool(DAG_ID, POOL_SLOTS, "batches that run at the same time", include_deferred=False)
        end_killed_runs()

    with shared_home(home, prepare):
        if not uses_the_demo():
            in_a_process(lambda: print_preview(conf))
        keep_newest_api_version()
        bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
        if bag.import_errors:
            raise SystemExit(f"The DAG does not load: {bag.import_errors}")
        started = time.monotonic()
        ended = bag.dags[DAG_ID].test(run_conf=conf or None)
        return str(ended.state), time.monotonic() - started


def keep_newest_api_version() -> None:
    """Let the API server that `dag.test` has in this process make the routes of the newest version only.

    Airflow makes them for nine versions, which takes more time than all else that it does before the first task.
    """
    from airflow.api_fastapi.execution_api import routes, versions
    from cadwyn import HeadVersion, Version, VersionBundle
    from cadwyn.route_generation import _DELETED_ROUTE_TAG

    router = routes.execution_api_router
    router.routes = [route for route in router.routes if _DELETED_ROUTE_TAG not in getattr(route, "tags", ())]
    versions.bundle = VersionBundle(HeadVersion(), Version(versions.bundle.versions[0].value))


def in_a_process(work: Callable[[], None]) -> None:
    """Do the work in a process of its own: it changes the environment, and imports what the run may not need."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("The run has not started: what it would claim cannot be read. See above")


@contextmanager
def shared_home(home: Path, prepare: Callable[[], None]) -> Iterator[None]:
    """Prepare the home if no other run uses it, and share its lock with other runs until the block ends."""
    with (home / "run_once.lock").open("w") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            prepare()
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def end_killed_runs() -> None:
    """Mark runs that were killed here as failed, as a scheduler does: other runs may take their claims then."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from sqlalchemy import update

    with create_session() as session:
        killed = update(DagRun).where(DagRun.dag_id == DAG_ID, DagRun.state == DagRunState.RUNNING)
        session.execute(killed.values(state=DagRunState.FAILED))


if __name__ == "__main__":
    sys.exit(main())
