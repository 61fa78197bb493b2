"""Closes the run: no request of it is left without an outcome."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from progress_exhaust.operators.claim_requests import FOUND
from progress_exhaust.operators.site_operator import RunParams, Site, SiteOperator, in_words
from progress_exhaust.operators.stage import OVER

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.job_requests import BatchRun, RequestsHook

TRIED_AGAIN = "could not be made this time and is tried again, up to three times in all"
TOTALS = ("enrolled", "reported", "missing", "package_bytes")


class SettleRequestsOperator(SiteOperator):
    """FAILED for a request with a failed batch, SUBMITTED again for one whose batches have to wait.

    It decides from the ledger, since a killed task tells nobody, and fails where a task of the run did: only leaf
    tasks decide whether a run is red. Returns the run's summary.
    """

    def work(self, context: "Context", site: Site, params: RunParams) -> dict[str, Any]:
        requests = site.requests()
        requests.prepare()
        runs = requests.run_batches()
        if not params.dry_run:
            self._settle(requests, runs)
        self._clean(site, runs, all_of_it=params.dry_run)
        summary = self._summary(context, requests, runs)
        failed = self._failed_tasks(context)
        if failed:
            raise AirflowFailException(
                f"{len(failed)} tasks of this run failed: {', '.join(failed)}. Once the cause is mended, clear them with "
                "what follows them"
            )
        return summary

    def _settle(self, requests: "RequestsHook", runs: "list[BatchRun]") -> None:
        batches: defaultdict[tuple[str, str], list[BatchRun]] = defaultdict(list)
        for run in runs:
            batches[run.tag, run.request_id].append(run)
        for request in requests.held_without_twins():
            of_it = batches[request.key]
            failed = [run for run in of_it if run.state not in ("done", "deferred")]
            if failed:
                message = "; ".join(_in_words(run) for run in failed)
                self.log.warning("Request %s: FAILED: %s", request.request_id, message)
                requests.fail(*request.key, message)
            else:
                why = f"{sum(run.state == 'deferred' for run in of_it)} of its batches" if of_it else "it"
                self.log.info("Request %s: SUBMITTED again: %s waits for the next run", request.request_id, why)
                requests.give_back(*request.key)

    def _clean(self, site: Site, runs: "list[BatchRun]", *, all_of_it: bool) -> None:
        """Remove the staging that no rerun needs: all of it, where no batch failed; and what earlier runs kept for one."""
        from progress_exhaust.hooks.report_store import remove_folder

        store = site.store()
        for run_id, batch in site.requests().left_by_others():
            remove_folder(store.batch_folder(run_id, batch))
        over = [run for run in runs if run.state in OVER]
        if all_of_it or len(over) == len(runs):
            remove_folder(store.run_folder(site.run_id))
            return
        for run in over:
            remove_folder(store.batch_folder(site.run_id, run.batch))
        # A batch that is rerun has its own hierarchy and pages, and is better served by its own partitions.
        remove_folder(store.shared_folder(site.run_id))

    def _summary(self, context: "Context", requests: "RequestsHook", runs: "Iterable[BatchRun]") -> dict[str, Any]:
        outcomes = requests.outcomes()
        totals: Counter[str] = Counter()
        for run in runs:
            totals.update({name: number for name, number in run.counts.items() if name.startswith(("excluded", *TOTALS))})
        summary = {
            "requests": {
                "found": context["ti"].xcom_pull(task_ids="claim_requests", key=FOUND) or 0,
                "claimed": sum(number for outcome, number in outcomes.items() if outcome != "duplicate"),
                "duplicate": outcomes["duplicate"],
                "succeeded": outcomes["SUCCESS"],
                "failed": outcomes["FAILED"],
                "deferred": outcomes["SUBMITTED"],
            },
            "batches": dict(Counter(run.state for run in runs)),
            "learners": dict(totals),
        }
        words = [f"{part}: {in_words(counts) or 'none'}" for part, counts in summary.items()]
        self.log.info("This run's %s", "; ".join(words))
        self.log.info("summary %s", json.dumps(summary))
        return summary

    def _failed_tasks(self, context: "Context") -> list[str]:
        states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, run_ids=[context["run_id"]])
        return sorted(task_id for tasks in states.values() for task_id, state in tasks.items() if state == "failed")


def _in_words(run: "BatchRun") -> str:
    return f"Batch {run.batch_id}: {run.error}" if run.state == "rejected" else f"Batch {run.batch_id} {TRIED_AGAIN}"
