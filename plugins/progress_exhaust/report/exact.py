"""Exact numbers: read, add and write them without rounding.

A number is stored as a text that `Decimal` reads, because no numeric type of Arrow holds each of them exactly. Python computes
with exact numbers, but slowly, so every function here computes each different value once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.pivot import LEARNER, to_frame

_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,100})?")


@dataclass(frozen=True)
class Sums:
    """Exact sums, as integers."""

    scaled: pd.Series  # by learner: the sum times 10 ** decimals: int64, or Python's integers where int64 would overflow
    decimals: int


def map_distinct(values: pa.Array | pa.ChunkedArray, function: Callable[[Any], Any], result: pa.DataType) -> pa.Array:
    """Apply a function to each different value once. Nulls stay null."""
    encoded = (values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values).dictionary_encode()
    results = pa.array([function(value) for value in encoded.dictionary.to_pylist()], result)
    return results.take(encoded.indices)


def numbers(floats: pa.ChunkedArray) -> pa.Array:
    """Return finite floats as exact numbers, and null for the others."""
    finite = pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float64()))
    return map_distinct(finite, repr, pa.string())


def sums_by_learner(learners: pa.ChunkedArray, exact: pa.Array, most: int) -> Sums:
    """Add up the exact numbers of each learner. Learners without a number have no sum.

    :param learners: the learner of each number
    :param exact: exact numbers and nulls
    :param most: the greatest number of rows of a learner
    """
    long = to_frame(pa.table({LEARNER: learners, "number": exact})).dropna()
    places, distinct = pd.factorize(long["number"])
    values = [Decimal(value) for value in distinct]
    decimals = max([0, *(-int(value.as_tuple().exponent) for value in values)])
    scaled = [int(value.scaleb(decimals, text.EXACT)) for value in values]
    fits = max(map(abs, scaled), default=0) * most < 2**63
    long["scaled"] = np.array(scaled, np.int64 if fits else object)[places]
    return Sums(long.groupby(LEARNER)["scaled"].sum(), decimals)


def maximum_scores(total_max_scores: pa.ChunkedArray, grand_totals: pa.ChunkedArray) -> pa.Array:
    """Return the maximum score of each attempt: total_max_score, else the number after the `/` of grand_total, else null."""
    return pc.coalesce(numbers(total_max_scores), map_distinct(grand_totals, grand_total_maximum, pa.string()))


def grand_total_points(grand_total: str) -> str | None:
    """Return the number before the `/` of a grand total, or None if it is not a number."""
    points = grand_total.partition("/")[0].strip()
    return points if _NUMBER.fullmatch(points) else None


def grand_total_maximum(grand_total: str) -> str | None:
    """Return the number after the `/` of a grand total, or None if it is not a number."""
    maximum = grand_total.partition("/")[2].strip()
    return maximum if _NUMBER.fullmatch(maximum) else None


def grand_total_percent(grand_total: str) -> str:
    """Return 100 × a / b of a grand total `a/b`, rounded up. Blank if it is something else, or if b is 0."""
    points, _, most = (number.strip() for number in grand_total.partition("/"))
    if not (_NUMBER.fullmatch(points) and _NUMBER.fullmatch(most) and Fraction(most)):
        return ""
    return f"{ceil(100 * Fraction(points) / Fraction(most))}%"
