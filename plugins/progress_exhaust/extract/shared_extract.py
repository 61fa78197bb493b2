"""Use the extract of the same batch in another request of the run."""

from collections.abc import Sequence

from progress_exhaust.extract.inputs import current_inputs, is_recent
from progress_exhaust.report.request import Batch
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.staging.manifests import ChunksManifest, ExtractManifest


def copy_extract(batch_context: BatchContext, same_batches: Sequence[Batch]) -> ExtractManifest | None:
    """Copy what another request's extract made today; return its manifest.

    Return None if no extract fits, or if this extract had finished before: then it was started again on purpose.
    """
    staging = batch_context.staging
    if staging.find(ExtractManifest):
        return None
    inputs = current_inputs(batch_context)
    for batch in same_batches:
        other = batch_context.for_batch(batch).staging
        manifest = other.find(ExtractManifest)
        if manifest and is_recent(batch_context, manifest.as_of) and manifest.inputs == inputs:
            batch_context.log.info("%s: uses what was extracted for request %s", batch_context.batch, batch.request_id)
            staging.delete_manifest(ChunksManifest)
            for number in range(manifest.chunks):
                staging.write_file(staging.facts_chunk(number), other.facts_chunk(number).read_bytes())
            staging.write_manifest(manifest)
            return manifest
    return None
