"""Read a csv as tables of whole rows, a block of bytes at a time.

It reads the csv of this package and that of Spark: any delimiter that a layout has, LF or CRLF, with a BOM or without, quotes
inside a cell doubled or with a backslash.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import csv as arrow_csv

from progress_exhaust.errors import InputError

BLOCK_BYTES = 8 << 20
MAX_ROW_BYTES = 64 << 20  # a longer row has a quote that is not closed
BOM = b"\xef\xbb\xbf"
DELIMITERS = ",;\t|"
MAX_HEADER_BYTES, MAX_COLUMNS = 4 << 20, 50_000  # each column takes a millisecond
ROW = "\0row"  # a label like this gets a number

# Only Spark writes this. In RFC 4180, a quote after a backslash closes the cell, or is the first of two.
_SPARK_QUOTE = re.compile(rb'\\"[^",;\t|\r\n]')
# Possessive quantifiers: with others, a cell of some megabytes takes gigabytes of memory.
_SPARK_CELL = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclass
class CsvRows:
    """The rows of a csv, and how it is written. All but `labels` and `delimiter` is known after the last table.

    :param name: how messages name the file
    :param blocks: its bytes
    :param key_label: the label of a column that it must have; empty if any column may be missing
    :param known_labels: sets of labels that it may have. Without a key label, they show which delimiter it has
    """

    name: str
    blocks: Iterator[bytes] = field(repr=False)
    key_label: str
    known_labels: Sequence[set[str]] = ()
    labels: list[str] = field(default_factory=list)
    delimiter: str = ","
    line_end: str = "LF"
    bom: bool = False
    spark_quotes: bool = False
    rows: int = 0

    def tables(self) -> Iterator[pa.Table]:
        """Yield tables of text columns, and the number of each row in the column after them. The header is row 1."""
        for block in self._whole_rows():
            if not self.labels:
                block = self._read_header(block)
            if block.strip():
                table = self._read(block)
                numbers = pa.array(range(self.rows + 2, self.rows + 2 + table.num_rows), pa.int64())
                self.rows += table.num_rows
                yield table.append_column(ROW, numbers)
        if not self.labels:
            raise InputError(f"{self.name} is empty: it has no header")

    def _whole_rows(self) -> Iterator[bytes]:
        """Yield blocks that end where a row ends, as RFC 4180 has them."""
        pending, first = b"", True
        for piece in self._large_blocks():
            if first:
                self.bom, first = piece.startswith(BOM), False
                piece = piece.removeprefix(BOM)
            pending += piece
            self.spark_quotes = self.spark_quotes or bool(_SPARK_QUOTE.search(pending))
            end = self._end_of_rows(pending)
            if end:
                yield self._rfc4180(pending[:end])
                pending = pending[end:]
            elif len(pending) > MAX_ROW_BYTES:
                raise self._open_quote()
        if self._quotes(pending).count(b'"') % 2:
            raise self._open_quote()
        if pending:
            yield self._rfc4180(pending + b"\n")

    def _large_blocks(self) -> Iterator[bytes]:
        pieces: list[bytes] = []
        size_bytes = 0
        for piece in self.blocks:
            pieces.append(piece)
            size_bytes += len(piece)
            if size_bytes >= BLOCK_BYTES:
                yield b"".join(pieces)
                pieces, size_bytes = [], 0
        yield b"".join(pieces)

    def _quotes(self, text: bytes) -> bytes:
        """Return text of the same length, in which each quote starts or ends a cell, or is one of two."""
        return _ESCAPED.sub(b"..", text) if self.spark_quotes and b"\\" in text else text

    def _end_of_rows(self, text: bytes) -> int:
        """Return where the last whole row of a text ends; the text starts with a row."""
        text = self._quotes(text)
        end = text.rfind(b"\n") + 1
        quotes = text.count(b'"', 0, end)
        while quotes % 2:  # this line end is in a cell
            before = text.rfind(b"\n", 0, end - 1) + 1
            quotes -= text.count(b'"', before, end)
            end = before
        return end

    def _rfc4180(self, rows: bytes) -> bytes:
        """Return whole rows with the quotes of RFC 4180."""
        if not self.spark_quotes or b"\\" not in rows:
            return rows
        return _SPARK_CELL.sub(
            lambda cell: b'"%b"' % _ESCAPED.sub(rb"\1", cell[1]).replace(b'"', b'""') if b"\\" in cell[1] else cell[0], rows
        )

    def _open_quote(self) -> InputError:
        row = self.rows + 1
        return InputError(f"{self.name} is not a valid csv: a quote is not closed, after row {row}")

    def _read_header(self, block: bytes) -> bytes:
        """Set the labels and the delimiter. Return the rows after the header."""
        end = quotes = 0
        while end == 0 or quotes % 2:
            start, end = end, block.find(b"\n", end) + 1
            if not 0 < end <= MAX_HEADER_BYTES:
                raise InputError(f"{self.name} is not a csv of a report: its header has more than {MAX_HEADER_BYTES:,} bytes")
            quotes += block.count(b'"', start, end)
        header = self._text(block[:end])
        self.line_end = "CRLF" if header.endswith("\r\n") else "LF"
        split = {one: self._first_row(header, one) for one in DELIMITERS}
        if not self.key_label:
            likely = self._likely_delimiter(split, block[end:])
            split = {likely: split[likely]}
        for delimiter, labels in split.items():
            if self.key_label in labels or not self.key_label:
                if len(labels) > MAX_COLUMNS:
                    raise InputError(f"{self.name} is not a csv of a report: it has {len(labels):,} columns")
                self.labels, self.delimiter = distinct(labels), delimiter
                return block[end:]
        # Labels are not shown: without a header, they are data of a learner.
        raise InputError(f"{self.name} has no column {self.key_label!r}. Name the column of the learner's id by --learner-column")

    def _likely_delimiter(self, split: Mapping[str, list[str]], rows: bytes) -> str:
        """Return the delimiter of known labels, else one that gives as many cells in the first row as there are labels."""
        for delimiter, labels in split.items():
            if any(known <= set(labels) for known in self.known_labels):
                return delimiter
        text = rows.decode(errors="replace")
        cells = {one: len(self._first_row(text, one)) for one in split}
        equal = [one for one in split if 1 < len(split[one]) == cells[one]]
        return max(equal or split, key=lambda one: len(split[one]))

    def _first_row(self, text: str, delimiter: str) -> list[str]:
        try:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            raise InputError(
                f"{self.name} is not a csv of a report: a cell of its first rows has more than {csv.field_size_limit():,} "
                "characters"
            ) from None

    def _text(self, block: bytes) -> str:
        try:
            return block.decode()
        except UnicodeDecodeError as error:
            row = self.rows + 1 + block.count(b"\n", 0, error.start) + bool(self.labels)
            raise InputError(
                f"{self.name} is not UTF-8, near row {row}. Save it as UTF-8. If it is encrypted, check its key"
            ) from None

    def _read(self, block: bytes) -> pa.Table:
        self._text(block)
        invalid: list[arrow_csv.InvalidRow] = []

        def skip(row: arrow_csv.InvalidRow) -> str:
            invalid.append(row)
            return "skip"

        table = arrow_csv.read_csv(
            pa.py_buffer(block),
            arrow_csv.ReadOptions(column_names=self.labels, use_threads=False, block_size=len(block) + 1),
            arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=skip),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(self.labels, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
        if invalid:
            row = self.rows + 1 + (invalid[0].number or 0)
            raise InputError(
                f"{self.name} is not a valid csv: row {row} has {invalid[0].actual_columns} cells, and the header has "
                f"{invalid[0].expected_columns}"
            )
        return table


def distinct(labels: list[str]) -> list[str]:
    """Return the labels with a number after each that occurs again."""
    found = {ROW: 1}  # by name: the last number that was tried after it
    for label in labels:
        name = label
        while name in found:
            found[label] += 1
            name = f"{label} ({found[label]})"
        found[name] = 1
    return list(found)[1:]
