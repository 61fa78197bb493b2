"""Compare two reports in bounded memory.

The rows of both are spread over temporary files by a hash of the learner's id. Then two files of the same learners are
compared at a time. The temporary files have no name: the system deletes them even if the process is killed.
"""

import zlib
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.compare.known import Known, Reason, Unknown, layout_of
from progress_exhaust.reading.csv_rows import CsvRows
from progress_exhaust.reading.report_file import ReportFile

PARTS = 64


@dataclass
class FileFacts:
    """What is known of a file after it was read."""

    protection: str
    rows: int
    columns: int
    delimiter: str
    line_end: str
    bom: bool
    spark_quotes: bool
    layout: str | None
    learners_with_several_rows: int = 0


@dataclass(frozen=True)
class Example:
    """A place where the files differ: row numbers, as a spreadsheet shows them, and the two cells."""

    old_row: int | None
    new_row: int | None
    old: str | None = field(default=None, repr=False)
    new: str | None = field(default=None, repr=False)


@dataclass
class Difference:
    """All differences of one column with one reason. Without a column, whole rows differ."""

    column: str | None
    reason: Reason | Unknown
    count: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        return isinstance(self.reason, Reason)


@dataclass
class Comparison:
    """The result."""

    old: FileFacts
    new: FileFacts
    same_row_order: bool
    learners_in_both: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def unknown(self) -> list[Difference]:
        return [one for one in self.differences if not one.is_known]

    @property
    def known(self) -> list[Difference]:
        return [one for one in self.differences if one.is_known]


def compare_reports(old: ReportFile, new: ReportFile, *, key_label: str, time_zone: str, max_examples: int = 3) -> Comparison:
    """Compare two reports by learner.

    :param key_label: label of the column with the learner's id
    :param time_zone: of the dates in a file of the Spark job
    :param max_examples: for each column and reason

    Raises InputError if a file cannot be read.
    """
    with ExitStack() as stack:
        first, second = _SpreadRows(key_label, stack), _SpreadRows(key_label, stack)
        first.read(old)
        second.read(new)
        known = Known(first.facts.layout, second.facts.layout, time_zone, first.always_completed)
        comparison = Comparison(first.facts, second.facts, first.order.digest() == second.order.digest())
        tally = _Tally(known, key_label, max_examples)
        tally.compare_columns(first.labels, second.labels)
        for part in range(PARTS):
            tally.compare_part(first.part(part), second.part(part))
    comparison.learners_in_both = tally.learners_in_both
    first.facts.learners_with_several_rows, second.facts.learners_with_several_rows = tally.repeated
    comparison.differences = sorted(tally.differences.values(), key=lambda one: (one.is_known, one.column or "", one.reason))
    return comparison


class _SpreadRows:
    """The rows of a report, in temporary files by a hash of the learner's id. The stack deletes the files."""

    def __init__(self, key_label: str, stack: ExitStack) -> None:
        self._key_label = key_label
        self._files: list[IO[bytes]] = []
        for _ in range(PARTS):
            self._files.append(stack.enter_context(TemporaryFile()))  # noqa: SIM115  the stack closes it
        self.order = sha256()  # of the ids, in the order of the rows
        self.labels: list[str] = []
        self.always_completed = True

    def read(self, file: ReportFile) -> None:
        """Read the whole report."""
        with file.open_csv() as (blocks, protection):
            rows = CsvRows(file.name, blocks, self._key_label)
            writers: list[pa.ipc.RecordBatchStreamWriter] = []
            for table in rows.tables():
                writers = writers or [pa.ipc.new_stream(pa.PythonFile(one, "w"), table.schema) for one in self._files]
                self._spread(table, writers)
            for writer in writers:
                writer.close()
        self.labels = rows.labels
        self.facts = FileFacts(
            protection,
            rows.rows,
            len(rows.labels),
            rows.delimiter,
            rows.line_end,
            rows.bom,
            rows.spark_quotes,
            layout_of(rows.labels),
        )

    def _spread(self, table: pa.Table, writers: "list[pa.ipc.RecordBatchStreamWriter]") -> None:
        keys = [key.encode() for key in table.column(self._key_label).to_pylist()]
        self.order.update(b"\n".join(keys) + b"\n")
        if "Progress" in table.column_names:
            self.always_completed = self.always_completed and pc.all(pc.equal(table.column("Progress"), "100")).as_py()
        parts = np.fromiter((zlib.crc32(key) % PARTS for key in keys), np.int8, len(keys))
        by_part = table.take(np.argsort(parts, kind="stable"))
        ends = np.bincount(parts, minlength=PARTS).cumsum()
        for writer, start, end in zip(writers, [0, *ends[:-1]], ends, strict=True):
            writer.write_table(by_part.slice(start, end - start))

    def part(self, number: int) -> pa.Table:
        """Return the rows of one temporary file."""
        file = self._files[number]
        if not file.tell():  # a report without rows
            return pa.table({label: pa.array([], pa.string()) for label in self.labels} | {"": pa.array([], pa.int64())})
        file.seek(0)
        return pa.ipc.open_stream(pa.PythonFile(file, "r")).read_all().combine_chunks()


