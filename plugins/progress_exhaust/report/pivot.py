"""From a part's facts to cells: the rules of the specification's "Columns", for one page of learners at a time.

Whole columns go through Arrow and numpy; exact arithmetic, which they lack, is done once for each different value.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.hierarchy import Hierarchy, Part
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


@dataclass(frozen=True)
class Report:
    """What all pages of a report have in common: plain data, which another process can be handed."""

    batch: Batch
    facts: BatchFacts
    hierarchy: Hierarchy
    rules: CellRules
    named_columns: bool  # label the collection's own columns `<name> (<id>) - Score` where they have a name
    defuse_formulas: bool


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

    def user_names(self) -> pa.Array:
        first, last = (
            pc.utf8_trim_whitespace(text.changed(self.text(field), text.SUSPECT, text.clean))
            for field in ("firstname", "lastname")
        )
        return pc.utf8_trim_whitespace(pc.binary_join_element_wise(first, last, " "))

    def enrolment_dates(self) -> pa.Array:
        return pc.coalesce(text.timestamps(self._facts("enrolled_at")), text.text_dates(self._facts("enrolled_text")), "")

    def completion_dates(self) -> pa.Array:
        return text.timestamps(self._facts("completed_at")).fill_null("")

    def progress(self) -> pa.Array:
        completed = self._facts("completed_contents").to_numpy().astype(np.int64)
        percents = _percents(completed, self.report.hierarchy.leaf_count)
        return pc.if_else(self._facts("completed_at").is_valid(), "100", percents)

    def certificate_statuses(self) -> pa.Array:
        statuses = pa.array(self.report.rules.failed_certificate_statuses, pa.int64())
        failed = pc.is_in(self._facts("certificate_status").cast(pa.int64()), value_set=statuses)
        return pc.if_else(self._facts("has_certificate"), "Issued", pc.if_else(failed, "Failed", ""))

    def nested_progress(self, nested: Part) -> pa.Array:
        return _percents(self._completed[nested.id], nested.leaf_count or 0)

    def scores(self, content_id: str) -> pa.Array:
        return self._score_texts.take(pa.array(self._chosen[content_id]))

    def total_scores(self) -> pa.Array:
        """Write each learner's exact sum; blank where no chosen attempt has a score."""
        points = self._scores.points
        chosen = np.stack(
            [self._chosen[content_id] for content_id in self.report.hierarchy.assessment_ids] or [self._no_attempts]
        )
        decimals = max([0, *(-int(one.as_tuple().exponent) for one in points if one is not None)])
        scaled = [0 if one is None else int(one.scaleb(decimals, text.EXACT)) for one in points]
        fits = max(map(abs, scaled)) * len(chosen) < 2**63  # else Python's own integers, which have no end
        sums = np.array(scaled, np.int64 if fits else object)[chosen].sum(axis=0)
        totals, places = np.unique(sums, return_inverse=True)
        texts = pa.array([text.number(Decimal(f"{total}E-{decimals}")) for total in totals.tolist()], pa.string())
        scored = np.array([one is not None for one in points])[chosen].any(axis=0)
        return pc.if_else(pa.array(scored), texts.take(pa.array(places)), "")

    def _facts(self, field: str) -> pa.Array:
        return self.part[field].combine_chunks()

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
        """For each assessment, the place in `_scores.points` of the attempt that counts, for each learner."""
        learner, attempts = _flattened(self._facts("attempts"))
        ids = self.report.hierarchy.assessment_ids
        content = _places(attempts.field("content_id"), ids)
        codes = self._scores.codes
        ranks = np.array([-np.inf if one is None else float(one) for one in self._scores.points])
        keys = {
            "learner and content": pa.array(learner * (len(ids) + 1) + content),
            "rank": pa.array(ranks[codes]),
            "attempted_at": attempts.field("attempted_at"),
            "attempt_id": attempts.field("attempt_id"),
        }
        if self.report.rules.chosen_attempt == "latest":
            del keys["rank"]
        order = pc.sort_indices(pa.record_batch(keys), sort_keys=[(key, "ascending", "at_start") for key in keys]).to_numpy()
        pairs = keys["learner and content"].to_numpy()[order]
        last = order[np.diff(pairs, append=-1) != 0]
        grid = np.stack([self._no_attempts] * (len(ids) + 1))
        grid[content[last], learner[last]] = codes[last]
        return dict(zip(ids, grid, strict=False))  # the last row has what no column shows

    @cached_property
    def _no_attempts(self) -> Numbers:
        return np.full(len(self), len(self._scores.points) - 1)

    @cached_property
    def _scores(self) -> "_Scores":
        return _Scores.of(_flattened(self._facts("attempts"))[1])

    @cached_property
    def _score_texts(self) -> pa.Array:
        return pa.array([text.number(one) for one in self._scores.points], pa.string())


@dataclass(frozen=True)
class _Scores:
    """The attempts' scores, each different one once.

    An attempt's score is total_score, else what stands before the `/` of grand_total.
    """

    codes: Numbers  # of each attempt: the place of its score in `points`
    points: list[Decimal | None]  # None: no number; the last one: no attempt

    @classmethod
    def of(cls, attempts: pa.StructArray) -> "_Scores":
        total = attempts.field("total_score")
        total = pc.if_else(pc.is_finite(total), total, pa.scalar(None, pa.float64())).dictionary_encode()
        grand = pc.if_else(total.is_valid(), pa.scalar(None, pa.string()), attempts.field("grand_total")).dictionary_encode()
        points = [
            *(Decimal(repr(score)) for score in total.dictionary.to_pylist()),
            *(grand_total_points(grand_total) for grand_total in grand.dictionary.to_pylist()),
            None,
        ]
        codes = pc.coalesce(total.indices, pc.add(grand.indices, len(total.dictionary)), len(points) - 1)
        return cls(codes.to_numpy(zero_copy_only=False), points)


def grand_total_points(grand_total: str) -> Decimal | None:
    """Return what stands before the `/`, or None where that is no number."""
    points = grand_total.partition("/")[0].strip()
    return Decimal(points) if _POINTS.fullmatch(points) else None


def _percents(completed: Numbers, leaf_count: int) -> pa.Array:
    """100 × completed / leaf count, half up, 0 to 100; blank for NaN, and without leaves."""
    if leaf_count == 0:
        return pa.repeat("", len(completed))
    leaf_count = min(leaf_count, 2**53)  # a tree may state any number: 2**53 is 0 % already, and fits in int64
    percents = np.clip(np.floor((200 * completed + leaf_count) / (2 * leaf_count)), 0, 100)
    return _PERCENTS.take(pa.array(np.nan_to_num(percents, nan=_BLANK).astype(np.int64)))


def _flattened(lists: pa.ListArray) -> tuple[Numbers, pa.StructArray]:
    """Return for each of the lists' items the row that it is of, and the items."""
    return pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)


def _places(ids: pa.Array, known: list[str]) -> Numbers:
    """Return where each id stands among the known ones; their number, for one that does not."""
    places: Numbers = pc.index_in(ids, value_set=pa.array(known, pa.string())).fill_null(len(known)).to_numpy()
    return places
