"""Start the next run at once for what a run has left because of the setting `batches_per_run`.

The next run has the same run_after, so its reports have the same date.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from progress_exhaust import compat
from progress_exhaust.hooks.requests.models import BatchRun, BatchState, ClaimOutcome, ReleasedClaim
from progress_exhaust.names import REPORT_DAG_ID, XCOM_OVER_RUN_LIMIT, XCOM_REQUESTS_FOUND
from progress_exhaust.stages.airflow_runs import find_ended_runs
from progress_exhaust.stages.batch_context import Log
from progress_exhaust.stages.selection import BACKFILL, NEXT_RUN, select_requests
from progress_exhaust.stages.site_setup import RunParams, Site

if TYPE_CHECKING:
    from airflow.sdk import Context

Conf = dict[str, Any]


def start_next_runs(context: "Context", site: Site, params: RunParams, runs: Sequence[BatchRun], log: Log) -> None:
    """Start the next run if this one has left something that it can make. After a retry of the task, it has started already.

    A run that has brought nothing to an end starts no other one: that one could do no more.
    """
    task_instance = context["ti"]
    found = task_instance.xcom_pull(task_ids="claim_requests", key=XCOM_REQUESTS_FOUND) or 0
    over_run_limit = task_instance.xcom_pull(task_ids="list_batches", key=XCOM_OVER_RUN_LIMIT) or 0
    if found <= site.settings.batches_per_run and not over_run_limit:
        return
    released = site.claims().released()
    if not has_progress(runs, released):
        log.warning("Requests are left, but this run has brought none to an end: it starts no next run")
        return
    for run_id, conf in next_runs(context["run_id"], _confs(context, site, params, runs, released)):
        if not compat.has_scheduler():
            log.warning("Requests are left because of batches_per_run: start another run with the Params %s", conf)
        elif compat.start_run(REPORT_DAG_ID, run_id, conf, context["dag_run"].run_after):
            log.info("Requests are left because of batches_per_run: started the run %s", run_id)
        else:
            log.info("Requests are left because of batches_per_run: the run %s was started before", run_id)


def has_progress(runs: Iterable[BatchRun], released: Iterable[ReleasedClaim]) -> bool:
    """Tell whether a run has made a batch, or brought a request to an end that no run changes again."""
    made = any(run.state == BatchState.DONE for run in runs)
    return made or any(one.outcome == ClaimOutcome.SUCCESS or one.permanent for one in released)


def next_runs(run_id: str, confs: Sequence[Conf]) -> list[tuple[str, Conf]]:
    """Return the id of each next run and its Params. The ids count the runs, and name the first one."""
    match = NEXT_RUN.fullmatch(run_id)
    number, first = (int(match[1]) + 1, match[2]) if match else (2, run_id)
    names = [first, f"{first}__put_back_{number}"]
    return [(f"next__{number}__{name}", conf) for name, conf in zip(names, confs, strict=False)]


def params_of_next_runs(
    params: RunParams, *, limited: bool, left: Sequence[str], put_back: Collection[str], batch_ids: Sequence[str]
) -> list[Conf]:
    """Return the Params of the next runs.

    A run that makes finished requests again must not do so twice with the same request: what it has put back is for a run
    without `force`.

    :param limited: whether this run may claim only a part of what waits: then the next one has the rest of that part
    :param left: ids of the requests of that part that this run has not ended
    :param put_back: those of them that this run has claimed
    :param batch_ids: batches of a run without requests that it has not made
    """
    same = {
        name: value
        for name, value in (("layout", params.layout), ("output_format", params.output_format and str(params.output_format)))
        if value
    }
    if params.batch_ids:
        return [same | {"batch_ids": list(batch_ids)}] if batch_ids else []
    if not limited:
        return [same]
    if not params.force:
        return [same | {"request_ids": list(left)}] if left else []
    untouched = [one for one in left if one not in put_back]
    started = [one for one in left if one in put_back]
    return [
        *([same | {"request_ids": untouched, "force": True}] if untouched else []),
        *([same | {"request_ids": started}] if started else []),
    ]


def _confs(
    context: "Context", site: Site, params: RunParams, runs: Iterable[BatchRun], released: Iterable[ReleasedClaim]
) -> list[Conf]:
    limited = bool(params.request_ids or params.force or context["dag_run"].run_type == BACKFILL)
    outcomes = {one.request_id: one.outcome for one in released}
    pending = site.claims().pending_ids(select_requests(context, site, params, find_ended_runs(context, site))) if limited else []
    left = [one for one in pending if outcomes.get(one, ClaimOutcome.SUBMITTED) == ClaimOutcome.SUBMITTED]
    return params_of_next_runs(
        params,
        limited=limited,
        left=list(dict.fromkeys(left)),
        put_back={one for one in left if one in outcomes},
        batch_ids=[run.batch_id for run in runs if run.state == BatchState.DEFERRED and not run.request_id],
    )
