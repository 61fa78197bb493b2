"""Scores whose attempts were archived: the best ones are still in the aggregates of the batch's own collection.

Only learners without an attempt of some assessment can have such a score, and in most batches none of them has one. To read
their aggregates all the same would cost as much as one more nested collection. The statuses of the contents show who probably
has one: the learners who completed an assessment of which there is no attempt. All of these are read, and with them a hundred
others of each chunk, which are 2 percent of its partitions. If one of them has a score, the rest of the chunk is read, too.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.extract.schemas import ARCHIVED_SCORES, FACTS_OF_ATTEMPTS

SAMPLE = 100  # learners of a chunk who did not complete an assessment without an attempt

Mask = np.ndarray[tuple[int, ...], np.dtype[Any]]


def add_archived_scores(
    attempts: pa.Table, chunk: pa.Table, assessment_ids: Sequence[str], read: Callable[[Sequence[str]], pa.Table]
) -> pa.Table:
    """Return the attempts, and one more for each archived score of the chunk's learners, with `archived_attempts`.

    :param attempts: FACTS_OF_ATTEMPTS; may have rows of other learners and other contents
    :param chunk: enrolled learners
    :param read: returns the archived scores (ARCHIVED_SCORES) of these learners; may have those of other contents
    """
    user_ids, assessments = chunk["user_id"].combine_chunks(), pa.array(assessment_ids, pa.string())

    def places(rows: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Return the position of each row's learner and assessment; null for others."""
        return tuple(
            pc.index_in(rows[column], value_set=values).combine_chunks()
            for column, values in (("user_id", user_ids), ("content_id", assessments))
        )

    # One row for each learner, one column for each assessment: whether there is no attempt.
    lacking: Mask = np.ones((len(user_ids), len(assessments)), bool)
    learners, contents = places(attempts)
    known = pc.and_(learners.is_valid(), contents.is_valid())
    lacking[learners.filter(known).to_numpy(), contents.filter(known).to_numpy()] = False

    def scores_of(positions: Mask) -> pa.Table:
        """Return the archived scores of these learners, for assessments without an attempt."""
        if not len(positions):
            return ARCHIVED_SCORES.empty_table()
        rows = read(user_ids.take(pa.array(positions)).to_pylist())
        learners, contents = places(rows)
        of_assessments = pc.and_(learners.is_valid(), contents.is_valid())
        rows, learners, contents = (column.filter(of_assessments) for column in (rows, learners, contents))
        return rows.filter(pa.array(lacking[learners.to_numpy(), contents.to_numpy()]))

    first, others = _read_first(lacking, chunk["completed_assessments"].fill_null(0).to_numpy())
    scores = scores_of(first)
    if len(scores):
        scores = pa.concat_tables([scores, scores_of(others)])
    return pa.concat_tables([attempts, as_attempts(scores)])


def _read_first(lacking: Mask, completed: Mask) -> tuple[Mask, Mask]:
    """Return the learners who may have an archived score: those to read first, and the rest, as ascending positions."""
    is_candidate = lacking.any(axis=1)
    attempted = (~lacking).sum(axis=1)
    is_suspect = is_candidate & (completed > attempted)
    others = np.flatnonzero(is_candidate & ~is_suspect)
    first = np.sort(np.concatenate([np.flatnonzero(is_suspect), _spread(others, SAMPLE)]))
    return first, np.setdiff1d(np.flatnonzero(is_candidate), first, assume_unique=True)


def _spread(positions: Mask, number: int) -> Mask:
    """Return at most so many of the positions, at equal distances: the same ones in each attempt of the task."""
    return positions if len(positions) <= number else positions[np.arange(number) * len(positions) // number]


def as_attempts(scores: pa.Table) -> pa.Table:
    """Return archived scores as attempts: `archived_attempts` says how many each stands for."""
    grand_totals = [
        None if most is None else f"{_plain(score)}/{_plain(most)}"
        for score, most in zip(scores["score"].to_pylist(), scores["max_score"].to_pylist(), strict=True)
    ]
    values = {
        "user_id": scores["user_id"],
        "content_id": scores["content_id"],
        "attempt_id": pa.repeat("", len(scores)),
        "total_score": scores["score"],
        "grand_total": pa.array(grand_totals, pa.string()),
        "total_max_score": scores["max_score"],
        "archived_attempts": scores["attempts"].fill_null(1),
    }
    nothing = pa.nulls(len(scores))
    return pa.table([values.get(field.name, nothing.cast(field.type)) for field in FACTS_OF_ATTEMPTS], schema=FACTS_OF_ATTEMPTS)


def _plain(number: float) -> str:
    """Return a number as text without an exponent, as in grand_total."""
    return f"{Decimal(repr(number)):f}"
