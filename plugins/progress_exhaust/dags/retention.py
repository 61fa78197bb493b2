"""
### Progress exhaust: retention

Deletes old files, once a day:

- **Packages** below `progress-exhaust/` of the reports container that were published more than `retention_days` (90) ago. If this
  setting is `null`, all packages are kept. Only files with the name of a report are deleted, and links are not followed.
  Packages that no run in the ledger has published are kept, such as those of the Spark job, unless
  `retention_of_other_packages` is set.
- **Staging files** of runs of `progress_exhaust`, if two conditions hold: nothing in them has changed for `staging_days`, and
  the run has ended or was deleted in Airflow. Such files are written by batches that failed for good, and by killed runs.

A row of `job_request` keeps the link to a deleted package. The log names the deleted files, and the result counts them.

**Params.** `dry_run`: delete nothing, and report what would be deleted.

**Settings.** The JSON Variable `progress_exhaust`, and the connections `progress_exhaust_store` and `progress_exhaust_requests`,
as for the reports.
"""

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from progress_exhaust.dags.environment import task_defaults
from progress_exhaust.dags.single_installation import check_single_installation
from progress_exhaust.names import RETENTION_DAG_ID
from progress_exhaust.operators.remove_old_files import RemoveOldFilesOperator


def retention_dag() -> DAG:
    """Return the DAG. Its file calls this each time that Airflow parses it.

    :raises SetupError: this package is installed twice
    """
    check_single_installation()
    with DAG(
        dag_id=RETENTION_DAG_ID,
        doc_md=__doc__,
        schedule=os.environ.get("PROGRESS_EXHAUST_RETENTION_SCHEDULE", "0 20 * * *"),
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        tags=["sunbird", "exhaust"],
        params={
            "dry_run": Param(
                False, type="boolean", title="Dry run", description="Report what would be deleted, and delete nothing"
            )
        },
        default_args=task_defaults(retries=2, retry_delay=timedelta(minutes=5), execution_timeout=timedelta(hours=2)),
    ) as dag:
        RemoveOldFilesOperator(task_id="remove_old_files")
    return dag
