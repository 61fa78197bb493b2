"""Describe the columns of a report for its readers, as a csv or a sheet: id, name, kind, maximum score, meaning of a blank.

The description has no data of a learner.
"""

from progress_exhaust.report import text
from progress_exhaust.report.columns import Column, columns
from progress_exhaust.report.csv_file import BOM, LINE_ENDS, quoted
from progress_exhaust.report.report import Report

LABELS = ("Column", "Id", "Name", "Kind", "Format", "Maximum Score", "Blank", "Meaning")
MAX_SCORE_PLACE = LABELS.index("Maximum Score")
NEVER = "never blank"


def description(report: Report) -> list[tuple[str, ...]]:
    """Return the labels, then a row for each column of the report."""
    return [LABELS, *(_row(column) for column in columns(report))]


def columns_csv(report: Report, *, bom: bool) -> bytes:
    """Return the description as a csv in the dialect of the report."""
    layout, lines = report.layout, []
    for row in description(report):
        cells = list(row)
        cells[MAX_SCORE_PLACE] = cells[MAX_SCORE_PLACE].replace(".", layout.decimal_sign)
        lines.append(layout.delimiter.join(quoted(text.safe(cell, report.rules.defuse_formulas), layout) for cell in cells))
    return (BOM if bom else b"") + "".join(f"{line}{LINE_ENDS[layout.line_end]}" for line in lines).encode()


def _row(column: Column) -> tuple[str, ...]:
    node_id, name = (column.node.id, column.node.name) if column.node else ("", "")
    blank = column.blank or NEVER
    return (column.label, node_id, name, column.kind, column.pattern, column.max_score, blank, column.meaning)
