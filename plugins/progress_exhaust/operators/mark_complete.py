"""Last stage: the requester may see the file."""

from typing import Any

from progress_exhaust.operators.stage import PACKAGE_FILE, StageOperator, Work


class MarkCompleteOperator(StageOperator):
    """Enters the batch in its request's processed_batches; the last one turns the request SUCCESS."""

    state_after = "done"

    def make(self, work: Work) -> dict[str, Any]:
        package = work.read(PACKAGE_FILE)
        if not work.params.dry_run and work.requests.complete(
            work.batch, object_key=package["key"], size_bytes=package["size_bytes"]
        ):
            self.log.info("Request %s: SUCCESS", work.batch.request_id)
        return {}
