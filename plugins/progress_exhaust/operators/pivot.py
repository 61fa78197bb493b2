"""Third stage: the csv."""

from collections.abc import Generator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from progress_exhaust.operators.processes import in_processes
from progress_exhaust.operators.stage import (
    EXTRACT_FILE,
    FACTS_FILE,
    HIERARCHY_FILE,
    PIVOT_FILE,
    Progress,
    StageOperator,
    Work,
    scratch_folder,
)

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.report.csv_file import Written
    from progress_exhaust.report.report import Report


class PivotOperator(StageOperator):
    """Turns the parts, in several processes, into the rows of the csv or workbook; leaves it, then `pivot.json`.

    `pivot.json` names the file, and the summary where the settings ask for one.
    """

    needs = (FACTS_FILE, HIERARCHY_FILE, EXTRACT_FILE)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.hooks.report_store import make_folder
        from progress_exhaust.report.columns import columns
        from progress_exhaust.report.summary_text import CUT, NO_ROOM
        from progress_exhaust.report.xlsx_file import fits

        settings, report, extracted = work.site.settings, self._report(work), work.read(EXTRACT_FILE)
        width, notes = len(columns(report)), []
        no_room = settings.output_format == "xlsx" and not fits(extracted["counts"]["reported"], width)
        ending = "csv" if no_room else settings.output_format
        if no_room:
            notes.append(NO_ROOM)
        file_name = work.batch.file_name(work.day, ending)
        work.forget(PIVOT_FILE)  # a kill from here on leaves half a file
        # In a folder of this try: what an earlier one goes on to write, if it does, is nobody's.
        folder = f"pivot-{work.site.try_number}"
        make_folder(work.folder / folder)
        with (work.folder / folder / file_name).open("wb") as target:
            written = self._write(work, target, report, ending)
        if written.cut_cells:
            notes.append(CUT.format(written.cut_cells))
        for note in notes:
            work.log.warning("%s: %s", work.batch, note)
        summary = self._leave_summary(work, report, extracted, file_name, notes) if settings.summary_file else None
        work.leave(PIVOT_FILE, {**asdict(written), "folder": folder, "file_name": file_name, "summary_name": summary})
        # Not every package has a summary. A 0 is counted too: it takes the place of an earlier try's number.
        told = {"csv_instead_of_xlsx": int(no_room), "cut_cells": written.cut_cells}
        return {"rows": written.rows, "columns": width, f"{ending}_bytes": written.size_bytes, **told}

    def _write(self, work: Work, target: BinaryIO, report: "Report", ending: str) -> "Written":
        from progress_exhaust.report.csv_file import write_csv

        if ending == "xlsx":
            return self._write_workbook(work, target, report)
        bom = work.site.settings.csv_bom if report.layout.bom is None else report.layout.bom
        with closing(self._pages(work, report)) as lines:
            return write_csv(target, report, self._progress(work).of(lines), bom=bom)

    def _write_workbook(self, work: Work, target: BinaryIO, report: "Report") -> "Written":
        from progress_exhaust.report.csv_file import Written, put
        from progress_exhaust.report.learners import from_parquet
        from progress_exhaust.report.xlsx_file import write_xlsx

        parts = (from_parquet(part.read_bytes()) for part in self._progress(work).of(self._parts(work)))
        with ExitStack() as stack:
            with scratch_folder(stack) as scratch:
                workbook = scratch / "report.xlsx"
                rows, cut_cells = write_xlsx(workbook, report, parts, work.day)
            with workbook.open("rb") as whole:
                size_bytes, sha256 = put(target, iter(lambda: whole.read(1 << 20), b""))
        return Written(rows, size_bytes, sha256, cut_cells)

    def _progress(self, work: Work) -> Progress:
        return Progress(work, "parts written", len(self._parts(work)))

    def _leave_summary(self, work: Work, report: "Report", extracted: dict[str, Any], file_name: str, notes: list[str]) -> str:
        from progress_exhaust.report.summary_text import SUMMARY_FILE, summary_text

        as_of = datetime.fromisoformat(extracted["as_of"])
        words = summary_text(report, extracted["counts"], as_of, file_name, notes)
        work.write(work.folder / SUMMARY_FILE, words.encode())
        return SUMMARY_FILE

    def _report(self, work: Work) -> "Report":
        from progress_exhaust.report.learners import attempted_contents
        from progress_exhaust.report.report import CellRules, Report

        settings, layout = work.site.settings, work.site.layout(work.params)
        rules = CellRules(
            settings.chosen_attempt,
            settings.failed_certificate_statuses,
            settings.column_labels,
            settings.defuse_formulas,
            settings.report_timezone,
        )
        attempted = attempted_contents(self._parts(work)) if layout.scores == "attempted" else frozenset()
        return Report(work.batch, work.facts(), work.hierarchy(), layout, rules, attempted)

    def _pages(self, work: Work, report: "Report") -> Generator[bytes, None, None]:
        parts = self._parts(work)
        return in_processes(
            lines_of_part,
            (part.read_bytes() for part in parts),
            opened=lambda: nullcontext(report),
            processes=min(work.site.processes, max(len(parts), 1)),
        )

    def _parts(self, work: Work) -> "list[ObjectStoragePath]":
        return [work.part(number) for number in range(work.read(EXTRACT_FILE)["parts"])]


# In a process


def lines_of_part(report: "Report", part: bytes) -> bytes:
    """Return the csv's lines of a part's learners."""
    from progress_exhaust.report.csv_file import chunk_csv
    from progress_exhaust.report.learners import from_parquet

    return chunk_csv(from_parquet(part), report)
