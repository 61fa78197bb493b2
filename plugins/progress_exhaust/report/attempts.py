"""Choose the assessment attempt that counts, for each learner and assessment, and write its score (specification, "Columns")."""

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import exact, text
from progress_exhaust.report.options import ChosenAttempt
from progress_exhaust.report.pivot import LEARNER, NODE, last_of_each, long_table, wide_table

POINTS = "points"  # the exact score of an attempt
FIELDS = (LEARNER, NODE, POINTS, "grand_total", "total_score", "total_max_score")  # of a chosen attempt


class ChosenAttempts:
    """The attempts that count, of one chunk of learners.

    :param attempts: one list of attempts for each learner
    :param assessment_ids: the assessments with a column; attempts of other contents do not count
    :param rule: which attempt counts
    """

    def __init__(self, attempts: pa.ListArray, assessment_ids: Sequence[str], rule: ChosenAttempt) -> None:
        self._learners = len(attempts)
        self._assessment_ids = assessment_ids
        self._all = long_table(attempts, "content_id", assessment_ids)
        self._chosen = choose_attempts(self._all, rule)

    @cached_property
    def scores(self) -> pa.Table:
        """The scores in points, as texts: one row for each learner, one column for each assessment."""
        return self._wide(exact.map_distinct(self._chosen[POINTS], _number, pa.string()))

    @cached_property
    def percents(self) -> pa.Table:
        """The scores in percent of grand_total, as texts: one row for each learner, one column for each assessment."""
        return self._wide(exact.map_distinct(self._chosen["grand_total"], exact.grand_total_percent, pa.string()))

    def counts(self) -> pa.Array:
        """Return how many attempts each learner has, chosen or not, as text. A row may stand for several archived ones."""
        learners = self._all[LEARNER].to_numpy()
        attempts = np.zeros(self._learners, np.int64)
        np.add.at(attempts, learners, pc.fill_null(self._all["archived_attempts"], 1).to_numpy())
        return pa.array(attempts).cast(pa.string())

    def total_scores(self) -> pa.Array:
        """Return the exact sum of each learner's scores, as text. Blank if no chosen attempt has a score."""
        return self._total(self._chosen[POINTS])

    def max_scores(self) -> pa.Array:
        """Return the exact sum of the maximum scores of the chosen attempts, as text.

        The maximum of an attempt is total_max_score, else the number after the `/` of grand_total. Blank if an attempt with a
        score has no maximum, because the sum would be too small for the total score; and if no attempt has one.
        """
        maxima = exact.maximum_scores(self._chosen["total_max_score"], self._chosen["grand_total"])
        is_unknown = pc.and_(self._chosen[POINTS].is_valid(), maxima.is_null())
        lacks_one = np.zeros(self._learners, bool)
        lacks_one[self._chosen[LEARNER].filter(is_unknown).to_numpy()] = True
        return pc.if_else(pa.array(lacks_one), "", self._total(maxima))

    def _total(self, numbers: pa.Array) -> pa.Array:
        sums = self._sums(numbers)
        texts = {total: _number(f"{total}E-{sums.decimals}") for total in sums.scaled.unique()}
        # Not by `map`: pandas 3.0 first makes floats of the numbers, and the largest ones do not fit.
        return self._by_learner(pd.Series([texts[total] for total in sums.scaled], sums.scaled.index, object))

    def total_percents(self) -> pa.Array:
        """Return 100 × the sum of total_score / the sum of total_max_score of each learner, rounded up.

        Blank if there is no sum, or if the second sum is 0.
        """
        scores, most = (self._sums(exact.numbers(self._chosen[field])) for field in ("total_score", "total_max_score"))
        sums = pd.concat([scores.scaled, most.scaled], axis="columns", join="inner", keys=["score", "most"])
        sums = sums[sums["most"] != 0]
        above, below = 100 * 10**most.decimals, 10**scores.decimals
        pairs = zip(sums["score"].tolist(), sums["most"].tolist(), strict=True)
        return self._by_learner(pd.Series([f"{-(-above * one // (below * of))}%" for one, of in pairs], sums.index, dtype=object))

    def _wide(self, texts: pa.Array) -> pa.Table:
        items = self._chosen.select([LEARNER, NODE]).append_column("text", texts)
        return wide_table(items, "text", self._assessment_ids, self._learners)

    def _sums(self, numbers: pa.Array) -> exact.Sums:
        return exact.sums_by_learner(self._chosen[LEARNER], numbers, most=len(self._assessment_ids))

    def _by_learner(self, texts: pd.Series) -> pa.Array:
        """Return a text for each learner of the chunk, blank for learners without one."""
        wide = texts.reindex(range(self._learners)).to_frame("text")
        table = pa.Table.from_pandas(wide, pa.schema([("text", pa.string())]), preserve_index=False)
        return table["text"].combine_chunks().fill_null("")


def choose_attempts(attempts: pa.Table, rule: ChosenAttempt) -> pa.Table:
    """Return the attempt that counts for each learner and assessment, with its exact score in the column POINTS.

    The best attempt is the one with the greatest score; attempts without a score rank last. A tie is decided by
    last_attempted_on, then by attempt_id; so is the latest attempt. Arrow sorts: pandas takes 30 times as long for these keys.

    :param attempts: a long table
    """
    points = pc.coalesce(
        exact.numbers(attempts["total_score"]),
        exact.map_distinct(attempts["grand_total"], exact.grand_total_points, pa.string()),
    )
    attempts = attempts.append_column(POINTS, points)
    keys = [LEARNER, NODE, "attempted_at", "attempt_id"]
    if rule == ChosenAttempt.BEST:
        attempts = attempts.append_column("rank", exact.map_distinct(points, float, pa.float64()))
        keys.insert(2, "rank")
    # Nulls must come first. Arrow has two ways to say so, before and since version 25. Without either, they come last.
    order = pc.sort_indices(attempts, sort_keys=[(key, "descending") for key in keys])[::-1]
    return last_of_each(attempts.select(FIELDS).take(order))


def _number(exact_number: str) -> str:
    return text.number(Decimal(exact_number))
