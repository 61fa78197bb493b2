"""What a run does about a request whose row was deleted while the run made it."""

from progress_exhaust.hooks.requests.models import BatchState
from progress_exhaust.stages.batch_context import BatchContext


def drop_deleted_request(batch_context: BatchContext, message: str) -> None:
    """Delete the packages that this run has published for the request, release its claim, and reject the batch.

    The packages stay if another row has the same request id: its packages have the same keys.
    """
    batch, site = batch_context.batch, batch_context.site
    batch_context.log.warning("%s: %s", batch, message)
    if not batch_context.claims.request_id_exists(batch.request_id):
        store = site.store()
        of_request = [run for run in batch_context.ledger.run_batches() if run.batch.request_key == batch.request_key]
        keys = {batch.object_key(batch_context.day), *(run.object_key for run in of_request if run.object_key)}
        for key in sorted(keys):
            if store.holds(key):
                store.delete_package(key)
                batch_context.log.warning("%s: deleted its package %s", batch, key)
    site.releases().release_deleted()
    batch_context.ledger.record(batch, stage=batch_context.stage, state=BatchState.REJECTED, error=message, permanent=True)
