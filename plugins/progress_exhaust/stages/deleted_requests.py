"""What a run does about a request whose row was deleted while the run made it."""

from collections.abc import Iterable
from datetime import date

from progress_exhaust.hooks.requests.models import BatchRun, BatchState
from progress_exhaust.stages.batch_context import BatchContext, Log
from progress_exhaust.stages.site_setup import Site


def drop_deleted_request(batch_context: BatchContext, message: str) -> None:
    """Delete the packages that this run has published for the request, release its claim, and reject the batch."""
    batch, site = batch_context.batch, batch_context.site
    batch_context.log.warning("%s: %s", batch, message)
    of_request = [run for run in batch_context.ledger.run_batches() if run.batch.request_key == batch.request_key]
    delete_packages(site, of_request, batch_context.day, batch_context.log)
    site.releases().release_deleted()
    batch_context.ledger.record(batch, stage=batch_context.stage, state=BatchState.REJECTED, error=message, permanent=True)


def delete_packages(site: Site, runs: Iterable[BatchRun], day: date, log: Log) -> None:
    """Delete the packages that this run has published for batches of requests whose rows were deleted.

    A package stays if another row has the same request id: its packages have the same keys.
    """
    store, claims = site.store(), site.claims()
    for run in runs:
        key = run.object_key or run.batch.object_key(day)
        if store.holds(key) and not claims.request_id_exists(run.request_id):
            store.delete_package(key)
            log.warning("%s: deleted its package %s", run.batch, key)
