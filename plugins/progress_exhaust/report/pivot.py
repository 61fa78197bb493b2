"""From a part's facts to cells: the rules of the specification's "Columns", for one page of learners at a time.

Whole columns go through Arrow and numpy; exact arithmetic, which they lack, is done once for each different value.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.errors import SetupError
from progress_exhaust.report import text
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import USER, Layout
from progress_exhaust.report.request import Batch, BatchFacts

_POINTS = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,100})?")
_BLANK = 101  # its place in _PERCENTS
_PERCENTS = pa.array([*map(str, range(101)), ""])

Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class CellRules:
    """The settings that decide what a cell says."""

    chosen_attempt: str  # best or latest
    failed_certificate_statuses: tuple[int, ...]
    column_labels: str  # id or name
    defuse_formulas: bool
    report_timezone: str


@dataclass(frozen=True)
class Report:
    """What all pages of a report have in common: plain data, which another process can be handed."""

    batch: Batch
    facts: BatchFacts
    hierarchy: Hierarchy
    layout: Layout
    rules: CellRules
    attempted: frozenset[str] = frozenset()  # contents that a reported learner tried, where the layout asks for it

    @property
    def time_zone(self) -> str:
        zone = self.layout.time_zone
        return self.rules.report_timezone if zone == "report" else zone


class Learners:
    """The learners of one part, and how each of their cells is made.

    Every method that makes cells returns one text a learner, in the part's order.
    """

    def __init__(self, part: pa.Table, report: Report) -> None:
        self.part = part
        self.report = report

    def __len__(self) -> int:
        return len(self.part)

    def text(self, field: str) -> pa.Array:
        return self._facts(field).fill_null("")

    def first_entries(self, field: str) -> pa.Array:
        """Write the first entry of a JSON list; what is no list, or an empty one, as it stands."""
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

    def progress(self) -> pa.Array:
        hierarchy = self.report.hierarchy
        if self.report.layout.no_leaf_count == "100" and not (hierarchy.states_leaf_count and hierarchy.leaf_count):
            return pa.repeat("100", len(self))
        completed = self._facts("completed_contents").to_numpy().astype(np.int64)
        return pc.if_else(self._facts("completed_at").is_valid(), "100", _percents(completed, hierarchy.leaf_count))

    def certificate_statuses(self) -> pa.Array:
        statuses = pa.array(self.report.rules.failed_certificate_statuses, pa.int64())
        failed = pc.is_in(self._facts("certificate_status"), value_set=statuses)
        return pc.if_else(self._facts("has_certificate"), "Issued", pc.if_else(failed, "Failed", ""))

    def certificates_issued(self) -> pa.Array:
        return pc.if_else(self._facts("has_certificate"), "Issued", "")

    def nested_progress(self, nested: ColumnNode) -> pa.Array:
        return _percents(self._completed[nested.id], nested.leaf_count or 0)

    def scores(self, content_id: str) -> pa.Array:
        """Write the chosen attempt's points."""
        return self._scores.texts.take(pa.array(self._scores.codes[self._chosen[content_id]]))

    def score_percents(self, content_id: str) -> pa.Array:
        """Write, of the chosen attempt's grand_total `a/b`, 100 × a / b, rounded up; blank where it is none, and for b = 0."""
        chosen = self._chosen[content_id]
        values = self._attempts.field("grand_total").take(pa.array(chosen, mask=chosen < 0)).dictionary_encode()
        percents = pa.array([grand_total_percent(value) for value in values.dictionary.to_pylist()], pa.string())
        return percents.take(values.indices).fill_null("")

    def total_scores(self) -> pa.Array:
        """Write each learner's exact sum; blank where no chosen attempt has a score."""
        sums, decimals, any_score = self._sums(self._scores)
        totals, places = np.unique(sums, return_inverse=True)
        texts = pa.array([text.number(Decimal(f"{total}E-{decimals}")) for total in totals.tolist()], pa.string())
        return pc.if_else(pa.array(any_score), texts.take(pa.array(places)), "")

    def total_percents(self) -> pa.Array:
        """Write 100 × the sum of total_score / that of total_max_score, rounded up; blank where one is none, or the latter 0."""
        scores, decimals, any_score = self._sums(_Exact.of(self._attempts.field("total_score")))
        most, most_decimals, any_most = self._sums(_Exact.of(self._attempts.field("total_max_score")))
        known = any_score & any_most & (most != 0)
        above, below = 100 * 10**most_decimals, 10**decimals
        sums = zip(known.tolist(), scores.tolist(), most.tolist(), strict=True)
        return pa.array([f"{-(-above * score // (below * of))}%" if one else "" for one, score, of in sums], pa.string())

    def _facts(self, field: str) -> pa.Array:
        if field not in self.part.column_names:
            raise SetupError(f"{self.report.batch}: the extract did not read {field}, which the layout shows: clear extract")
        return self.part[field].combine_chunks()

    def _sums(self, numbers: "_Exact") -> tuple[Numbers, int, Numbers]:
        """Sum each learner's chosen attempts: integers, how many of their digits are decimals, and whether there was any."""
        chosen = [self._chosen[content_id] for content_id in self.report.hierarchy.assessment_ids]
        codes = numbers.codes[np.stack(chosen or [self._none])]
        decimals = max([0, *(-int(one.as_tuple().exponent) for one in numbers.values if one is not None)])
        scaled = [0 if one is None else int(one.scaleb(decimals, text.EXACT)) for one in numbers.values]
        fits = max(map(abs, scaled)) * len(codes) < 2**63  # else Python's own integers, which have no end
        has_value = np.array([one is not None for one in numbers.values])
        return np.array(scaled, np.int64 if fits else object)[codes].sum(axis=0), decimals, has_value[codes].any(axis=0)

    @cached_property
    def _completed(self) -> dict[str, Numbers]:
        """For each nested collection, the contents that each learner completed; NaN where there is no entry."""
        learner, progress = _flattened(self._facts("nested"))
        ids = self.report.hierarchy.nested_ids
        grid = np.full((len(ids) + 1, len(self)), np.nan)
        grid[_places(progress.field("id"), ids), learner] = progress.field("completed").to_numpy()
        return dict(zip(ids, grid, strict=False))  # the last row has what no column shows

    @cached_property
    def _chosen(self) -> dict[str, Numbers]:
        """For each assessment, the place in `_attempts` of the one that counts, for each learner; -1 for none."""
        attempts, ids = self._attempts, self.report.hierarchy.assessment_ids
        learner, content = self._flat_attempts[0], _places(attempts.field("content_id"), ids)
        ranks = np.array([-np.inf if one is None else float(one) for one in self._scores.values])
        keys = {
            "learner and content": pa.array(learner * (len(ids) + 1) + content),
            "rank": pa.array(ranks[self._scores.codes[:-1]]),
            "attempted_at": attempts.field("attempted_at"),
            "attempt_id": attempts.field("attempt_id"),
        }
        if self.report.rules.chosen_attempt == "latest":
            del keys["rank"]
        order = pc.sort_indices(pa.record_batch(keys), sort_keys=[(key, "ascending", "at_start") for key in keys]).to_numpy()
        pairs = keys["learner and content"].to_numpy()[order]
        last = order[np.diff(pairs, append=-1) != 0].astype(np.int64)
        grid = np.stack([self._none] * (len(ids) + 1))
        grid[content[last], learner[last]] = last
        return dict(zip(ids, grid, strict=False))  # the last row has what no column shows

    @cached_property
    def _none(self) -> Numbers:
        return np.full(len(self), -1)

    @property
    def _attempts(self) -> pa.StructArray:
        return self._flat_attempts[1]

    @cached_property
    def _flat_attempts(self) -> tuple[Numbers, pa.StructArray]:
        return _flattened(self._facts("attempts"))

    @cached_property
    def _scores(self) -> "_Exact":
        """The attempts' scores: total_score, else what stands before the `/` of grand_total."""
        return _Exact.of(self._attempts.field("total_score"), self._attempts.field("grand_total"))


