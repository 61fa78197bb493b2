"""The csv: RFC 4180, UTF-8, one row a learner (specification, "File")."""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.layout import Column
from progress_exhaust.report.pivot import Learners

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Written:
    """What a csv came to."""

    rows: int
    size_bytes: int
    sha256: str


def write_csv(
    target: BinaryIO, columns: Sequence[Column], pages: Iterable[Learners], *, bom: bool, defuse_formulas: bool
) -> Written:
    """Write the header and a row for each learner of the pages, a page at a time."""
    rows, size_bytes, digest = 0, 0, hashlib.sha256()

    def put(data: bytes) -> None:
        nonlocal size_bytes
        target.write(data)
        digest.update(data)
        size_bytes += len(data)

    put(BOM if bom else b"")
    put(_header([_written(column.label, defuse_formulas) for column in columns]))
    for learners in pages:
        frame = pd.DataFrame(
            {place: _cells(column, learners, defuse_formulas) for place, column in enumerate(columns)},
            index=range(len(learners.part)),
        )
        put(frame.to_csv(header=False, index=False, lineterminator="\r\n").encode())
        rows += len(frame)
    return Written(rows, size_bytes, digest.hexdigest())


def _header(labels: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(labels)
    return line.getvalue().encode()


def _cells(column: Column, learners: Learners, defuse_formulas: bool) -> "pd.Series[str] | str":
    cells = column.cells(learners)
    if isinstance(cells, str):
        return _written(cells, defuse_formulas)
    suspect = pc.match_substring_regex(pa.array(cells, pa.string()), text.SUSPECT).to_numpy(zero_copy_only=False)
    if suspect.any():
        cells = cells.mask(suspect, cells[suspect].map(lambda cell: _written(cell, defuse_formulas)))
    return cells


def _written(cell: str, defuse_formulas: bool) -> str:
    cell = text.clean(cell)
    return text.defuse(cell) if defuse_formulas else cell