class _Tally:
    """Counts the differences, by column and reason."""

    def __init__(self, known: Known, key_label: str, max_examples: int) -> None:
        self._known, self._key_label, self._max_examples = known, key_label, max_examples
        self._shared: list[str] = []
        self.differences: dict[tuple[str | None, str], Difference] = {}
        self.learners_in_both = 0
        self.repeated = [0, 0]  # learners with more rows than one, in OLD and in NEW

    def compare_columns(self, old: list[str], new: list[str]) -> None:
        in_old, in_new = set(old), set(new)
        for label in old:
            if label not in in_new:
                self._add(label, self._known.column(label, in_old=True) or Unknown.ONLY_OLD)
        for label in new:
            if label not in in_old:
                self._add(label, self._known.column(label, in_old=False) or Unknown.ONLY_NEW)
        self._shared = [label for label in new if label in in_old]
        if self._shared != [label for label in old if label in in_new]:
            self._add(None, Reason.COLUMNS if self._known.order_is_known else Unknown.ORDER)

    def compare_part(self, old: pa.Table, new: pa.Table) -> None:
        """Compare the rows of the same learners. The n-th row of a learner is compared with the n-th row in the other file."""
        places = [_places(table.column(self._key_label).to_pylist()) for table in (old, new)]
        for file, found in enumerate(places):
            self.repeated[file] += sum(number == 1 for _, number in found)
        shared = [key for key in places[0] if key in places[1]]
        self.learners_in_both += sum(number == 0 for _, number in shared)
        for table, file, other in ((old, 0, 1), (new, 1, 0)):
            rows = [row for key, row in places[file].items() if key not in places[other]]
            if rows:
                self._add_rows(table.take(rows), in_old=file == 0)
        if shared:
            old_rows, new_rows = ([found[key] for key in shared] for found in places)
            self._compare_cells(old.take(old_rows), new.take(new_rows))

    def _add_rows(self, rows: pa.Table, *, in_old: bool) -> None:
        blank = _blank_profiles(rows, self._known.profile)
        dates = rows.column("Enrolment Date").to_pylist() if "Enrolment Date" in rows.column_names else [None] * len(rows)
        for number, is_blank, date in zip(rows.column(-1).to_pylist(), blank.to_pylist(), dates, strict=True):
            reason = self._known.learner(in_old=in_old, profile_is_blank=is_blank, enrolment_date=date)
            where = Unknown.ONLY_OLD if in_old else Unknown.ONLY_NEW
            self._add(None, reason or where, Example(number, None) if in_old else Example(None, number))

    def _compare_cells(self, old: pa.Table, new: pa.Table) -> None:
        """Compare rows of the same learners in the same order."""
        blank = _blank_profiles(new, self._known.profile)
        for label in self._shared:
            before, after = old.column(label), new.column(label)
            differs = pc.not_equal(before, after)
            if not pc.any(differs).as_py():
                continue
            before, after = before.filter(differs), after.filter(differs).combine_chunks()
            as_spark = pc.equal(before, self._known.as_spark(label, after))
            cells = list(
                zip(
                    *(column.to_pylist() for column in (before, after, blank.filter(differs), as_spark)),
                    strict=True,
                )
            )
            rows = list(zip(*(one.column(-1).filter(differs).to_pylist() for one in (old, new)), strict=True))
            self._add_cells(label, cells, rows)

    def _add_cells(self, label: str, cells: list[tuple[str, str, bool, bool]], rows: list[tuple[int, int]]) -> None:
        reasons: dict[tuple[str, str, bool, bool], Reason | Unknown] = {}
        for cell, count in Counter(cells).items():
            old, new, blank, as_spark = cell
            reason = Reason.DATES if as_spark else self._known.cell(label, old, new, profile_is_blank=blank)
            reasons[cell] = reason or (Unknown.OLD_BLANK if not old else Unknown.CELLS if new else Unknown.NEW_BLANK)
            self._add(label, reasons[cell], count=count)
        wanted = {reason for reason in reasons.values() if len(self._difference(label, reason).examples) < self._max_examples}
        for cell, (old_row, new_row) in zip(cells, rows, strict=True):
            if not wanted:
                break
            if reasons[cell] in wanted:
                examples = self._difference(label, reasons[cell]).examples
                examples.append(Example(old_row, new_row, *cell[:2]))
                if len(examples) == self._max_examples:
                    wanted.remove(reasons[cell])

    def _difference(self, column: str | None, reason: Reason | Unknown) -> Difference:
        return self.differences.setdefault((column, reason), Difference(column, reason))

    def _add(self, column: str | None, reason: Reason | Unknown, example: Example | None = None, *, count: int = 1) -> None:
        difference = self._difference(column, reason)
        difference.count += count
        if example and len(difference.examples) < self._max_examples:
            difference.examples.append(example)


def _places(keys: list[str]) -> dict[tuple[str, int], int]:
    """Return the place of each row, by the learner and how many rows of the learner are before it."""
    seen: Counter[str] = Counter()
    places = {}
    for place, key in enumerate(keys):
        places[key, seen[key]] = place
        seen[key] += 1
    return places


def _blank_profiles(rows: pa.Table, labels: tuple[str, ...]) -> pa.Array:
    """Return for each row whether it has these columns, and all their cells are blank."""
    present = [rows.column(label) for label in labels if label in rows.column_names]
    blank = pa.array([bool(present)] * len(rows), pa.bool_())
    for column in present:
        blank = pc.and_(blank, pc.equal(column, ""))
    return blank
