"""One run of the DAG, here and now, without an Airflow server.

    CONF='{"request_ids": ["…"]}' python dev/run_once.py

It runs against whatever AIRFLOW_CONN_PROGRESS_EXHAUST_* and AIRFLOW_VAR_PROGRESS_EXHAUST point at; Airflow's metadata is
SQLite in AIRFLOW_HOME. The exit status is 0 only when the run succeeded.
"""

import json
import os
import sys
from typing import Any

POOL_SLOTS = 4
LOG_LEVELS = "airflow.task.operators.progress_exhaust=INFO py.warnings=ERROR airflow.sdk.definitions.dag=ERROR"


def main() -> int:
    """Run the DAG once with the Params in CONF; return the exit status."""
    try:
        conf = json.loads(os.environ.get("CONF") or "{}")
    except ValueError as error:
        print(f"CONF is no JSON: {error}", file=sys.stderr)
        return 2
    if not isinstance(conf, dict):
        print('CONF must be a JSON object of Params, such as {"dry_run": true}', file=sys.stderr)
        return 2
    state = run(conf)
    print(f"The run ended: {state}", flush=True)
    return 0 if state == "success" else 1


def run(conf: dict[str, Any]) -> str:
    """Run the DAG once; return the state that the run ended in."""
    # A person waits for it: an error is tried again soon, and the DAG's own words are all that is told.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("AIRFLOW__LOGGING__NAMESPACE_LEVELS", LOG_LEVELS)
    os.environ.setdefault("AIRFLOW__LOGGING__LOG_FORMAT", "%(asctime)s %(message)s")
    os.environ.setdefault("PROGRESS_EXHAUST_RETRIES", "2")
    os.environ.setdefault("PROGRESS_EXHAUST_RETRY_DELAY_SECONDS", "5")
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    initdb()
    Pool.create_or_update_pool("progress_exhaust", POOL_SLOTS, "batches at work at a time", include_deferred=False)
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    if bag.import_errors:
        raise SystemExit(f"The DAG does not load: {bag.import_errors}")
    return str(bag.dags["progress_exhaust"].test(run_conf=conf or None).state)


if __name__ == "__main__":
    sys.exit(main())
