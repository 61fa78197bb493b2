"""Turn the facts of a chunk of learners into the texts of its cells, by the rules of the specification ("Columns")."""

import json
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.errors import SetupError
from progress_exhaust.report import text
from progress_exhaust.report.attempts import ChosenAttempts
from progress_exhaust.report.hierarchy import ColumnNode
from progress_exhaust.report.layout import USER
from progress_exhaust.report.pivot import last_of_each, long_table, wide_table
from progress_exhaust.report.report import Report

_BLANK = 101  # its position in _PERCENTS
_PERCENTS = pa.array([*map(str, range(101)), ""])

Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]


class Learners:
    """The learners of one chunk, with a method for each kind of cell.

    Each of these methods returns one text for each learner, in the order of the chunk.

    :param chunk: the facts of the learners, one row each
    """

    def __init__(self, chunk: pa.Table, report: Report) -> None:
        self.chunk = chunk
        self.report = report

    def __len__(self) -> int:
        return len(self.chunk)

    def text(self, field: str) -> pa.Array:
        return self._facts(field).fill_null("")

    def first_entries(self, field: str) -> pa.Array:
        """Return the first entry of each JSON list. Other texts, and empty lists, do not change."""
        return text.changed(self.text(field), r"^\s*\[", first_entry)

    def user_names(self) -> pa.Array:
        first, last = (
            pc.utf8_trim_whitespace(text.changed(self.text(f"{USER}{field}"), text.SUSPECT, text.clean))
            for field in ("firstname", "lastname")
        )
        return pc.utf8_trim_whitespace(pc.binary_join_element_wise(first, last, " "))

    def enrolment_dates(self, pattern: str) -> pa.Array:
        timestamps = text.dates(self._facts("enrolled_at"), pattern, self.report.time_zone)
        texts = self._facts("enrolled_text")
        if self.report.layout.text_dates == "day":
            return pc.coalesce(timestamps, text.dates(text.instants(pc.utf8_slice_codeunits(texts, 0, 10)), pattern, "UTC"), "")
        return pc.coalesce(timestamps, text.dates(text.instants(texts), pattern, self.report.time_zone), texts, "")

    def completion_dates(self, pattern: str) -> pa.Array:
        return text.dates(self._facts("completed_at"), pattern, self.report.time_zone).fill_null("")

    def enrolment_statuses(self) -> pa.Array:
        return pc.if_else(self._facts("active"), "active", "inactive")

    def progress(self) -> pa.Array:
        hierarchy = self.report.hierarchy
        if self.report.layout.no_leaf_count == "100" and not (hierarchy.states_leaf_count and hierarchy.leaf_count):
            return pa.repeat("100", len(self))
        completed = self._facts("completed_contents").to_numpy().astype(np.int64)
        percents = _float32_percents if self.report.layout.progress_precision == "float32" else _percents
        return pc.if_else(self._facts("completed_at").is_valid(), "100", percents(completed, hierarchy.leaf_count))

    def certificate_statuses(self) -> pa.Array:
        statuses = pa.array(self.report.rules.failed_certificate_statuses, pa.int64())
        failed = pc.is_in(self._facts("certificate_status"), value_set=statuses)
        return pc.if_else(self._facts("has_certificate"), "Issued", pc.if_else(failed, "Failed", ""))

    def certificates_issued(self) -> pa.Array:
        return pc.if_else(self._facts("has_certificate"), "Issued", "")

    def nested_progress(self, nested: ColumnNode) -> pa.Array:
        completed = self._completed[nested.id].to_numpy()
        return _percents(completed, nested.leaf_count or 0)

    def scores(self, content_id: str) -> pa.Array:
        """Return the points of the chosen attempt."""
        return self._attempts.scores[content_id].combine_chunks().fill_null("")

    def score_percents(self, content_id: str) -> pa.Array:
        """Return 100 × a / b of the chosen attempt's grand_total `a/b`, rounded up."""
        return self._attempts.percents[content_id].combine_chunks().fill_null("")

    def total_scores(self) -> pa.Array:
        return self._attempts.total_scores()

    def total_percents(self) -> pa.Array:
        return self._attempts.total_percents()

    def max_scores(self) -> pa.Array:
        return self._attempts.max_scores()

    def attempt_counts(self) -> pa.Array:
        return self._attempts.counts()

    def _facts(self, field: str) -> pa.Array:
        if field not in self.chunk.column_names:
            raise SetupError(
                f"{self.report.batch}: extract did not read the field {field}, which the layout shows. Clear the extract task"
            )
        return self.chunk[field].combine_chunks()

    @cached_property
    def _completed(self) -> pa.Table:
        """How many contents of each nested collection each learner has completed; null without an entry."""
        node_ids = self.report.hierarchy.nested_ids
        entries = last_of_each(long_table(self._facts("nested"), "id", node_ids))
        return wide_table(entries, "completed", node_ids, len(self))

    @cached_property
    def _attempts(self) -> ChosenAttempts:
        return ChosenAttempts(self._facts("attempts"), self.report.hierarchy.assessment_ids, self.report.rules.chosen_attempt)


def first_entry(cell: str) -> str:
    """Return the first entry of a JSON list. Return the text unchanged if it is not a list, or an empty one."""
    try:
        entries = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    if not isinstance(entries, list) or not entries:
        return cell
    return text.clean(entries[0] if isinstance(entries[0], str) else json.dumps(entries[0]))


def _percents(completed: Numbers, leaf_count: int) -> pa.Array:
    """Return 100 × completed / leaf count, half up, from 0 to 100. Blank for NaN, and if there are no leaves."""
    if leaf_count == 0:
        return pa.repeat("", len(completed))
    leaf_count = min(leaf_count, 2**53)  # a tree may state any number; with 2**53 leaves, which fits in int64, it is 0 % already
    percents = np.floor((200 * np.clip(completed, 0, leaf_count) + leaf_count) / (2 * leaf_count))
    return _PERCENTS.take(pa.array(np.nan_to_num(percents, nan=_BLANK).astype(np.int64)))


def _float32_percents(completed: Numbers, leaf_count: int) -> pa.Array:
    """Return the same as `_percents`, calculated as the Spark job does: 21 of 40 is 52.499996, and so 52."""
    if leaf_count == 0:
        return pa.repeat("", len(completed))
    leaf_count = min(leaf_count, 2**53)  # as above
    shares = np.minimum(completed, leaf_count).astype(np.float32) / np.float32(leaf_count)
    percents = np.floor((shares * np.float32(100)).astype(np.float64) + 0.5)
    return _PERCENTS.take(pa.array(percents.astype(np.int64)))
