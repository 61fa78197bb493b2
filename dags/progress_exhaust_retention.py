"""
### Progress exhaust: retention

Removes what has been kept for long enough, once a day:

- packages below `progress-exhaust/` of the reports container that were published more than the setting `retention_days` ago;
  where it is not set, all of them are kept. Only files that bear a report's name, and no link is followed.
- what runs of `progress_exhaust` left in staging, once nothing in it changed for `staging_days` and Airflow says that the run
  is over, or knows none of its name: batches that failed for good, and runs that were killed.

A row of `job_request` keeps the link to a package that was removed. The log says what was removed, and the result how much.

**Params.** `dry_run`: remove nothing, and say what would be.

**Settings.** The JSON Variable `progress_exhaust`, and the connection `progress_exhaust_store`, as for the reports themselves.
"""

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from progress_exhaust.operators.remove_old_files import RemoveOldFilesOperator

with DAG(
    dag_id="progress_exhaust_retention",
    doc_md=__doc__,
    schedule=os.environ.get("PROGRESS_EXHAUST_RETENTION_SCHEDULE", "0 20 * * *"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["sunbird", "exhaust"],
    params={
        "dry_run": Param(False, type="boolean", title="Dry run", description="Say what would be removed, and remove nothing")
    },
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "execution_timeout": timedelta(hours=2)},
):
    RemoveOldFilesOperator(task_id="remove_old_files")
