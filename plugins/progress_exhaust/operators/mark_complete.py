"""Last stage: the requester may see the file."""

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from progress_exhaust import metrics
from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.operators.links import FileLink, RequestLink
from progress_exhaust.operators.site_operator import RunParams, Site, in_words
from progress_exhaust.operators.stage import OVER, PACKAGE_FILE, StageOperator, Work

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.job_requests import BatchRun

# Other DAGs follow it. It is the task's own outlet, not an alias's: an asset that is made with its first event is made by
# two batches at once, and Airflow fails the task of the second.
REPORT = Asset("progress_exhaust_report")


class MarkCompleteOperator(StageOperator):
    """Enters the batch in its request's processed_batches; the last one turns the request SUCCESS.

    Returns the batch's summary: all counts, bytes, and seconds by stage.
    """

    needs = (PACKAGE_FILE,)
    state_after = "done"
    operator_extra_links = (RequestLink(), FileLink())
    package: dict[str, Any] | None = None  # what the stage before left
    key: str | None = None  # of the published file

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"outlets": [REPORT]} | kwargs)

    def make(self, work: Work) -> dict[str, Any]:
        package = self.package or work.read(PACKAGE_FILE)
        if not work.params.dry_run and work.requests.complete(
            work.batch, object_key=package["key"], size_bytes=package["size_bytes"]
        ):
            self.log.info("Request %s: SUCCESS", work.batch.request_id)
        return {}

    def work(self, context: "Context", site: Site, params: RunParams) -> dict[str, Any]:
        work = self.work_of(context, site, params)
        # Before the ledger is asked: a late try that marks the batch after that takes the file away.
        with site.store().telling_staging():
            self.package = work.find(PACKAGE_FILE)
        if self.package:
            self.needs = ()
        made = work.requests.batch_run(work.batch)
        again = made is not None and made.state == "done"
        # One that was killed after it marked has nothing left to do: taking the request again would show it as PROCESSING.
        if not again:
            self.do(work)
            made = work.requests.batch_run(work.batch)
        if made is None:  # a success would be told as an event
            raise AirflowSkipException("Dry run: no file is published, and none is told of")
        if not again:
            metrics.learners(made.counts)
        self._remove_learners(work)
        self.key = made.object_key
        self.counted = f": {made.counts.get('reported', 0):,} of {made.counts.get('enrolled', 0):,} learners"
        context["outlet_events"][REPORT].extra = _event(made, again)
        self.log.info("%s: %s", work.batch, in_words(made.counts))
        summary = {
            "request_id": made.request_id,
            "batch_id": made.batch_id,
            "counts": made.counts,
            "bytes": made.size_bytes,
            "seconds": made.seconds,
        }
        self.log.info("summary %s", json.dumps(summary))
        return summary

    def _remove_learners(self, work: Work) -> None:
        """Remove the staging of a batch that is done; what has to stay goes when settle_requests settles the run."""
        from progress_exhaust.hooks.report_store import remove_folder

        try:
            for run in work.alike():
                if run.state not in OVER:
                    self.log.info(
                        "%s: its staging stays: the extract for request %s may take it over", work.batch, run.request_id
                    )
                    return
            remove_folder(work.folder)
        except ProgressExhaustError as error:
            self.log.warning("%s: its staging stays: %s", work.batch, error)


def _event(batch: "BatchRun", again: bool) -> dict[str, Any]:
    """Return what a follower is told of a published file: ids, its key in the container, counts; docs/signals.md."""
    return {
        "request_id": batch.request_id,
        "batch_id": batch.batch_id,
        "collection_id": batch.collection_id,
        "key": batch.object_key,
        "bytes": batch.size_bytes,
        "rows": batch.counts.get("reported", 0),
        "enrolled": batch.counts.get("enrolled", 0),
        "excluded": sum(number for name, number in batch.counts.items() if name.startswith(metrics.EXCLUDED)),
        "again": again,  # the batch was marked before, and may have been told of
    }
