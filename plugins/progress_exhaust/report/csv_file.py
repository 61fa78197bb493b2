"""The csv: RFC 4180, UTF-8, one row a learner (specification, "File")."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.layout import Column, columns
from progress_exhaust.report.pivot import Learners, Report

BOM = b"\xef\xbb\xbf"
LINE_END = "\r\n"

_ODD = rf'{text.SUSPECT}|[,"]'  # what a cell may have to be changed for


@dataclass(frozen=True)
class Written:
    """What a csv came to."""

    rows: int
    size_bytes: int
    sha256: str


def write_csv(target: BinaryIO, report: Report, pages: Iterable[bytes], *, bom: bool) -> Written:
    """Write the header, then the pages, each as `page_csv` made it, in their order."""
    rows, size_bytes, digest = -1, 0, hashlib.sha256()
    for data in chain([BOM if bom else b"", header(report)], pages):
        target.write(data)
        digest.update(data)
        size_bytes += len(data)
        rows += data.count(LINE_END.encode())  # no cell holds one
    return Written(rows, size_bytes, digest.hexdigest())


def header(report: Report) -> bytes:
    labels = [_written(column.label, defuse_formulas=report.defuse_formulas) for column in columns(report)]
    return (",".join(labels) + LINE_END).encode()


def page_csv(part: pa.Table, report: Report) -> bytes:
    """Return the lines of one part's learners; all that it takes is in its arguments, so that any process can do it."""
    learners = Learners(part, report)
    lines = pc.binary_join_element_wise(*(_cells(column, learners) for column in columns(report)), ",")
    page = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), LINE_END)[0].as_buffer().to_pybytes()
    return page + LINE_END.encode() if len(lines) else b""


def _cells(column: Column, learners: Learners) -> pa.Array:
    cells, written = column.cells(learners), partial(_written, defuse_formulas=learners.report.defuse_formulas)
    if isinstance(cells, str):
        return pa.repeat(written(cells), len(learners))
    return cells if column.is_number else text.changed(cells, _ODD, written)


def _written(cell: str, *, defuse_formulas: bool) -> str:
    cell = text.clean(cell)
    cell = text.defuse(cell) if defuse_formulas else cell
    return '"' + cell.replace('"', '""') + '"' if "," in cell or '"' in cell else cell
