"""Write a report as csv: RFC 4180, UTF-8, one row per learner (specification, "File")."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.columns import Column, columns
from progress_exhaust.report.layout import Layout
from progress_exhaust.report.report import Report

BOM = b"\xef\xbb\xbf"
LINE_ENDS = {"CRLF": "\r\n", "LF": "\n"}


@dataclass(frozen=True)
class Written:
    """The size and digest of a report's file."""

    rows: int
    size_bytes: int
    sha256: str
    cut_cells: int = 0  # of a workbook: cells whose text was too long


def write_csv(target: BinaryIO, report: Report, chunks: Iterable[bytes], *, bom: bool) -> Written:
    """Write the header, then the lines of each chunk, which `chunk_csv` made."""
    rows, line_end = 0, LINE_ENDS[report.layout.line_end].encode()

    def counted() -> Iterator[bytes]:
        nonlocal rows
        for lines in chunks:
            rows += lines.count(line_end)  # no cell has a line end
            yield lines

    size_bytes, sha256 = put(target, chain([BOM if bom else b"", header(report)], counted()))
    return Written(rows, size_bytes, sha256)


def put(target: BinaryIO, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write the pieces. Return their size in bytes and the SHA-256 of them all."""
    size_bytes, digest = 0, hashlib.sha256()
    for piece in pieces:
        target.write(piece)
        digest.update(piece)
        size_bytes += len(piece)
    return size_bytes, digest.hexdigest()


def header(report: Report) -> bytes:
    labels = [quoted(text.safe(column.label, report.rules.defuse_formulas), report.layout) for column in columns(report)]
    return (report.layout.delimiter.join(labels) + LINE_ENDS[report.layout.line_end]).encode()


def chunk_csv(chunk: pa.Table, report: Report) -> bytes:
    """Return the csv lines of a chunk of learners. Any process can call this, because it needs nothing but its arguments."""
    shown, learners, line_end = columns(report), Learners(chunk, report), LINE_ENDS[report.layout.line_end]
    # A line with a single blank cell would look like no line.
    blank = '""' if report.layout.quoting == "spark" or len(shown) == 1 else ""
    lines = pc.binary_join_element_wise(*(_cells(column, learners, blank) for column in shown), report.layout.delimiter)
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), line_end)[0].as_buffer().to_pybytes()
    return joined + line_end.encode() if len(lines) else b""


def quoted(cell: str, layout: Layout) -> str:
    """Quote a cell in the layout's way, if it needs quotes. The cell must not have a line end."""
    if layout.delimiter not in cell and '"' not in cell:
        return cell
    if layout.quoting == "spark":  # Spark's readers undo both escapes, but only inside quotes
        return '"' + cell.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + cell.replace('"', '""') + '"'


def _cells(column: Column, learners: Learners, blank: str) -> pa.Array:
    cells = column.cells(learners)
    if isinstance(cells, str):
        cells = pa.repeat(_written(column, pa.array([text.clean(cells)]), learners.report)[0], len(learners))
    else:
        cells = _written(column, cells, learners.report)
    return pc.if_else(pc.equal(cells, ""), blank, cells) if blank else cells


def _written(column: Column, cells: pa.Array, report: Report) -> pa.Array:
    """Return the cells of a column as they are in the csv."""
    layout = report.layout
    if column.kind == "number":
        return cells if layout.decimal_sign == "." else pc.replace_substring(cells, ".", layout.decimal_sign)
    if layout.trimmed or column.excel_text:
        cells = text.changed(cells, text.SUSPECT, text.clean)
    if layout.trimmed:
        cells = pc.utf8_trim_whitespace(cells)
    to_quote = f'["{layout.delimiter}]'
    if column.excel_text:
        cells = pc.if_else(pc.equal(cells, ""), "", pc.binary_join_element_wise("'", cells, ""))
        return text.changed(cells, to_quote, lambda cell: quoted(cell, layout))
    defuse_formulas = report.rules.defuse_formulas
    return text.changed(cells, f"{text.SUSPECT}|{to_quote}", lambda cell: quoted(text.safe(cell, defuse_formulas), layout))
