"""
### Progress exhaust

Makes one packaged csv per course batch of each pending row of `job_request`. It has the progress and scores of every learner.

| task | does | if it is run again |
|---|---|---|
| wait_for_requests | waits for a first pending request; skips the run if none is pending | no change |
| claim_requests | claims the pending requests for this run: PROCESSING | the same requests, and new ones |
| list_batches | finds the batches of the requests; a permanent error makes a request FAILED at once | the same list |
| batch.fetch_hierarchy | reads the collection tree and reduces it to the columns of the report | the same file |
| batch.extract | reads enrolments, user cache, nested progress and assessment attempts into Parquet files | data as it is then |
| batch.pivot | writes the csv, the Excel workbook, or both | the same bytes |
| batch.package | protects the report according to the org's policy, and publishes it | replaces the same object |
| batch.mark_complete | enters the batch in processed_batches; after the last batch the request is SUCCESS | no change |
| settle_requests | ends all other requests; starts the next run if batches are left; fails if a task failed | the same outcome |

**Where to look.** [All requests](PAGE/), their batches and errors · the [pool](/pools) · the [Variable](/variables) ·
[connections](/connections) · every message: `docs/reference/messages.md` · how to rerun: `docs/how-to/runbook.md` ·
when runs start: `docs/how-to/make-reports-on-request.md`.

**Resume.** Clear the failed stage of the batch, labelled with the batch id, and its downstream tasks. Earlier stages are not
run again. The request becomes SUCCESS after its last batch.

**Params.** `request_ids`: only these requests. `batch_ids`: these batches, without a request. `force`: make finished requests
again. `release_claims`: claim what other installations hold. `dry_run`: publish and mark nothing. `layout`: use other columns.
`output_format`: csv, xlsx or both, instead of the layout's and the site's.

**Settings.** The JSON Variable `progress_exhaust`, and the connections `progress_exhaust_requests` (Postgres), `_cassandra`,
`_users` (Redis), `_content` and `_org` (HTTP), and if needed `_salt` and `_store`. See `docs/reference/settings.md`.
"""

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, chain, task_group

from progress_exhaust.dags.environment import number, task_defaults
from progress_exhaust.dags.single_installation import check_single_installation
from progress_exhaust.failure_notifier import ENVIRONMENT, failure_callback
from progress_exhaust.links import with_links
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.operators.claim_requests import ClaimRequestsOperator
from progress_exhaust.operators.extract import ExtractOperator
from progress_exhaust.operators.fetch_hierarchy import FetchHierarchyOperator
from progress_exhaust.operators.list_batches import ListBatchesOperator
from progress_exhaust.operators.mark_complete import MarkCompleteOperator
from progress_exhaust.operators.package import PackageOperator
from progress_exhaust.operators.pivot import PivotOperator
from progress_exhaust.operators.settle_requests import SettleRequestsOperator
from progress_exhaust.sensors.pending_requests import PendingRequestsSensor
from progress_exhaust.triggers.run_schedule import run_schedule

START_DATE = datetime(2026, 1, 1)
BATCH_STAGES = {
    "fetch_hierarchy": FetchHierarchyOperator,
    "extract": ExtractOperator,
    "pivot": PivotOperator,
    "package": PackageOperator,
    "mark_complete": MarkCompleteOperator,
}
LABEL = "{{ task.batch['batch_id'] }}{{ label_suffix | default('') }}"
STAGE_TIMEOUT_SECONDS = 6 * 60 * 60  # a million learners take minutes, so a stage that takes hours hangs

