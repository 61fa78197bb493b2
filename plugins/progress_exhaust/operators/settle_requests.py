"""Close the run: every request of it gets an outcome."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from progress_exhaust import compat, metrics
from progress_exhaust.airflow_names import AirflowFailException
from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import ClaimLostError, ProgressExhaustError, RequestCancelledError
from progress_exhaust.hooks.requests.models import TERMINAL_STATES, BatchRun, BatchState, ClaimOutcome
from progress_exhaust.names import XCOM_LIST_NEEDS_OPERATOR, XCOM_REQUESTS_FOUND, XCOM_REQUESTS_NOT_LISTED
from progress_exhaust.report.excluded import CONTENT_COUNTS, EXCLUDED
from progress_exhaust.stages.airflow_runs import prepare_ledger
from progress_exhaust.stages.base_operator import BaseTaskOperator
from progress_exhaust.stages.deleted_requests import delete_packages
from progress_exhaust.stages.next_run import start_next_runs
from progress_exhaust.stages.old_staging import warn_of_old_staging
from progress_exhaust.stages.progress import format_counts
from progress_exhaust.stages.site_setup import RunParams, Site, report_day
from progress_exhaust.stages.staging_cleanup import StagingCleanup, by_run

if TYPE_CHECKING:
    from airflow.sdk import Context

TOTALS = ("enrolled", "reported", "excluded", "missing", *CONTENT_COUNTS, "package_bytes")
Summary = dict[str, dict[str, int]]


class SettleRequestsOperator(BaseTaskOperator):
    """End every request that the run still holds: SUCCESS, FAILED, or SUBMITTED again for one with deferred batches.

    The ledger decides: a killed task returns nothing. This task fails if a task of the run did, because only leaf tasks decide
    whether a run is red. Returns the run's summary.
    """

    def run(self, context: "Context", site: Site, params: RunParams) -> Summary:
        prepare_ledger(context, site)
        runs = site.ledger().run_batches()
        errors: list[ProgressExhaustError] = []
        if not params.dry_run:
            self._release_deleted(context, site, runs)
            needs_operator = context["ti"].xcom_pull(task_ids="list_batches", key=XCOM_LIST_NEEDS_OPERATOR)
            errors = self._settle(site, list_needs_operator=bool(needs_operator))
        cleanup = StagingCleanup(site, self.log)
        delete_finished_staging(site, cleanup, runs, all_of_it=params.dry_run)
        if not params.dry_run:
            metrics.undeleted_staging(cleanup.retry(context))
            metrics.old_staging(warn_of_old_staging(context, site, self.log))
        summary = summarize(context, site, runs)
        self.log.info(" | ".join(f"{part} {format_counts(counts)}" for part, counts in summary.items()))
        self.log.info("event=run_settled run_id=%s summary=%s", site.run_id, json.dumps(summary))
        lost = [error for error in errors if isinstance(error, ClaimLostError)]
        for error in errors:
            if error not in lost:  # a retry may solve it: until then, it is not known what is left for the next run
                raise error
        if not params.dry_run:
            start_next_runs(context, site, params, runs, self.log)
        if lost:
            raise lost[0]
        failed = failed_tasks(context)
        not_listed = context["ti"].xcom_pull(task_ids="list_batches", key=XCOM_REQUESTS_NOT_LISTED) or []
        if not_listed and not failed:
            raise AirflowFailException(
                f"{len(not_listed)} requests could not be listed: {', '.join(not_listed)}. The log of list_batches says why. The "
                "next run tries them again"
            )
        if failed:
            raise AirflowFailException(
                f"{len(failed)} tasks of this run failed: {', '.join(failed)}. Fix the cause, then clear them with their "
                f"downstream tasks. {docs_page('reference/messages')} explains every message"
            )
        return summary

    def _release_deleted(self, context: "Context", site: Site, runs: Sequence[BatchRun]) -> None:
        """Release the claims on requests whose rows were deleted, and delete what this run has published for them."""
        deleted = set(site.releases().release_deleted())
        for _, request_id in deleted:
            self.log.warning("Request %s: its row no longer exists in job_request: its claim is released", request_id)
        published = [run for run in runs if run.batch.request_key in deleted and run.size_bytes]
        delete_packages(site, published, report_day(context, site.settings), self.log)

    def _settle(self, site: Site, *, list_needs_operator: bool = False) -> list[ProgressExhaustError]:
        """Give each request of the run an outcome; return the errors of those that have none."""
        claims = site.claims()
        errors: list[ProgressExhaustError] = []
        for request in claims.held_without_duplicates():
            try:
                ending, ended = claims.settle(*request.key, list_needs_operator=list_needs_operator)
            except RequestCancelledError as error:
                self.log.info("Request %s: %s", request.request_id, error)
                continue
            except ProgressExhaustError as error:  # it concerns this request only: the others are settled all the same
                self.log.warning("Request %s is not settled: %s", request.request_id, error)
                errors.append(error)
                continue
            metrics.requests_ended(ended)
            log = self.log.warning if ending.message else self.log.info
            log("Request %s: %s: %s", request.request_id, ending.outcome, ending.message or "batches wait for a later run")
        return errors


def delete_finished_staging(site: Site, cleanup: StagingCleanup, runs: Sequence[BatchRun], *, all_of_it: bool) -> None:
    """Delete the staging that no rerun needs: all of it if no batch failed; and what earlier runs kept for a rerun."""
    from progress_exhaust.report.request import is_id

    store = site.store()
    # An id that is not valid was rejected, and never had a folder.
    unfinished = [(run_id, batch) for run_id, batch in site.ledger().unfinished_in_other_runs() if is_id(batch.batch_id)]
    for run_id, folders in by_run((run_id, store.batch_folder(run_id, batch)) for run_id, batch in unfinished).items():
        cleanup.delete(run_id, folders)
    finished = [run for run in runs if run.state in TERMINAL_STATES and is_id(run.batch_id)]
    if all_of_it or all(run.state in TERMINAL_STATES for run in runs):
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
