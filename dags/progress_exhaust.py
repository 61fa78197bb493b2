"""
### Progress exhaust

Makes one packaged csv of every learner's progress and scores for each course batch of each pending row of `job_request`.

| task | does | run again |
|---|---|---|
| wait_for_requests | waits for a first pending request; skips the run where none comes | harmless |
| claim_requests | takes the pending requests for this run: PROCESSING | the same requests, and new ones |
| list_batches | finds their batches; FAILED at once for what no retry can mend | the same list |
| batch.fetch_hierarchy | the collection's tree, reduced to the report's columns | the same file |
| batch.extract | enrolments, user cache, nested progress, attempts: Parquet parts | parts of the sources as they are then |
| batch.pivot | the csv | the same bytes |
| batch.package | the zip, protected as the org's policy says, in the reports container | the same object, replaced |
| batch.mark_complete | the batch in processed_batches; the last one of its request: SUCCESS | no change |
| settle_requests | FAILED for requests with a failed batch; fails where a task of the run did | the same outcome |

**Look.** [Every request](PAGE/), its batches and errors · the [pool](/pools) · the [Variable](/variables) ·
[connections](/connections). The package's `docs/runbook.md` has the steps for one stage, one request, one night, a stuck request,
and what each message means.

**Resume.** Clear the failed stage of the batch (its label is the batch id) with what follows it: nothing before it runs again,
and the request turns SUCCESS once its last batch is done.

**Params.** `request_ids`: only these requests. `batch_ids`: these batches without any request. `force`: make a SUCCESS again.
`dry_run`: everything but publishing and marking. `layout`: other columns than the site's.

**Settings.** The JSON Variable `progress_exhaust`; connections `progress_exhaust_requests` (Postgres), `_cassandra`, `_users`
(Redis), `_content` and `_org` (HTTP) and, where they are needed, `_salt` and `_store`: the package's `docs/configuration.md`.
"""

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, Param, TriggerRule, task_group

from progress_exhaust.operators.claim_requests import ClaimRequestsOperator
from progress_exhaust.operators.extract import ExtractOperator
from progress_exhaust.operators.failure_notifier import ENVIRONMENT, failure_callback
from progress_exhaust.operators.fetch_hierarchy import FetchHierarchyOperator
from progress_exhaust.operators.links import PAGE
from progress_exhaust.operators.list_batches import ListBatchesOperator
from progress_exhaust.operators.mark_complete import MarkCompleteOperator
from progress_exhaust.operators.package import PackageOperator
from progress_exhaust.operators.pivot import PivotOperator
from progress_exhaust.operators.settle_requests import SettleRequestsOperator
from progress_exhaust.sensors.pending_requests import PendingRequestsSensor

# Read while parsing, so from the environment and not from the Variable.
SCHEDULE = os.environ.get("PROGRESS_EXHAUST_SCHEDULE", "0 8 * * *")
POOL = os.environ.get("PROGRESS_EXHAUST_POOL", "progress_exhaust")
RETRIES = int(os.environ.get("PROGRESS_EXHAUST_RETRIES", "4"))
RETRY_DELAY = timedelta(seconds=float(os.environ.get("PROGRESS_EXHAUST_RETRY_DELAY_SECONDS", "60")))
ON_FAILURE, NOTIFIER_ERROR = failure_callback(os.environ.get(ENVIRONMENT))

BATCH_STAGES = {
    "fetch_hierarchy": FetchHierarchyOperator,
    "extract": ExtractOperator,
    "pivot": PivotOperator,
    "package": PackageOperator,
    "mark_complete": MarkCompleteOperator,
}
STAGE_TIMEOUT = timedelta(hours=6)  # a million learners take minutes; what takes hours hangs

# No `examples` for a list: the form would let nothing else be chosen.
IDS = {"type": ["null", "array"], "items": {"type": "string", "minLength": 1, "maxLength": 200}}
WHAT, HOW = {"section": "What to make"}, {"section": "How"}
PARAMS = {
    "request_ids": Param(None, **IDS, **WHAT, title="Requests", description="Only these request_ids of job_request, one a line, "
        "such as 778A3669531143769B5E8C98D42E1CAD; empty: all that are pending"),
    "batch_ids": Param(None, **IDS, **WHAT, title="Batches", description="Report these batches, without a request's row, one a "
        "line, such as 013307481768378368112"),
    "force": Param(False, **HOW, type="boolean", title="Force", description="Make the named requests again that are SUCCESS"),
    "dry_run": Param(False, **HOW, type="boolean", title="Dry run", description="Do all but publish and mark"),
    "layout": Param(None, **HOW, type=["null", "string"], title="Layout", examples=["standard", "sunbird-lern-7"],
        pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", description="A layout by name, instead of the site's"),
}  # fmt: skip

with DAG(
    dag_id="progress_exhaust",
    doc_md=f"{NOTIFIER_ERROR}{__doc__.replace('PAGE', PAGE)}",
    on_failure_callback=ON_FAILURE,
    schedule=SCHEDULE,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=4,
    tags=["sunbird", "exhaust"],
    params=PARAMS,
    default_args={
        "retries": RETRIES,
        "retry_delay": RETRY_DELAY,
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(minutes=30),
    },
) as dag:
    wait_for_requests = PendingRequestsSensor(task_id="wait_for_requests", mode="reschedule", poke_interval=60, soft_fail=True)
    claim_requests = ClaimRequestsOperator(task_id="claim_requests")
    list_batches = ListBatchesOperator(task_id="list_batches")

    @task_group(group_id="batch")
    def report(batch):
        previous = None
        for task_id, stage in BATCH_STAGES.items():
            task = stage(
                task_id=task_id,
                batch=batch,
                pool=POOL,
                execution_timeout=STAGE_TIMEOUT,
                map_index_template="{{ task.batch['batch_id'] }}{{ label_suffix | default('') }}",
            )
            if previous is not None:
                previous >> task
            previous = task

    settle_requests = SettleRequestsOperator(task_id="settle_requests", trigger_rule=TriggerRule.ALL_DONE)

    wait_for_requests >> claim_requests >> list_batches
    report.expand(batch=list_batches.output) >> settle_requests
