"""Third stage: the csv."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from progress_exhaust.operators.stage import EXTRACT_FILE, FACTS_FILE, HIERARCHY_FILE, PIVOT_FILE, StageOperator, Work

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.report.pivot import Report


class PivotOperator(StageOperator):
    """Turns the parts, one at a time, into the rows of the csv; leaves it, then `pivot.json`."""

    needs = (FACTS_FILE, HIERARCHY_FILE, EXTRACT_FILE)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.columns import columns
        from progress_exhaust.report.csv_file import write_csv

        report = self._report(work)
        bom = work.site.settings.csv_bom if report.layout.bom is None else report.layout.bom
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
        from progress_exhaust.report.csv_file import page_csv
        from progress_exhaust.report.learners import read_table

        for part in self._parts(work):
            yield page_csv(read_table(part), report)

    def _parts(self, work: Work) -> "list[ObjectStoragePath]":
        return [work.part(number) for number in range(work.read(EXTRACT_FILE)["parts"])]
