"""Last stage: the requester may see the file."""

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from progress_exhaust import metrics
from progress_exhaust.operators.links import FileLink, RequestLink
from progress_exhaust.operators.site_operator import RunParams, Site, in_words
from progress_exhaust.operators.stage import PACKAGE_FILE, StageOperator, Work

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.job_requests import BatchRun

# Other DAGs follow it. No AssetAlias: of two tasks that end at once with its first events, Airflow 3.3 makes one FAILED.
REPORT = Asset("progress_exhaust_report")


class MarkCompleteOperator(StageOperator):
    """Enters the batch in its request's processed_batches; the last one turns the request SUCCESS.

    Returns the batch's summary: all counts, bytes, and seconds by stage.
    """

    needs = (PACKAGE_FILE,)
    state_after = "done"
    operator_extra_links = (RequestLink(), FileLink())
    key: str | None = None  # of the published file

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"outlets": [REPORT]} | kwargs)

    def make(self, work: Work) -> dict[str, Any]:
        package = work.read(PACKAGE_FILE)
        if not work.params.dry_run and work.requests.complete(
            work.batch, object_key=package["key"], size_bytes=package["size_bytes"]
        ):
            self.log.info("Request %s: SUCCESS", work.batch.request_id)
        return {}

    def work(self, context: "Context", site: Site, params: RunParams) -> dict[str, Any]:
        from progress_exhaust.report.request import Batch

        requests, key = site.requests(), Batch.from_dict(self.batch)
        batch = requests.batch_run(key)
        again = batch is not None and batch.state == "done"
        # One that was killed after it marked has nothing left to do: taking the request again would show it as PROCESSING.
        if not again:
            super().work(context, site, params)
            batch = requests.batch_run(key)
        if batch is None:  # a dry run
            self.outlets = []  # what is named at the task's end has an event
            return {}
        if not again:
            metrics.learners(batch.counts)
        self.key = batch.object_key
        self.counted = f": {batch.counts.get('reported', 0):,} of {batch.counts.get('enrolled', 0):,} learners"
        context["outlet_events"][REPORT].extra = _event(batch, again)
        self.log.info("%s: %s", batch.batch, in_words(batch.counts))
        summary = {
            "request_id": batch.request_id,
            "batch_id": batch.batch_id,
            "counts": batch.counts,
            "bytes": batch.size_bytes,
            "seconds": batch.seconds,
        }
        self.log.info("summary %s", json.dumps(summary))
        return summary


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
        "left_out": sum(number for name, number in batch.counts.items() if name.startswith(metrics.LEFT_OUT)),
        "again": again,  # the batch was marked before, and may have been told of
    }
