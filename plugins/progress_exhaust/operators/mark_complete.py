"""Last stage: the requester may see the file."""

import json
from typing import TYPE_CHECKING, Any

from progress_exhaust.operators.site_operator import RunParams, Site, in_words
from progress_exhaust.operators.stage import PACKAGE_FILE, StageOperator, Work

if TYPE_CHECKING:
    from airflow.sdk import Context


class MarkCompleteOperator(StageOperator):
    """Enters the batch in its request's processed_batches; the last one turns the request SUCCESS.

    Returns the batch's summary: all counts, bytes, and seconds by stage.
    """

    needs = (PACKAGE_FILE,)
    state_after = "done"

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
        # One that was killed after it marked has nothing left to do: taking the request again would show it as PROCESSING.
        if batch is None or batch.state != "done":
            super().work(context, site, params)
            batch = requests.batch_run(key)
        if batch is None:
            return {}
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
