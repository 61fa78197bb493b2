"""Third stage of a batch: the report's file, csv or workbook."""

from collections.abc import Generator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO

from progress_exhaust.report.options import OutputFormat
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.process_pool import run_in_processes
from progress_exhaust.stages.progress import Progress
from progress_exhaust.stages.scratch import scratch_folder
from progress_exhaust.stages.stage_operator import Counts, StageOperator
from progress_exhaust.staging.manifests import BatchManifest, ExtractManifest, HierarchyManifest, PivotManifest

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.report.csv_file import Written
    from progress_exhaust.report.report import Report


class PivotOperator(StageOperator):
    """Turn the facts chunks into the rows of the csv or workbook, in several processes; write the file, then `pivot.json`."""

    needs = (BatchManifest, HierarchyManifest, ExtractManifest)

    def run_stage(self, batch_context: BatchContext) -> Counts:
        from progress_exhaust.report.columns import columns
        from progress_exhaust.report.summary_text import CUT

        staging = batch_context.staging
        report, extracted = make_report(batch_context), staging.read(ExtractManifest)
        output_format, notes = choose_format(batch_context, report, extracted)
        file_name = batch_context.batch.file_name(batch_context.day, output_format)
        # A folder for this task attempt: no stage reads what an older attempt may still be writing.
        folder = f"pivot-{batch_context.site.task_attempt}"
        staging.delete_manifest(PivotManifest)  # after a kill from here on, the file is incomplete
        written = write_report(batch_context, report, output_format, staging.path / folder / file_name)
        if written.cut_cells:
            notes.append(CUT.format(written.cut_cells))
        for note in notes:
            batch_context.log.warning("%s: %s", batch_context.batch, note)
        summary_name = write_summary(batch_context, report, extracted, file_name, notes)
        staging.write_manifest(PivotManifest(**asdict(written), folder=folder, file_name=file_name, summary_name=summary_name))
        # A zero counts too: it replaces the number of an earlier attempt.
        return {
            "rows": written.rows,
            "columns": len(columns(report)),
            f"{output_format}_bytes": written.size_bytes,
            "csv_instead_of_xlsx": int(output_format is not batch_context.site.output_format(batch_context.params)),
            "cut_cells": written.cut_cells,
        }


def choose_format(batch_context: BatchContext, report: "Report", extracted: ExtractManifest) -> tuple[OutputFormat, list[str]]:
    """Return the format of the file, and notes for its reader. A report that is too large for a sheet is a csv."""
    from progress_exhaust.report.columns import columns
    from progress_exhaust.report.summary_text import NO_ROOM
    from progress_exhaust.report.xlsx_file import fits

    wanted = batch_context.site.output_format(batch_context.params)
    if wanted is OutputFormat.XLSX and not fits(extracted.counts["reported"], len(columns(report))):
        return OutputFormat.CSV, [NO_ROOM]
    return wanted, []


def write_report(
    batch_context: BatchContext, report: "Report", output_format: OutputFormat, path: "ObjectStoragePath"
) -> "Written":
    """Write the report's file into staging."""
    from progress_exhaust.hooks.report_store import make_folder

    make_folder(path.parent)
    write = write_workbook if output_format is OutputFormat.XLSX else write_lines
    with path.open("wb") as target:
        return write(batch_context, target, report)


def make_report(batch_context: BatchContext) -> "Report":
    """Return what all chunks of the report have in common."""
    from progress_exhaust.extract.chunk_files import attempted_contents
    from progress_exhaust.report.report import CellRules, Report

    settings, layout = batch_context.site.settings, batch_context.site.layout(batch_context.params)
    rules = CellRules(
        settings.scored_attempt,
        settings.failed_certificate_statuses,
        settings.dynamic_column_labels,
        settings.escape_formulas,
        settings.report_timezone,
    )
    attempted = attempted_contents(facts_chunks(batch_context)) if layout.scores == "attempted" else frozenset()
    facts = batch_context.staging.read(BatchManifest).facts
    hierarchy = batch_context.staging.read(HierarchyManifest).hierarchy
    return Report(batch_context.batch, facts, hierarchy, layout, rules, attempted)


def facts_chunks(batch_context: BatchContext) -> "list[ObjectStoragePath]":
    """Return the paths of the facts chunks, in order."""
    staging = batch_context.staging
    return [staging.facts_chunk(number) for number in range(staging.read(ExtractManifest).chunks)]


def write_lines(batch_context: BatchContext, target: BinaryIO, report: "Report") -> "Written":
    """Write the csv."""
    from progress_exhaust.report.csv_file import write_csv

    chunks = facts_chunks(batch_context)
    bom = batch_context.site.settings.csv_bom if report.layout.bom is None else report.layout.bom
    lines: Generator[bytes, None, None] = run_in_processes(
        csv_lines,
        (chunk.read_bytes() for chunk in chunks),
        open_resources=lambda: nullcontext(report),
        processes=min(batch_context.site.processes, max(len(chunks), 1)),
    )
    progress = Progress(batch_context, "chunks written", len(chunks), share=(0, 1))
    with closing(lines):
        return write_csv(target, report, progress.track(lines), bom=bom)


def write_workbook(batch_context: BatchContext, target: BinaryIO, report: "Report") -> "Written":
    """Write the workbook; it is made on local disk first."""
    from progress_exhaust.extract.chunk_files import from_parquet
    from progress_exhaust.report.csv_file import Written, put
    from progress_exhaust.report.xlsx_file import write_xlsx

    paths = facts_chunks(batch_context)
    progress = Progress(batch_context, "chunks written", len(paths), share=(0, 1))
    chunks = (from_parquet(path.read_bytes()) for path in progress.track(paths))
    with ExitStack() as stack:
        with scratch_folder(stack) as scratch:
            workbook = scratch / "report.xlsx"
            rows, cut_cells = write_xlsx(workbook, report, chunks, batch_context.day)
        with workbook.open("rb") as whole:
            size_bytes, sha256 = put(target, iter(lambda: whole.read(1 << 20), b""))
    return Written(rows, size_bytes, sha256, cut_cells)


def write_summary(
    batch_context: BatchContext, report: "Report", extracted: ExtractManifest, file_name: str, notes: list[str]
) -> str | None:
    """Write the summary, a text for the reader of the report, if the settings ask for one; return its file name."""
    from progress_exhaust.report.summary_text import SUMMARY_FILE, summary_text

    if not batch_context.site.settings.summary_file:
        return None
    text = summary_text(report, extracted.counts, extracted.as_of, file_name, notes)
    batch_context.staging.write_file(batch_context.staging.path / SUMMARY_FILE, text.encode())
    return SUMMARY_FILE


# In a process


def csv_lines(report: "Report", chunk: bytes) -> bytes:
    """Return the csv lines of a facts chunk (Parquet)."""
    from progress_exhaust.extract.chunk_files import from_parquet
    from progress_exhaust.report.csv_file import chunk_csv

    return chunk_csv(from_parquet(chunk), report)
