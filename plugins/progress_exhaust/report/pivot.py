"""From a part's facts to cells: the rules of the specification's "Columns", for one page of learners at a time."""

import re
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
from math import isfinite

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.hierarchy import Hierarchy, Part
from progress_exhaust.report.request import Batch, BatchFacts

_POINTS = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,100})?")


@dataclass(frozen=True)
class CellRules:
    """The settings that decide what a cell says."""

    chosen_attempt: str  # best or latest
    failed_certificate_statuses: tuple[int, ...]


class Learners:
    """The learners of one part, and how each of their cells is made.

    Every method returns one text a learner, in the part's order.
    """

    def __init__(self, part: pa.Table, batch: Batch, facts: BatchFacts, hierarchy: Hierarchy, rules: CellRules) -> None:
        self.part = part
        self.batch = batch
        self.facts = facts
        self.hierarchy = hierarchy
        self.rules = rules

    def text(self, field: str) -> "pd.Series[str]":
        return _texts(self.part[field].fill_null("").to_pylist())

    def user_names(self) -> "pd.Series[str]":
        first, last = (self.text(field).map(text.clean).str.strip() for field in ("firstname", "lastname"))
        return (first + " " + last).str.strip()

    def enrolment_dates(self) -> "pd.Series[str]":
        instants, texts = self.part["enrolled_at"].to_pylist(), self.part["enrolled_text"].to_pylist()
        return _texts(
            [text.text_date(words) if at is None else text.timestamp(at) for at, words in zip(instants, texts, strict=True)]
        )

    def completion_dates(self) -> "pd.Series[str]":
        return _texts(["" if at is None else text.timestamp(at) for at in self.part["completed_at"].to_pylist()])

    def progress(self) -> "pd.Series[str]":
        completed = self.part["completed_contents"].to_numpy().astype(np.int64)
        percent = _percents(completed, self.hierarchy.leaf_count)
        return percent.where(self.part["completed_at"].is_null().to_numpy(), "100")

    def certificate_statuses(self) -> "pd.Series[str]":
        issued = self.part["has_certificate"].to_numpy()
        failed = self.part["certificate_status"].to_pandas().isin(self.rules.failed_certificate_statuses)
        return _texts(np.select([issued, failed.to_numpy()], ["Issued", "Failed"], "").tolist())

    def nested_progress(self, nested: Part) -> "pd.Series[str]":
        learner, progress = _flattened(self.part["nested"])
        chosen = pc.equal(progress.field("id"), nested.id).to_numpy(zero_copy_only=False)
        cells = np.full(len(self.part), "", dtype=object)
        cells[learner[chosen]] = _percents(
            progress.field("completed").to_numpy(zero_copy_only=False)[chosen], nested.leaf_count or 0
        )
        return _texts(cells.tolist())

    def scores(self, content_id: str) -> "pd.Series[str]":
        chosen = self._chosen_attempts
        of_this = chosen[chosen["content_id"] == content_id]
        cells = pd.Series("", index=range(len(self.part)), dtype="str")
        cells.loc[of_this["learner"]] = of_this["score"].map(text.number).to_numpy()
        return cells

    def total_scores(self) -> "pd.Series[str]":
        chosen = self._chosen_attempts
        valued = chosen[chosen["content_id"].isin(self.hierarchy.assessment_ids) & chosen["score"].notna()]
        totals: dict[int, Decimal] = {}
        with localcontext(prec=text.DIGITS):
            for learner, score in zip(valued["learner"].tolist(), valued["score"], strict=True):
                totals[learner] = totals.get(learner, Decimal(0)) + score
        return _texts([text.number(totals.get(learner)) for learner in range(len(self.part))])

    @cached_property
    def _chosen_attempts(self) -> pd.DataFrame:
        """One attempt for each learner and content: learner (its row), content_id, score (Decimal or None)."""
        learner, attempts = _flattened(self.part["attempts"])
        frame = pd.DataFrame({field.name: attempts.field(field.name).to_pandas() for field in attempts.type})
        frame["learner"] = learner
        frame["score"] = pd.Series(
            [attempt_score(total, grand) for total, grand in zip(frame["total_score"], frame["grand_total"], strict=True)],
            dtype=object,
        )
        frame["rank"] = frame["score"].astype("float64").fillna(-np.inf)
        frame["attempted_at"] = frame["attempted_at"].astype("Int64").fillna(-(2**63))
        order = ["attempted_at", "attempt_id"]
        if self.rules.chosen_attempt == "best":
            order.insert(0, "rank")
        return frame.sort_values(order, kind="stable").drop_duplicates(["learner", "content_id"], keep="last")


def attempt_score(total_score: float | None, grand_total: str | None) -> Decimal | None:
    """Return an attempt's points: total_score, else what stands before the `/` of grand_total; None for no number."""
    if total_score is not None and isfinite(total_score):
        return Decimal(repr(float(total_score)))
    if not isinstance(grand_total, str):
        return None
    points = grand_total.partition("/")[0].strip()
    return Decimal(points) if _POINTS.fullmatch(points) else None


def _percents(completed: "np.ndarray[tuple[int], np.dtype[np.float64 | np.int64]]", leaf_count: int) -> "pd.Series[str]":
    """100 × completed / leaf count, half up, 0 to 100; blank without leaves."""
    if leaf_count == 0:
        return _texts([""] * len(completed))
    leaf_count = min(leaf_count, 2**53)  # a tree may state any number: 2**53 is 0 % already, and fits in int64
    percent = np.clip(np.floor((200 * completed + leaf_count) / (2 * leaf_count)), 0, 100)
    return _texts(percent.astype(np.int64).astype(str).tolist())


def _flattened(lists: pa.ChunkedArray) -> "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], pa.StructArray]":
    """Return the lists' items, and for each the row that it is of."""
    rows = lists.combine_chunks()
    return pc.list_parent_indices(rows).to_numpy(), pc.list_flatten(rows)


def _texts(cells: list[str]) -> "pd.Series[str]":
    return pd.Series(cells, dtype="str")
