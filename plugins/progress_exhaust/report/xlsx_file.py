"""Write a report as an Excel workbook. Texts stay texts, so that Excel does not change long ids or leading zeros.

The workbook is written to disk row by row, so memory does not grow with the batch.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from progress_exhaust.report import text
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns import Column, columns
from progress_exhaust.report.columns_file import LABELS, MAX_SCORE_PLACE, description
from progress_exhaust.report.report import Report

if TYPE_CHECKING:
    from xlsxwriter import Workbook

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384  # of a sheet
CUT = -2  # xlsxwriter returns this if it cut a text to the length of a cell, 32,767 units of UTF-16
MAX_DIGITS = 15  # of a number; Excel drops further digits
FIRST_DAY = datetime(1900, 3, 1)  # before this day, Excel counts 29 February 1900, which did not exist

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WIDTHS = {"text": 20, "number": 10, "date": 20}  # in characters

Value = str | float | datetime


def fits(rows: int, columns: int) -> bool:
    """Return whether a sheet has enough rows and columns."""
    return rows < MAX_ROWS and columns <= MAX_COLUMNS  # one row is the header


def write_xlsx(workbook_file: Path, report: Report, chunks: Iterable[pa.Table], day: date) -> tuple[int, int]:
    """Write a frozen header, then a row for each learner; then a second sheet that describes the columns.

    The workbook has the report's day as its date. Temporary files are written to the same folder. Returns the number of rows, and
    of the report's cells whose text was cut. Raises OSError.
    """
    # Imported here, because a task that writes a csv imports this module, too.
    from xlsxwriter import Workbook
    from xlsxwriter.exceptions import FileCreateError

    shown, row, cut = columns(report), 0, 0
    options = {"constant_memory": True, "use_zip64": True, "tmpdir": str(workbook_file.parent)}
    try:
        with Workbook(workbook_file, options) as workbook:
            workbook.set_properties({"created": datetime.combine(day, time())})
            sheet = workbook.add_worksheet("Report")
            sheet.freeze_panes(1, 0)
            formats = [workbook.add_format({"num_format": _excel_format(column)}) for column in shown]
            for place, column in enumerate(shown):
                sheet.set_column(place, place, _WIDTHS[column.kind], formats[place])
                cut += sheet.write_string(0, place, text.clean(column.label)) == CUT
            writers = {str: sheet.write_string, float: sheet.write_number, datetime: sheet.write_datetime}
            for chunk in chunks:
                learners = Learners(chunk, report)
                for values in zip(*(_values(column, learners) for column in shown), strict=True):
                    row += 1
                    for place, value in enumerate(values):
                        if value != "":
                            cut += writers[type(value)](row, place, value, formats[place]) == CUT
            _write_description(workbook, report)
    except FileCreateError as error:  # it wraps an OSError
        raise error.args[0] from None
    return row, cut


def _write_description(workbook: "Workbook", report: Report) -> None:
    sheet, as_text = workbook.add_worksheet("Columns"), workbook.add_format({"num_format": "@"})
    sheet.freeze_panes(1, 1)
    sheet.set_column(0, len(LABELS) - 1, _WIDTHS["text"])
    for row, cells in enumerate(description(report)):
        for place, cell in enumerate(cells):
            if place == MAX_SCORE_PLACE and _is_number(cell):
                sheet.write_number(row, place, float(cell))
            else:
                sheet.write_string(row, place, text.clean(cell), as_text)


def _values(column: Column, learners: Learners) -> list[Value]:
    """Return the values of a column for Excel. Each different cell is converted once."""
    cells = column.cells(learners)
    trimmed = learners.report.layout.trimmed
    if isinstance(cells, str):
        return [_value(cells, column, trimmed)] * len(learners)
    encoded = cells.dictionary_encode()
    values = [_value(cell, column, trimmed) for cell in encoded.dictionary.to_pylist()]
    return [values[place] for place in encoded.indices.to_pylist()]


def _value(cell: str, column: Column, trimmed: bool) -> Value:
    if column.kind == "number" and _is_number(cell):
        return float(cell)
    if column.kind == "date":
        moment = text.moment(cell, column.pattern)
        if moment is not None and moment >= FIRST_DAY:
            return moment
    cell = text.clean(cell)
    return cell.strip() if trimmed else cell


def _is_number(cell: str) -> bool:
    """Return whether Excel can hold this text as a number without a change."""
    return _NUMBER.fullmatch(cell) is not None and sum(map(str.isdigit, cell)) <= MAX_DIGITS


def _excel_format(column: Column) -> str:
    if column.kind == "number":
        return "General"
    if column.kind == "text" or not text.is_whole_date(column.pattern):
        return "@"
    return "yyyy-mm-dd hh:mm:ss" if "HH" in column.pattern else re.sub(r"([^A-Za-z])", r"\\\1", column.pattern.lower())