# No `examples` for a list: the trigger form would then accept no other values.
IDS: dict[str, Any] = {"type": ["null", "array"], "items": {"type": "string", "minLength": 1, "maxLength": 200}}
WHAT: dict[str, Any] = {"section": "What to make"}
HOW: dict[str, Any] = {"section": "How"}
PARAMS = {
    "request_ids": Param(None, **IDS, **WHAT, title="Requests", description="Only these requests: one request_id of job_request "
        "per line, such as 778A3669531143769B5E8C98D42E1CAD. Empty: all pending requests"),
    "batch_ids": Param(None, **IDS, **WHAT, title="Batches", description="Report these batches without a request: one batch id "
        "per line, such as 013307481768378368112"),
    "force": Param(False, **HOW, type="boolean", title="Force", description="Make the named requests again if they are SUCCESS"),
    "release_claims": Param(False, **HOW, type="boolean", title="Release claims",
        description="First release the claims of other installations on the named requests. They publish nothing more for them"),
    "dry_run": Param(False, **HOW, type="boolean", title="Dry run", description="Do everything except publishing and marking"),
    "layout": Param(None, **HOW, type=["null", "string"], title="Layout", examples=["standard", "sunbird-lern-7"],
        pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Name of a layout, to use instead of the site's layout"),
    "output_format": Param(None, **HOW, type=["null", "string"], enum=[None, "csv", "xlsx", "both"],
        title="Format", description="csv, xlsx for an Excel workbook, or both, to use instead of the site's setting"),
}  # fmt: skip


def report_dag() -> DAG:
    """Return the DAG. Its file calls this each time that Airflow parses it.

    Airflow reads the schedule, the pool, the retries and the limits while it parses. Therefore they come from the environment,
    and not from the Variable.

    :raises SetupError: this package is installed twice, or a number in the environment is wrong
    """
    check_single_installation()
    env = os.environ
    cron, on_request = env.get("PROGRESS_EXHAUST_SCHEDULE", "0 8 * * *"), env.get("PROGRESS_EXHAUST_ON_REQUEST")
    schedule, schedule_error = run_schedule(cron, on_request, START_DATE)
    pool = env.get("PROGRESS_EXHAUST_POOL", "progress_exhaust")
    stage_timeout = timedelta(seconds=number("PROGRESS_EXHAUST_STAGE_TIMEOUT_SECONDS", STAGE_TIMEOUT_SECONDS, minimum=1))
    on_failure, notifier_error = failure_callback(env.get(ENVIRONMENT))

    with DAG(
        dag_id=REPORT_DAG_ID,
        doc_md=f"{schedule_error}{notifier_error}{with_links(__doc__)}",
        on_failure_callback=on_failure,
        schedule=schedule,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=int(number("PROGRESS_EXHAUST_MAX_ACTIVE_RUNS", 4, minimum=1)),
        max_active_tasks=int(number("PROGRESS_EXHAUST_MAX_ACTIVE_TASKS", 1000, minimum=1)),  # only the pool limits them
        tags=["sunbird", "exhaust"],
        params=PARAMS,
        default_args=task_defaults(
            retries=int(number("PROGRESS_EXHAUST_RETRIES", 4)),
            retry_delay=timedelta(seconds=number("PROGRESS_EXHAUST_RETRY_DELAY_SECONDS", 60)),
            retry_exponential_backoff=True,
            max_retry_delay=timedelta(minutes=15),
            execution_timeout=timedelta(minutes=30),
        ),
    ) as dag:
        wait_for_requests = PendingRequestsSensor(
            task_id="wait_for_requests", mode="reschedule", poke_interval=60, soft_fail=True
        )
        claim_requests = ClaimRequestsOperator(task_id="claim_requests")
        list_batches = ListBatchesOperator(task_id="list_batches")

        @task_group(group_id="batch")
        def report(batch: Any) -> None:
            # Later stages first: one batch is finished before many are started.
            common = {
                "batch": batch,
                "pool": pool,
                "weight_rule": "upstream",
                "execution_timeout": stage_timeout,
                "map_index_template": LABEL,
            }
            chain(*(stage(task_id=task_id, **common) for task_id, stage in BATCH_STAGES.items()))

        settle_requests = SettleRequestsOperator(task_id="settle_requests", trigger_rule=TriggerRule.ALL_DONE)

        wait_for_requests >> claim_requests >> list_batches
        report.expand(batch=list_batches.output) >> settle_requests
    return dag
