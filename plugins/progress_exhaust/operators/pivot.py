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
from progress_exhaust.staging.manifests import BatchManifest, ExtractManifest, HierarchyManifest, PivotManifest, WorkbookFile

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.report.csv_file import Written
    from progress_exhaust.report.report import Report


class PivotOperator(StageOperator):
    """Turn the facts chunks into the rows of the csv, in several processes, or of a workbook; write `pivot.json` last."""

    needs = (BatchManifest, HierarchyManifest, ExtractManifest)

    def run_stage(self, batch_context: BatchContext) -> Counts:
        from progress_exhaust.report.columns import columns

        staging, site = batch_context.staging, batch_context.site
        report, extracted = make_report(batch_context), staging.read(ExtractManifest)
        wanted = site.output_format(batch_context.params)
        output_format = choose_format(wanted, report, extracted)
        # A folder for this task attempt: no stage reads what an older attempt may still be writing.
        folder = f"pivot-{site.task_attempt}"
        staging.delete_manifest(PivotManifest)  # after a kill from here on, a file is incomplete
        written = write_reports(batch_context, report, output_format, staging.path / folder)
        (file_name, first), *others = written.items()
        cut_cells = sum(one.cut_cells for one in written.values())
        notes = reader_notes(batch_context, lacks_workbook=output_format is not wanted, cut_cells=cut_cells)
        staging.write_manifest(
            PivotManifest(
                **asdict(first) | {"cut_cells": cut_cells},
                folder=folder,
                file_name=file_name,
                workbook=next((WorkbookFile(name=name, **asdict(one)) for name, one in others), None),
                columns_name=write_columns(batch_context, report),
                summary_name=write_summary(batch_context, report, extracted, ", ".join(written), notes),
            )
        )
        # A zero counts too: it replaces the number of an earlier attempt.
        return {
            "rows": first.rows,
            "columns": len(columns(report)),
            **{f"{name.rpartition('.')[2]}_bytes": one.size_bytes for name, one in written.items()},
            "csv_instead_of_xlsx": int(output_format is not wanted),
            "cut_cells": cut_cells,
        }


def choose_format(wanted: OutputFormat, report: "Report", extracted: ExtractManifest) -> OutputFormat:
    """Return the wanted format, or csv if the report is too large for a sheet."""
    from progress_exhaust.report.columns import columns
    from progress_exhaust.report.xlsx_file import fits

    if OutputFormat.XLSX in wanted.endings and not fits(extracted.counts["reported"], len(columns(report))):
        return OutputFormat.CSV
    return wanted


def reader_notes(batch_context: BatchContext, *, lacks_workbook: bool, cut_cells: int) -> list[str]:
    """Return notes for the reader of the report, and log them."""
    from progress_exhaust.report.summary_text import CUT, NO_ROOM

    notes = [NO_ROOM] * lacks_workbook + [CUT.format(cut_cells)] * (cut_cells > 0)
    for note in notes:
        batch_context.log.warning("%s: %s", batch_context.batch, note)
    return notes


def write_reports(
    batch_context: BatchContext, report: "Report", output_format: OutputFormat, folder: "ObjectStoragePath"
) -> "dict[str, Written]":
    """Write the report's files into a folder; return their facts by name."""
    from progress_exhaust.hooks.report_store import make_folder

    make_folder(folder)
    chunks, written = facts_chunks(batch_context), {}
    progress = Progress(batch_context, "chunks written", len(chunks) * len(output_format.endings), share=(0, 1))
    for ending in output_format.endings:
        name = batch_context.batch.file_name(batch_context.day, ending)
        write = write_workbook if ending == OutputFormat.XLSX else write_lines
        with (folder / name).open("wb") as target:
            written[name] = write(batch_context, target, report, chunks, progress)
    return written


