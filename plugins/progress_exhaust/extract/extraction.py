"""The extract of a batch: enrolments → enrolled chunks → facts chunks → `extract.json`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial

from progress_exhaust.extract.cache_check import check_user_cache, raise_if_flushed
from progress_exhaust.extract.chunk_files import read_counts
from progress_exhaust.extract.enrolment_reading import read_enrolled_chunks
from progress_exhaust.extract.facts_reader import facts_of_chunk, open_facts_reader
from progress_exhaust.extract.inputs import current_inputs, make_eligibility
from progress_exhaust.extract.table_scans import scan_fact_tables
from progress_exhaust.hooks.cassandra.models import tables_of
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.report.eligibility import no_exclusions
from progress_exhaust.report.excluded import CONTENT_COUNTS
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.process_pool import frozen_heap, run_in_processes
from progress_exhaust.stages.progress import LEARNERS, Progress
from progress_exhaust.staging.manifests import ChunksManifest, ExtractManifest


def extract_batch(batch_context: BatchContext) -> ExtractManifest:
    """Extract the batch, or continue an extract of today that did not finish; return its manifest."""
    inputs = current_inputs(batch_context)
    with frozen_heap(), batch_context.site.learner_tables() as tables:
        chunks, share_done = read_enrolled_chunks(batch_context, tables, inputs)
        counts = _write_facts_chunks(batch_context, tables, chunks, share_done)
    manifest = ExtractManifest(as_of=chunks.as_of, inputs=inputs, chunks=len(chunks.first_user_ids), counts=counts)
    batch_context.staging.write_manifest(manifest)
    return manifest


def _write_facts_chunks(
    batch_context: BatchContext, tables: LearnerTablesHook, chunks: ChunksManifest, share_done: float
) -> Counter[str]:
    """Write the facts chunks that are missing; return the counts of the whole extract.

    :param share_done: how much of the stage is done, from 0 to 1
    """
    staging, enrolled = batch_context.staging, chunks.counts["enrolled"]
    is_missing = [not staging.facts_chunk(number).exists() for number in range(len(chunks.first_user_ids))]
    missing = [number for number, missing in enumerate(is_missing) if missing]
    batch_context.report_progress({"enrolled": enrolled, "percent": int(100 * share_done)})
    nothing = {"reported": 0, "missing": 0} | no_exclusions(of_enrolment=False) | dict.fromkeys(CONTENT_COUNTS, 0)
    counts = Counter(nothing | chunks.counts)
    with ExitStack() as stack:
        facts: Iterator[bytes] = iter(())
        if missing:
            facts, share_done = _start_reading(batch_context, tables, chunks, missing, share_done, stack)
        progress = Progress(batch_context, LEARNERS, enrolled, share=(share_done, 1))
        for number, is_new in enumerate(is_missing):
            path = staging.facts_chunk(number)
            if is_new:
                staging.write_file(path, next(facts))
            chunk_counts = read_counts(path)
            counts.update(chunk_counts)
            raise_if_flushed(batch_context, counts)
            learners = chunk_counts["reported"] + sum(chunk_counts[name] for name in no_exclusions(of_enrolment=False))
            progress.add(learners) if is_new else progress.skip(learners)
    return counts


def _start_reading(
    batch_context: BatchContext,
    tables: LearnerTablesHook,
    chunks: ChunksManifest,
    missing: Sequence[int],
    share_done: float,
    stack: ExitStack,
) -> tuple[Iterator[bytes], float]:
    """Start reading the facts of the missing chunks, in several processes.

    Return an iterator of the facts chunks (Parquet), and how much of the stage the scans have done.
    """
    site, staging = batch_context.site, batch_context.staging
    tables.check_shapes(tables_of(chunks.inputs.scores_from))
    check_user_cache(batch_context, chunks)
    buckets, share_done = scan_fact_tables(batch_context, tables, chunks, share_done, stack)
    processes = max(1, min(site.processes, len(missing)))
    if processes > 1:
        tables.close()  # each process opens its own connections
    facts = run_in_processes(
        facts_of_chunk,
        ((number, staging.enrolled_chunk(number).read_bytes()) for number in missing),
        open_resources=partial(
            open_facts_reader,
            site,
            batch_context.batch.key,
            make_eligibility(batch_context),
            chunks.inputs,
            buckets,
            tables if processes == 1 else None,
        ),
        processes=processes,
        connection_ids=site.source_connections,
    )
    return stack.enter_context(closing(facts)), share_done
