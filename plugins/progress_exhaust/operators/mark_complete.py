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
        super().work(context, site, params)
        for run in site.requests().run_batches():
            if (run.request_id, run.batch_id) == (self.batch["request_id"], self.batch["batch_id"]):
                self.log.info("%s: %s", run.batch, in_words(run.counts))
                summary = {
                    "request_id": run.request_id,
                    "batch_id": run.batch_id,
                    "counts": run.counts,
                    "bytes": run.size_bytes,
                    "seconds": run.seconds,
                }
                self.log.info("summary %s", json.dumps(summary))
                return summary
        return {}