def make_report(batch_context: BatchContext) -> "Report":
    """Return what all chunks of the report have in common."""
    from progress_exhaust.extract.chunk_files import attempted_contents, max_scores
    from progress_exhaust.report.report import CellRules, Report

    site, params = batch_context.site, batch_context.params
    settings, layout = site.settings, site.layout(params)
    rules = CellRules(
        settings.scored_attempt,
        settings.failed_certificate_statuses,
        settings.dynamic_column_labels,
        settings.escape_formulas,
        settings.report_timezone,
    )
    chunks = facts_chunks(batch_context)
    attempted = attempted_contents(chunks) if layout.scores == "attempted" else frozenset()
    described = OutputFormat.XLSX in site.output_format(params).endings or site.columns_file(params)
    facts = batch_context.staging.read(BatchManifest).facts
    hierarchy = batch_context.staging.read(HierarchyManifest).hierarchy
    return Report(batch_context.batch, facts, hierarchy, layout, rules, attempted, max_scores(chunks) if described else {})


def facts_chunks(batch_context: BatchContext) -> "list[ObjectStoragePath]":
    """Return the paths of the facts chunks, in order."""
    staging = batch_context.staging
    return [staging.facts_chunk(number) for number in range(staging.read(ExtractManifest).chunks)]


def write_lines(
    batch_context: BatchContext, target: BinaryIO, report: "Report", chunks: "list[ObjectStoragePath]", progress: Progress
) -> "Written":
    """Write the csv."""
    from progress_exhaust.report.csv_file import write_csv

    lines: Generator[bytes, None, None] = run_in_processes(
        csv_lines,
        (chunk.read_bytes() for chunk in chunks),
        open_resources=lambda: nullcontext(report),
        processes=min(batch_context.site.processes, max(len(chunks), 1)),
    )
    with closing(lines):
        return write_csv(target, report, progress.track(lines), bom=has_bom(batch_context, report))


def has_bom(batch_context: BatchContext, report: "Report") -> bool:
    """Return whether a csv starts with a byte order mark: by the layout, else by the setting."""
    return batch_context.site.settings.csv_bom if report.layout.bom is None else report.layout.bom


def write_workbook(
    batch_context: BatchContext, target: BinaryIO, report: "Report", chunks: "list[ObjectStoragePath]", progress: Progress
) -> "Written":
    """Write the workbook; it is made on local disk first."""
    from progress_exhaust.extract.chunk_files import from_parquet
    from progress_exhaust.report.csv_file import Written, put
    from progress_exhaust.report.xlsx_file import write_xlsx

    tables = (from_parquet(path.read_bytes()) for path in progress.track(chunks))
    with ExitStack() as stack:
        with scratch_folder(stack) as scratch:
            workbook = scratch / "report.xlsx"
            rows, cut_cells = write_xlsx(workbook, report, tables, batch_context.day)
        with workbook.open("rb") as whole:
            size_bytes, sha256 = put(target, iter(lambda: whole.read(1 << 20), b""))
    return Written(rows, size_bytes, sha256, cut_cells)


def write_columns(batch_context: BatchContext, report: "Report") -> str | None:
    """Write the description of the columns if the layout or the settings ask for it; return its file name."""
    from progress_exhaust.report.columns_file import columns_csv

    if not batch_context.site.columns_file(batch_context.params):
        return None
    name = batch_context.batch.columns_file_name(batch_context.day)
    batch_context.staging.write_file(batch_context.staging.path / name, columns_csv(report, bom=has_bom(batch_context, report)))
    return name


def write_summary(
    batch_context: BatchContext, report: "Report", extracted: ExtractManifest, file_name: str, notes: list[str]
) -> str | None:
    """Write the summary, a text for the reader of the report, if the settings ask for one; return its file name."""
    from progress_exhaust.report.summary_text import summary_text

    if not batch_context.site.settings.summary_file:
        return None
    name = batch_context.batch.summary_file_name(batch_context.day)
    text = summary_text(report, extracted.counts, extracted.as_of, file_name, notes)
    batch_context.staging.write_file(batch_context.staging.path / name, text.encode())
    return name


# In a process


def csv_lines(report: "Report", chunk: bytes) -> bytes:
    """Return the csv lines of a facts chunk (Parquet)."""
    from progress_exhaust.extract.chunk_files import from_parquet
    from progress_exhaust.report.csv_file import chunk_csv

    return chunk_csv(from_parquet(chunk), report)
