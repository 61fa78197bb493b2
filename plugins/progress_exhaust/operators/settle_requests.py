"""Closes the run: no request of it is left without an outcome."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from progress_exhaust.operators.site import RunParams, Site, SiteOperator, in_words

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.job_requests import BatchRun, RequestsHook

TO_BE_RETRIED = "could not be made this time; it is tried again at the next run, up to three times"


class SettleRequestsOperator(SiteOperator):
    """FAILED for a request with a failed batch, SUBMITTED again for one that no batch was listed for.

    It decides from the ledger, since a killed task tells nobody, and fails where a task of the run did: only leaf
    tasks decide whether a run is red.
    """

    def work(self, context: "Context", site: Site, params: RunParams) -> dict[str, int]:
        requests = site.requests()
        requests.prepare()
        runs = requests.run_batches()
        counts: Counter[str] = Counter(f"batches_{run.state}" for run in runs)
        if not params.dry_run:
            counts.update(self._settle(requests, runs))
        self._clean(site, runs, all_of_it=params.dry_run)
        failed = self._failed_tasks(context)
        self.log.info("Run %s: %s", site.run_id, in_words(counts) or "nothing to do")
        if failed:
            raise AirflowFailException(
                f"{len(failed)} tasks of this run failed: {', '.join(failed)}. Once the cause is mended, clear them with "
                "what follows them"
            )
        return dict(counts)

    def _settle(self, requests: "RequestsHook", runs: "list[BatchRun]") -> Counter[str]:
        counts: Counter[str] = Counter()
        batches: defaultdict[tuple[str, str], list[BatchRun]] = defaultdict(list)
        for run in runs:
            batches[run.tag, run.request_id].append(run)
        for request in requests.held(twins=False):
            unfinished = [run for run in batches[request.key] if run.state != "done"]
            if not batches[request.key]:
                self.log.warning("Request %s: given back, its batches were never listed", request.request_id)
                requests.give_back(*request.key)
                counts["requests_given_back"] += 1
            elif unfinished:
                message = "; ".join(_in_words(run) for run in unfinished)
                self.log.warning("Request %s: FAILED: %s", request.request_id, message)
                requests.fail(*request.key, message)
                counts["requests_failed"] += 1
        return counts

    def _clean(self, site: Site, runs: "list[BatchRun]", *, all_of_it: bool) -> None:
        """Remove the staging that no rerun needs: all of it, where no batch failed."""
        from progress_exhaust.hooks.report_store import remove_folder
        from progress_exhaust.report.request import Batch

        store = site.store()
        over = [run for run in runs if run.state in ("done", "refused")]
        if all_of_it or len(over) == len(runs):
            remove_folder(store.run_folder(site.run_id))
            return
        for run in over:
            remove_folder(store.batch_folder(site.run_id, Batch(run.tag, run.request_id, "", run.batch_id, run.collection_id)))

    def _failed_tasks(self, context: "Context") -> list[str]:
        states = context["ti"].get_task_states(dag_id=context["dag"].dag_id, run_ids=[context["run_id"]])
        return sorted(task_id for tasks in states.values() for task_id, state in tasks.items() if state == "failed")


def _in_words(run: "BatchRun") -> str:
    return f"Batch {run.batch_id}: {run.error}" if run.state == "refused" else f"Batch {run.batch_id} {TO_BE_RETRIED}"