@dataclass(frozen=True)
class _Exact:
    """Numbers, exactly, and each different one once."""

    codes: Numbers  # of each number its place in `values`; then one more, for what is at -1
    values: list[Decimal | None]  # None: no number; so is the last

    @classmethod
    def of(cls, floats: pa.Array, grand_totals: pa.Array | None = None) -> "_Exact":
        """Take the finite floats, and the points of a grand total where there is none."""
        finite = pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float64())).dictionary_encode()
        values: list[Decimal | None] = [Decimal(repr(one)) for one in finite.dictionary.to_pylist()]
        codes = finite.indices
        if grand_totals is not None:
            others = pc.if_else(finite.is_valid(), pa.scalar(None, pa.string()), grand_totals).dictionary_encode()
            codes = pc.coalesce(codes, pc.add(others.indices, len(values)))
            values += map(grand_total_points, others.dictionary.to_pylist())
        return cls(np.append(codes.fill_null(len(values)).to_numpy(), len(values)), [*values, None])

    @cached_property
    def texts(self) -> pa.Array:
        return pa.array(map(text.number, self.values), pa.string())


def grand_total_points(grand_total: str) -> Decimal | None:
    """Return what stands before the `/`, or None where that is no number."""
    points = grand_total.partition("/")[0].strip()
    return Decimal(points) if _POINTS.fullmatch(points) else None


def grand_total_percent(grand_total: str) -> str:
    """Write 100 × a / b of `a/b`, rounded up; blank for anything else, and for b = 0."""
    points, _, of = (part.strip() for part in grand_total.partition("/"))
    if not (_POINTS.fullmatch(points) and _POINTS.fullmatch(of) and Fraction(of)):
        return ""
    return f"{ceil(100 * Fraction(points) / Fraction(of))}%"


def first_entry(cell: str) -> str:
    """Return the first entry of a JSON list; what is no list, or an empty one, as it stands."""
    try:
        entries = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    if not isinstance(entries, list) or not entries:
        return cell
    return text.clean(entries[0] if isinstance(entries[0], str) else json.dumps(entries[0]))


def _percents(completed: Numbers, leaf_count: int) -> pa.Array:
    """100 × completed / leaf count, half up, 0 to 100; blank for NaN, and without leaves."""
    if leaf_count == 0:
        return pa.repeat("", len(completed))
    leaf_count = min(leaf_count, 2**53)  # a tree may state any number: 2**53 is 0 % already, and fits in int64
    percents = np.floor((200 * np.clip(completed, 0, leaf_count) + leaf_count) / (2 * leaf_count))
    return _PERCENTS.take(pa.array(np.nan_to_num(percents, nan=_BLANK).astype(np.int64)))


def _flattened(lists: pa.ListArray) -> tuple[Numbers, pa.StructArray]:
    """Return for each of the lists' items the row that it is of, and the items."""
    return pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)


def _places(ids: pa.Array, known: list[str]) -> Numbers:
    """Return where each id stands among the known ones; their number, for one that does not."""
    places: Numbers = pc.index_in(ids, value_set=pa.array(known, pa.string())).fill_null(len(known)).to_numpy()
    return places
