"""Load a report as a pandas DataFrame with the types of its columns."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pandas as pd
import pyarrow as pa

from progress_exhaust.errors import InputError
from progress_exhaust.reading.csv_rows import ROW, CsvRows, distinct
from progress_exhaust.reading.report_file import Entry, ReportFile
from progress_exhaust.report import text
from progress_exhaust.report.columns import FIELDS
from progress_exhaust.report.columns_file import LABELS
from progress_exhaust.report.layout import BUILT_IN, DATES, PROGRESS_ENDING, SCORE_ENDING, STANDARD_DATE

UTC_ENDING = "+0000"  # of the pattern of a date in UTC
MAX_ROWS, MAX_CELLS = 1_048_576, 100_000_000  # of a sheet, in memory
TEXT = pd.StringDtype()
# pandas also reads other texts as numbers, such as nan, inf and 1_000.
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
BUILT_IN_LABELS = [{column.label for column in layout.columns} for layout in BUILT_IN.values()]


@dataclass(frozen=True)
class Kind:
    """What the cells of a column are: text, number or date; the pattern of a date.

    :param assumed: it follows from the label only; a layout of the site may write the dates in another form
    """

    name: str = "text"
    pattern: str = ""
    assumed: bool = False


def load_report(path: Path, password: str | None) -> pd.DataFrame:
    """Return the rows of a report; see `progress_exhaust.read_report`."""
    report = ReportFile(path.name, path, password, key_source="the argument password")
    with report.entries() as entries:
        csv, workbook = report.only(entries, "csv"), report.only(entries, "xlsx")
        columns_file = next((entry for entry in entries if entry.kind == "columns"), None)
        if not csv and not workbook:
            raise InputError(f"{path.name} is a zip without a report")
        described, decimal_sign = None, "."
        if workbook and (not csv or (not columns_file and find_spec("openpyxl"))):
            cells, described = _workbook_tables(path.name, workbook, header_only=csv is not None)
        elif columns_file:
            described, _ = _csv_table(path.name, columns_file, [set(LABELS)])
        described_kinds = {} if described is None else _described_kinds(described)
        if csv:
            known_labels = [set(described_kinds)] * bool(described_kinds) + BUILT_IN_LABELS
            cells, decimal_sign = _csv_table(path.name, csv, known_labels)
    kinds = _built_in_kinds(list(cells.columns)) | described_kinds
    return pd.DataFrame(
        {label: _typed(path.name, cells[label], kinds.get(label, Kind()), decimal_sign) for label in cells.columns}
    )


def _csv_table(name: str, entry: Entry, known_labels: Sequence[set[str]]) -> tuple[pd.DataFrame, str]:
    """Return the cells of a csv as texts, and its decimal sign."""
    with entry.open() as (blocks, _):
        rows = CsvRows(name, blocks, "", known_labels)
        tables = list(rows.tables())
    table = pa.concat_tables(tables) if tables else pa.table({label: pa.array([], pa.string()) for label in (*rows.labels, ROW)})
    return table.drop_columns([ROW]).to_pandas(types_mapper=lambda _: TEXT), "." if rows.delimiter == "," else ","


def _workbook_tables(name: str, entry: Entry, *, header_only: bool) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the cells of the first sheet of a workbook, and of the sheet that describes the columns, if it is there."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise InputError(f"{name} is an Excel workbook. To read it, install openpyxl") from None

    with ExitStack() as stack:
        workbook_file = stack.enter_context(TemporaryFile())  # a zip, which cannot be read as a stream
        with entry.open() as (blocks, _):
            workbook_file.writelines(blocks)
        try:
            workbook = load_workbook(workbook_file, read_only=True, data_only=True)
            first, *others = workbook.worksheets
            described = [sheet for sheet in others if sheet.title == "Columns"]
            return _sheet(first, header_only=header_only), _sheet(described[0]) if described else None
        except Exception:  # the library raises many kinds
            raise InputError(f"{name} is not a valid Excel workbook") from None


def _sheet(sheet: Any, *, header_only: bool = False) -> pd.DataFrame:
    """Return the cells of a sheet. Raises ValueError if it has no header, or too many cells."""
    sheet.reset_dimensions()  # a sheet may say that it has more cells than there are
    [header] = sheet.iter_rows(max_row=1, values_only=True)
    most_rows = 0 if header_only else min(MAX_ROWS, MAX_CELLS // len(header))
    rows: list[list[Any]] = []
    for row in sheet.iter_rows(min_row=2, max_col=len(header), values_only=True) if most_rows else ():
        if len(rows) == most_rows:
            raise ValueError("too many cells")
        rows.append(list(map(_unescaped, row)))
    return pd.DataFrame(rows, columns=distinct([str(_unescaped(label)) for label in header]), dtype=object)


def _unescaped(cell: Any) -> Any:
    from openpyxl.utils.escape import unescape

    return unescape(cell) if isinstance(cell, str) else cell


def _described_kinds(described: pd.DataFrame) -> dict[str, Kind]:
    wanted = [LABELS[0], "Kind", "Format"]
    if not set(wanted) <= set(described.columns):  # another program's file or sheet
        return {}
    rows = described[wanted].fillna("").itertuples(index=False)
    return {label: Kind(kind, pattern) for label, kind, pattern in rows}


def _built_in_kinds(labels: Sequence[str]) -> dict[str, Kind]:
    """Return the kinds of the columns of built-in layouts, and of nested collections and assessments, by label."""
    layouts = [layout for layout in BUILT_IN.values() if {column.label for column in layout.columns} <= set(labels)]
    kinds = {label: Kind("number", assumed=True) for label in labels if label.endswith((PROGRESS_ENDING, SCORE_ENDING))}
    for layout in layouts[:1]:
        for column in layout.columns:
            if column.field in FIELDS and not column.prefix:
                pattern = column.format or STANDARD_DATE if column.field in DATES else ""
                kinds[column.label] = Kind(FIELDS[column.field][0], pattern, assumed=True)
    return kinds


def _typed(name: str, cells: "pd.Series[Any]", kind: Kind, decimal_sign: str) -> "pd.Series[Any]":
    cells = cells.mask(cells == "")
    if kind.name == "date" and text.is_whole_date(kind.pattern):
        in_utc = kind.pattern.endswith(UTC_ENDING)
        dates = pd.to_datetime(cells, format=text.directives(kind.pattern), errors="coerce", utc=in_utc).dt.as_unit("ms")
        if not kind.assumed or dates.notna().any() or cells.isna().all():
            return dates
    if kind.name == "number":
        numbers = cells.astype(TEXT).str.removesuffix("%").str.replace(decimal_sign, ".", regex=False)
        if not numbers.dropna().str.fullmatch(NUMBER).all():
            raise InputError(f"{name} has a text in the column {cells.name!r}, which has numbers only")
        return numbers.astype("float64")
    return cells.astype(TEXT)
