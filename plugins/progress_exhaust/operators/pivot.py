"""Third stage: the csv."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from progress_exhaust.operators.processes import in_processes
from progress_exhaust.operators.stage import (
    EXTRACT_FILE,
    FACTS_FILE,
    HIERARCHY_FILE,
    PIVOT_FILE,
    Progress,
    StageOperator,
    Work,
)

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.report.pivot import Report


class PivotOperator(StageOperator):
    """Turns the parts into the rows of the csv, in several processes; leaves it, then `pivot.json`."""

    needs = (FACTS_FILE, HIERARCHY_FILE, EXTRACT_FILE)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.columns import columns
        from progress_exhaust.report.csv_file import write_csv

        report = self._report(work)
        bom = work.site.settings.csv_bom if report.layout.bom is None else report.layout.bom
        work.forget(PIVOT_FILE)  # a kill from here on leaves half a csv
        with (work.folder / work.batch.file_name(work.day)).open("wb") as target:
            written = write_csv(target, report, self._pages(work, report), bom=bom)
        work.leave(PIVOT_FILE, asdict(written))
        return {"rows": written.rows, "columns": len(columns(report)), "csv_bytes": written.size_bytes}

    def _report(self, work: Work) -> "Report":
        from progress_exhaust.report.learners import attempted_contents
        from progress_exhaust.report.pivot import CellRules, Report

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

    def _pages(self, work: Work, report: "Report") -> Iterator[bytes]:
        parts = self._parts(work)
        lines = in_processes(
            lines_of_part,
            (part.read_bytes() for part in parts),
            opened=lambda: nullcontext(report),
            processes=min(work.site.processes, max(len(parts), 1)),
        )
        return Progress(work, "parts written", len(parts)).of(lines)

    def _parts(self, work: Work) -> "list[ObjectStoragePath]":
        return [work.part(number) for number in range(work.read(EXTRACT_FILE)["parts"])]


# In a process


def lines_of_part(report: "Report", part: bytes) -> bytes:
    """Return the csv's lines of a part's learners."""
    from progress_exhaust.report.csv_file import page_csv
    from progress_exhaust.report.learners import from_parquet

    return page_csv(from_parquet(part), report)
