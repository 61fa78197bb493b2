"""Close the run: every request of it gets an outcome."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from progress_exhaust import compat, metrics
from progress_exhaust.hooks.requests.models import TERMINAL_STATES, BatchRun, BatchState, ClaimOutcome
from progress_exhaust.names import XCOM_REQUESTS_FOUND
from progress_exhaust.report.excluded import CONTENT_COUNTS, EXCLUDED
from progress_exhaust.stages.base_operator import BaseTaskOperator
from progress_exhaust.stages.progress import format_counts
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.stages.staging_cleanup import StagingCleanup, by_run

if TYPE_CHECKING:
    from airflow.sdk import Context

TRIED_AGAIN = "could not be made this time and is tried again, up to three times in all"
TOTALS = ("enrolled", "reported", "excluded", "missing", *CONTENT_COUNTS, "package_bytes")
Summary = dict[str, dict[str, int]]


class SettleRequestsOperator(BaseTaskOperator):
    """Set FAILED for a request with a failed batch, and SUBMITTED again for one with deferred batches.

    The ledger decides: a killed task returns nothing. This task fails if a task of the run did, because only leaf tasks decide
    whether a run is red. Returns the run's summary.
    """

    def run(self, context: "Context", site: Site, params: RunParams) -> Summary:
        site.ledger().prepare()
        runs = site.ledger().run_batches()
        if not params.dry_run:
            self._settle(site, runs)
        cleanup = StagingCleanup(site, self.log)
        delete_finished_staging(site, cleanup, runs, all_of_it=params.dry_run)
        if not params.dry_run:
            metrics.undeleted_staging(cleanup.retry(context))
        summary = summarize(context, site, runs)
        self.log.info(" | ".join(f"{part} {format_counts(counts)}" for part, counts in summary.items()))
        self.log.info("event=run_settled run_id=%s summary=%s", site.run_id, json.dumps(summary))
        failed = failed_tasks(context)
        if failed:
            raise AirflowFailException(
                f"{len(failed)} tasks of this run failed: {', '.join(failed)}. Fix the cause, then clear them with their "
                "downstream tasks"
            )
        return summary

    def _settle(self, site: Site, runs: Sequence[BatchRun]) -> None:
        claims = site.claims()
        batches: defaultdict[tuple[str, str], list[BatchRun]] = defaultdict(list)
        for run in runs:
            batches[run.tag, run.request_id].append(run)
        for request in claims.held_without_duplicates():
            of_request = batches[request.key]
            failed = [run for run in of_request if run.state not in (BatchState.DONE, BatchState.DEFERRED)]
            if failed:
                message = "; ".join(describe_failure(run) for run in failed)
                self.log.warning("Request %s: FAILED: %s", request.request_id, message)
                metrics.requests_ended(claims.fail(*request.key, message))
            else:
                deferred = sum(run.state == BatchState.DEFERRED for run in of_request)
                self.log.info("Request %s: SUBMITTED again: batches deferred=%d", request.request_id, deferred)
                metrics.requests_ended(claims.requeue(*request.key))


def describe_failure(run: BatchRun) -> str:
    """Return what the requester reads about a batch that was not made."""
    return f"Batch {run.batch_id}: {run.error}" if run.state == BatchState.REJECTED else f"Batch {run.batch_id} {TRIED_AGAIN}"


def delete_finished_staging(site: Site, cleanup: StagingCleanup, runs: Sequence[BatchRun], *, all_of_it: bool) -> None:
    """Delete the staging that no rerun needs: all of it if no batch failed; and what earlier runs kept for a rerun."""
    store = site.store()
    unfinished = site.ledger().unfinished_in_other_runs()
    for run_id, folders in by_run((run_id, store.batch_folder(run_id, batch)) for run_id, batch in unfinished).items():
        cleanup.delete(run_id, folders)
    finished = [run for run in runs if run.state in TERMINAL_STATES]
    if all_of_it or len(finished) == len(runs):
        cleanup.delete(site.run_id, [store.run_folder(site.run_id)])
        return
    # A batch that is rerun has its own hierarchy and chunks, and reads its own partitions.
    folders = [*(store.batch_folder(site.run_id, run.batch) for run in finished), store.shared_folder(site.run_id)]
    cleanup.delete(site.run_id, folders)


def summarize(context: "Context", site: Site, runs: Sequence[BatchRun]) -> Summary:
    """Return the counts of the run: requests by outcome, batches by state, learners."""
    outcomes = site.claims().outcomes()
    learners: Counter[str] = Counter(dict.fromkeys(TOTALS, 0) | {f"{metrics.EXCLUDED}{reason}": 0 for reason in EXCLUDED})
    for run in runs:
        learners.update({name: number for name, number in run.counts.items() if name in TOTALS})
        excluded = {name: number for name, number in run.counts.items() if name.startswith(metrics.EXCLUDED)}
        learners.update(excluded | {"excluded": sum(excluded.values())})
    states = Counter(run.state for run in runs)
    return {
        "requests": {
            "found": context["ti"].xcom_pull(task_ids="claim_requests", key=XCOM_REQUESTS_FOUND) or 0,
            "claimed": sum(number for outcome, number in outcomes.items() if outcome != "duplicate"),
            "duplicate": outcomes["duplicate"],
            "succeeded": outcomes[ClaimOutcome.SUCCESS],
            "failed": outcomes[ClaimOutcome.FAILED],
            "deferred": outcomes[ClaimOutcome.SUBMITTED],
        },
        "batches": {str(state): states[state] for state in BatchState},
        "learners": dict(learners),
    }


def failed_tasks(context: "Context") -> list[str]:
    """Return the ids of the tasks of the run that failed."""
    states = compat.task_states(context["ti"], context["dag"].dag_id, context["run_id"])
    return sorted(task_id for task_id, state in states.items() if state == "failed")
