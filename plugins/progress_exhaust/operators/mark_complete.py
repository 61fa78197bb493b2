"""Last stage of a batch: the requester may download the file."""

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperatorLink

from progress_exhaust import metrics
from progress_exhaust.airflow_names import AirflowSkipException
from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.hooks.requests.models import TERMINAL_STATES, BatchState, ClaimOutcome
from progress_exhaust.links import FileLink, RequestLink
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.progress import format_counts
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.stages.stage_operator import Counts, StageOperator, run_and_record
from progress_exhaust.staging.manifests import PackageManifest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.requests.models import BatchRun

# Other DAGs follow this asset. It is an outlet of the task, not an alias: if two batches made the asset at once with their
# first event, Airflow would fail the second task.
REPORT = Asset("progress_exhaust_report")


class MarkCompleteOperator(StageOperator):
    """Enter the batch in its request's processed_batches; the last batch turns the request SUCCESS.

    Returns the batch's summary: all counts, bytes, seconds per stage, and the key of the published file.
    """

    operator_extra_links: tuple[BaseOperatorLink, ...] = (RequestLink(), FileLink())

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"outlets": [REPORT]} | kwargs)

    def run(self, context: "Context", site: Site, params: RunParams) -> dict[str, Any]:
        batch_context = self.batch_context(context, site, params)
        ledger = batch_context.ledger
        # Read this before the ledger: an older attempt of this task may mark the batch after that, and delete the staging.
        with site.store().translate_store_errors():
            package = batch_context.staging.find(PackageManifest)
        before = ledger.batch_run(batch_context.batch)
        again = before is not None and before.state == BatchState.DONE
        # An attempt that was killed after it had marked the batch has nothing left to do. Claiming the request again would
        # show it as PROCESSING.
        if not again:
            run_and_record(
                batch_context,
                lambda: complete(batch_context, package or batch_context.staging.read(PackageManifest)),
                needs=() if package else (PackageManifest,),
                state_after=BatchState.DONE,
            )
        made = ledger.batch_run(batch_context.batch)
        if made is None:  # a success would send an asset event
            raise AirflowSkipException("Dry run: no file is published, and no event is sent")
        if not again:
            metrics.learners(made.counts)
        delete_staging(batch_context)
        context["label_suffix"] = f": {made.counts.get('reported', 0):,} of {made.counts.get('enrolled', 0):,} learners"  # type: ignore[typeddict-unknown-key]
        context["outlet_events"][REPORT].extra = event_of(made, again)
        self.log.info("%s: %s", batch_context.batch, format_counts(made.counts))
        summary = summary_of(made)
        self.log.info("event=batch_done run_id=%s summary=%s", site.run_id, json.dumps(summary))
        return summary


def complete(batch_context: BatchContext, package: PackageManifest) -> Counts:
    """Mark the batch as done, and its request as SUCCESS if this was the last batch."""
    if batch_context.params.dry_run:
        return {}
    ended = batch_context.claims.complete_batch(
        batch_context.batch,
        object_key=package.key,
        size_bytes=package.size_bytes,
        sha256=package.sha256,
        protection_level=package.level,
    )
    metrics.requests_ended(ended)
    if ended[ClaimOutcome.SUCCESS]:
        batch_context.log.info("Request %s: SUCCESS", batch_context.batch.request_id)
    return {}


def delete_staging(batch_context: BatchContext) -> None:
    """Delete the staging of a batch that is done; what has to stay is deleted when settle_requests settles the run."""
    from progress_exhaust.hooks.report_store import delete_folder

    try:
        for run in batch_context.same_batch_in_other_requests():
            if run.state not in TERMINAL_STATES:
                batch_context.log.info(
                    "%s: its staging stays: the extract for request %s may use it", batch_context.batch, run.request_id
                )
                return
        delete_folder(batch_context.staging.path)
    except ProgressExhaustError as error:
        batch_context.log.warning("%s: its staging stays: %s", batch_context.batch, error)


def summary_of(made: "BatchRun") -> dict[str, Any]:
    """Return what goes to XCom and to the log: ids, counts, bytes and seconds."""
    return {
        "request_id": made.request_id,
        "batch_id": made.batch_id,
        "counts": dict(made.counts),
        "bytes": made.size_bytes,
        "seconds": dict(made.seconds),
        "key": made.object_key,
    }


def event_of(made: "BatchRun", again: bool) -> dict[str, Any]:
    """Return the asset event of a published file: ids, its key in the container, counts (docs/reference/signals.md)."""
    return {
        "request_id": made.request_id,
        "batch_id": made.batch_id,
        "collection_id": made.collection_id,
        "key": made.object_key,
        "bytes": made.size_bytes,
        "rows": made.counts.get("reported", 0),
        "enrolled": made.counts.get("enrolled", 0),
        "excluded": sum(number for name, number in made.counts.items() if name.startswith(metrics.EXCLUDED)),
        "again": again,  # the batch was marked before, and this may be a second event for it
    }
