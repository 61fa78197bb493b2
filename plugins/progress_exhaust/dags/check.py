"""
### Progress exhaust: check

Checks the installation from a worker: every connection, right, table, column and store, TLS, the clock, the salt and the disk.

The log has one line for each finding: `ok`, `warning` or `error`, and what to do. The task fails if there is an error.

It changes nothing. To test the stores, it writes files of its own there and deletes them.

A task cannot see pools. The command `check` can: `docs/how-to/check-the-installation.md`.

**When.** It runs only if you trigger it: after an installation, an upgrade, or a change of a connection.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG

from progress_exhaust.dags.environment import task_defaults
from progress_exhaust.dags.single_installation import check_single_installation
from progress_exhaust.links import with_links
from progress_exhaust.names import CHECK_DAG_ID
from progress_exhaust.operators.check_installation import CheckInstallationOperator


def check_dag() -> DAG:
    """Return the DAG. Its file calls this each time that Airflow parses it.

    :raises SetupError: this package is installed twice
    """
    check_single_installation()
    with DAG(
        dag_id=CHECK_DAG_ID,
        doc_md=with_links(__doc__),
        schedule=None,
        start_date=datetime(2026, 1, 1),
        is_paused_upon_creation=False,
        max_active_runs=1,
        tags=["sunbird", "exhaust"],
        default_args=task_defaults(retries=0, execution_timeout=timedelta(minutes=15)),
    ) as dag:
        CheckInstallationOperator(task_id="check_installation")
    return dag
