"""The same report as an Excel workbook: text stays text, so that no long id or leading zero is lost, and dates are dates.

It is written to disk row by row: memory does not grow with the batch.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path

import pyarrow as pa
from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError

from progress_exhaust.report import text
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns import Column, columns
from progress_exhaust.report.report import Report

MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384  # of a sheet
CUT = -2  # what the library returns for a text that it cut to what a cell holds: 32,767 units of UTF-16
MOST_DIGITS = 15  # of a number: Excel forgets what comes after them
FIRST_DAY = datetime(1900, 3, 1)  # before it Excel counts a day that there never was

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WIDTHS = {"text": 20, "number": 10, "date": 20}  # in characters

Value = str | float | datetime


def fits(rows: int, columns: int) -> bool:
    """Tell whether a sheet has room for so many learners and columns."""
    return rows < MOST_ROWS and columns <= MOST_COLUMNS  # one row is the header


def write_xlsx(workbook_file: Path, report: Report, parts: Iterable[pa.Table], day: date) -> tuple[int, int]:
    """Write the header, frozen, then a row for each learner of the parts; the workbook bears the report's day.

    What it is made of lies beside it meanwhile. Returns the rows, and the cells whose texts were cut; raises OSError.
    """
    shown, row, cut = columns(report), 0, 0
    options = {"constant_memory": True, "use_zip64": True, "tmpdir": str(workbook_file.parent)}
    try:
        with Workbook(workbook_file, options) as workbook:
            workbook.set_properties({"created": datetime.combine(day, time())})
            sheet = workbook.add_worksheet()
            sheet.freeze_panes(1, 0)
            formats = [workbook.add_format({"num_format": _excel_format(column)}) for column in shown]
            for place, column in enumerate(shown):
                sheet.set_column(place, place, _WIDTHS[column.kind], formats[place])
                cut += sheet.write_string(0, place, text.clean(column.label)) == CUT
            writers = {str: sheet.write_string, float: sheet.write_number, datetime: sheet.write_datetime}
            for part in parts:
                learners = Learners(part, report)
                for values in zip(*(_values(column, learners) for column in shown), strict=True):
                    row += 1
                    for place, value in enumerate(values):
                        if value != "":
                            cut += writers[type(value)](row, place, value, formats[place]) == CUT
    except FileCreateError as error:  # no OSError, but made of one
        raise error.args[0] from None
    return row, cut


def _values(column: Column, learners: Learners) -> list[Value]:
    """Return a column's cells as Excel has them; each different one is looked at once."""
    cells = column.cells(learners)
    trimmed = learners.report.layout.trimmed
    if isinstance(cells, str):
        return [_value(cells, column, trimmed)] * len(learners)
    encoded = cells.dictionary_encode()
    values = [_value(cell, column, trimmed) for cell in encoded.dictionary.to_pylist()]
    return [values[place] for place in encoded.indices.to_pylist()]


def _value(cell: str, column: Column, trimmed: bool) -> Value:
    if column.kind == "number" and _NUMBER.fullmatch(cell) and sum(map(str.isdigit, cell)) <= MOST_DIGITS:
        return float(cell)
    if column.kind == "date":
        moment = text.moment(cell, column.pattern)
        if moment is not None and moment >= FIRST_DAY:
            return moment
    cell = text.clean(cell)
    return cell.strip() if trimmed else cell


def _excel_format(column: Column) -> str:
    if column.kind == "number":
        return "General"
    if column.kind == "text" or not text.is_whole_date(column.pattern):
        return "@"
    return "yyyy-mm-dd hh:mm:ss" if "HH" in column.pattern else re.sub(r"([^A-Za-z])", r"\\\1", column.pattern.lower())
