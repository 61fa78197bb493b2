"""Second stage of a batch: the facts of its learners."""

from typing import Any

from progress_exhaust import lineage
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.stage_operator import Counts, StageOperator
from progress_exhaust.staging.manifests import BatchManifest, HierarchyManifest


class ExtractOperator(StageOperator):
    """Read enrolments, user cache, nested progress and attempts; write Parquet files, one per chunk of learners.

    `extract.json` is written last. A retry on the same day continues after the last finished chunk.
    """

    needs = (BatchManifest, HierarchyManifest)

    def run_stage(self, batch_context: BatchContext) -> Counts:
        """Extract the batch; if other requests of the run ask for the same batch for the same org, extract it once."""
        from progress_exhaust.extract.extraction import extract_batch
        from progress_exhaust.extract.shared_extract import copy_extract

        same_batches = [run.batch for run in batch_context.same_batch_in_other_requests()]
        if not same_batches:
            return extract_batch(batch_context).counts
        batch = batch_context.batch
        with batch_context.locks.exclusive_lock(f"extract of {batch.collection_id} {batch.batch_id} {batch.channel}"):
            return (copy_extract(batch_context, same_batches) or extract_batch(batch_context)).counts

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> Any:
        return lineage.extract_facets()
