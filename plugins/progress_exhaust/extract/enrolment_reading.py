"""Read the enrolments of a batch and write them as enrolled chunks."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import NamedTuple

from progress_exhaust.extract.chunk_files import to_parquet
from progress_exhaust.extract.enrolled_chunks import cut_into_chunks, learners_per_chunk, make_enrolled_chunk
from progress_exhaust.extract.shared_scan import ScanDecision, scan_once_per_run
from progress_exhaust.extract.sorted_enrolments import sort_enrolments
from progress_exhaust.hooks.cassandra.models import Enrolment, Table, tables_of
from progress_exhaust.hooks.cassandra.shapes import KeyedBy
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.report.eligibility import no_exclusions
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.progress import Progress
from progress_exhaust.staging.manifests import ChunksManifest, ExtractInputs, ExtractManifest, RestartManifest

SHARE_OF_ENROLMENT_SCAN = 0.5  # how much of the stage a scan of the enrolments is


class EnrolmentStream(NamedTuple):
    """The enrolments of a batch, in the order of their user ids."""

    as_of: datetime
    enrolments: Iterator[Enrolment]
    share_done: float  # of the stage, before the first is read


def read_enrolled_chunks(
    batch_context: BatchContext, tables: LearnerTablesHook, inputs: ExtractInputs
) -> tuple[ChunksManifest, float]:
    """Return the batch's enrolled chunks, in user id order, and how much of the stage is done (0 to 1).

    Chunks that an earlier task attempt wrote today are used again.
    """
    staging, log = batch_context.staging, batch_context.log
    _restart_if_finished(batch_context)
    found = staging.find(ChunksManifest)
    if found and batch_context.is_from_today(found.as_of) and found.inputs == inputs:
        chunks = len(found.first_user_ids)
        finished = sum(staging.facts_chunk(number).exists() for number in range(chunks))
        log.info("%s: continues after %d of %d finished chunks", batch_context.batch, finished, chunks)
        return found, 0.0
    for folder in ("enrolled", "facts"):
        staging.delete_folder(folder)
    tables.check_shapes(tables_of(inputs.scores_from))
    chunk_size = learners_per_chunk(batch_context.site.settings.learners_per_chunk, inputs)
    counts, first_user_ids = Counter(enrolled=0, **no_exclusions(of_enrolment=True)), list[str]()
    with ExitStack() as stack:
        stream = open_enrolments(batch_context, tables, stack)
        progress = Progress(batch_context, "enrolments read")
        for enrolments in cut_into_chunks(stream.enrolments, chunk_size):
            table, chunk_counts = make_enrolled_chunk(enrolments, inputs)
            staging.write_file(staging.enrolled_chunk(len(first_user_ids)), to_parquet(table, chunk_counts))
            first_user_ids.append(enrolments[0].user_id)
            counts.update(chunk_counts)
            progress.add(len(enrolments))
    if not first_user_ids:
        tables.check_copy_is_filled()
    manifest = ChunksManifest(as_of=stream.as_of, inputs=inputs, first_user_ids=tuple(first_user_ids), counts=counts)
    staging.write_manifest(manifest)
    return manifest, stream.share_done


def open_enrolments(batch_context: BatchContext, tables: LearnerTablesHook, stack: ExitStack) -> EnrolmentStream:
    """Start reading the batch's enrolments: from its partition, or by one read for the run of a table that is keyed by user.

    :param stack: its end deletes what the stream has on local disk
    """
    keyed_by = tables.shape(Table.ENROLMENTS).keyed_by
    if keyed_by is KeyedBy.BATCH:
        return EnrolmentStream(datetime.now(UTC), tables.enrolments_of_batch(*batch_context.batch.key), 0.0)
    decision = ScanDecision(scan=True, reason="The enrolments are keyed by user: one scan")
    if keyed_by is KeyedBy.LEARNER_INDEXED and batch_context.site.settings.read_strategy != "scan":
        decision = ScanDecision(scan=True, by_index=True, reason="The enrolments have an index on the course: read by it")
    scan = scan_once_per_run(
        batch_context, tables, Table.ENROLMENTS, lambda _keys: decision, share=(0.0, SHARE_OF_ENROLMENT_SCAN)
    )
    return EnrolmentStream(scan.as_of, sort_enrolments(scan.rows, stack), SHARE_OF_ENROLMENT_SCAN)


def _restart_if_finished(batch_context: BatchContext) -> None:
    """Start again if the extract has finished: an engineer cleared it, and wants facts that are newer than this instant."""
    staging = batch_context.staging
    if staging.find(ExtractManifest) is None:
        return
    staging.write_manifest(RestartManifest(restarted_at=datetime.now(UTC)))
    staging.delete_manifest(ChunksManifest)
    staging.delete_manifest(ExtractManifest)
