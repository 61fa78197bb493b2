"""Third stage: the csv."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from progress_exhaust.operators.stage import EXTRACT_FILE, FACTS_FILE, HIERARCHY_FILE, PIVOT_FILE, StageOperator, Work

if TYPE_CHECKING:
    from progress_exhaust.report.pivot import Learners


class PivotOperator(StageOperator):
    """Turns the parts, one at a time, into the rows of the csv; leaves it, then `pivot.json`."""

    needs = (FACTS_FILE, HIERARCHY_FILE, EXTRACT_FILE)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.csv_file import write_csv
        from progress_exhaust.report.layout import columns

        settings, hierarchy = work.site.settings, work.hierarchy()
        shown = columns(hierarchy, named=settings.column_labels == "name")
        work.forget(PIVOT_FILE)  # a kill from here on leaves half a csv
        with (work.folder / work.batch.file_name(work.day)).open("wb") as target:
            written = write_csv(target, shown, self._pages(work), bom=settings.csv_bom, defuse_formulas=settings.defuse_formulas)
        work.leave(PIVOT_FILE, asdict(written))
        return {"rows": written.rows, "columns": len(shown), "csv_bytes": written.size_bytes}

    def _pages(self, work: Work) -> "Iterator[Learners]":
        from progress_exhaust.report.learners import read_table
        from progress_exhaust.report.pivot import CellRules, Learners

        settings, hierarchy, facts = work.site.settings, work.hierarchy(), work.facts()
        rules = CellRules(settings.chosen_attempt, settings.failed_certificate_statuses)
        for number in range(work.read(EXTRACT_FILE)["parts"]):
            yield Learners(read_table(work.part(number)), work.batch, facts, hierarchy, rules)
