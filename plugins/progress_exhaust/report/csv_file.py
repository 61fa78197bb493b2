"""The csv: RFC 4180, UTF-8, one row a learner (specification, "File")."""

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

_ODD = rf'{text.SUSPECT}|[,"]'  # what a cell may have to be changed for


@dataclass(frozen=True)
class Written:
    """What a report's file came to."""

    rows: int
    size_bytes: int
    sha256: str
    cut_cells: int = 0  # of a workbook: their texts are longer than a cell may have


def write_csv(target: BinaryIO, report: Report, pages: Iterable[bytes], *, bom: bool) -> Written:
    """Write the header, then the pages, each as `page_csv` made it, in their order."""
    rows, line_end = 0, LINE_ENDS[report.layout.line_end].encode()

    def counted() -> Iterator[bytes]:
        nonlocal rows
        for page in pages:
            rows += page.count(line_end)  # no cell holds one
            yield page

    size_bytes, sha256 = put(target, chain([BOM if bom else b"", header(report)], counted()))
    return Written(rows, size_bytes, sha256)


def put(target: BinaryIO, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write the pieces in their order; return the bytes that they came to, and the SHA-256 of it all."""
    size_bytes, digest = 0, hashlib.sha256()
    for piece in pieces:
        target.write(piece)
        digest.update(piece)
        size_bytes += len(piece)
    return size_bytes, digest.hexdigest()


def header(report: Report) -> bytes:
    labels = [quoted(text.safe(column.label, report.rules.defuse_formulas), report.layout) for column in columns(report)]
    return (",".join(labels) + LINE_ENDS[report.layout.line_end]).encode()


def page_csv(part: pa.Table, report: Report) -> bytes:
    """Return the lines of one part's learners; all that it takes is in its arguments, so that any process can do it."""
    shown, learners, line_end = columns(report), Learners(part, report), LINE_ENDS[report.layout.line_end]
    # A line of one blank alone would be no line.
    blank = '""' if report.layout.quoting == "spark" or len(shown) == 1 else ""
    lines = pc.binary_join_element_wise(*(_cells(column, learners, blank) for column in shown), ",")
    page = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), line_end)[0].as_buffer().to_pybytes()
    return page + line_end.encode() if len(lines) else b""


def quoted(cell: str, layout: Layout) -> str:
    """Quote a cell where it is needed, in the layout's way; it holds no line end."""
    if "," not in cell and '"' not in cell:
        return cell
    if layout.quoting == "spark":  # its readers undo both, inside quotes alone
        return '"' + cell.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + cell.replace('"', '""') + '"'


def _cells(column: Column, learners: Learners, blank: str) -> pa.Array:
    layout, defuse_formulas = learners.report.layout, learners.report.rules.defuse_formulas

    def written(cell: str) -> str:
        return quoted(text.safe(cell, defuse_formulas), layout)

    cells = column.cells(learners)
    if isinstance(cells, str):
        cells = pa.repeat(written(text.clean(cells).strip() if layout.trimmed else cells), len(learners))
    elif column.kind != "number":
        if layout.trimmed:
            cells = pc.utf8_trim_whitespace(text.changed(cells, text.SUSPECT, text.clean))
        cells = text.changed(cells, _ODD, written)
    return pc.if_else(pc.equal(cells, ""), blank, cells) if blank else cells
