"""The known differences between a file of the Spark job and one of this package (docs/how-to/migrate-from-the-spark-job.md).

`Reason` has the names of the rows of that page's table. A test compares both. A difference that no rule explains is unknown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report.layout import BUILT_IN, PROGRESS_ENDING, SCORE_ENDING, STANDARD_DATE
from progress_exhaust.report.text import clean, dates, defuse, instants, moment

SPARK_LAYOUT, STANDARD_LAYOUT = "sunbird-lern-7", "standard"
SPARK_DATE = "dd/MM/yyyy"
LABELS = {name: tuple(column.label for column in layout.columns) for name, layout in BUILT_IN.items()}
# The columns from the user cache: blank for a learner who is missing there, or whose account is deleted.
PROFILE = {
    name: tuple(column.label for column in layout.columns if column.user_field or column.field == "user_name")
    for name, layout in BUILT_IN.items()
}
DATE_LABELS = ("Enrolment Date", "Completion Date")
BATCH_ID_PREFIX = "BatchId_"


class Reason(StrEnum):
    """Why a known difference is there."""

    # In both layouts.
    FORMULAS = "cells that a spreadsheet would run"
    CONTROLS = "line ends, tabs and control characters in a cell"
    DELETED = "profile of a deleted account"
    # In layout `standard` only.
    COLUMNS = "columns"
    NESTED = "nested collections"
    ASSESSMENTS = "assessments"
    SCORE = "`<id> - Score`"
    TOTAL_SCORE = "Total Score"
    NO_TOTAL_SCORE = "Total Score of attempts without total_score"
    ARCHIVED = "archived attempts"
    BATCH_ID = "Batch Id"
    DATES = "dates"
    NO_LEAF_COUNT = "Progress without a leaf count"
    REMOVED = "Progress with removed contents"
    ROUNDING = "rounding of Progress"
    CERTIFICATE = "Certificate Status"
    BLANKS = "blanks at the start and end of a cell"
    MISSING = "learners missing from the cache"
    BLANK_DATES = "enrolments with an empty date"


class Unknown(StrEnum):
    """What an unknown difference is."""

    OLD_BLANK = "blank in OLD only"
    NEW_BLANK = "blank in NEW only"
    CELLS = "different cells"
    ONLY_OLD = "only in OLD"
    ONLY_NEW = "only in NEW"
    ORDER = "order of the columns"


def layout_of(labels: Sequence[str]) -> str | None:
    """Return the built-in layout whose columns a file has, or None."""
    return next((name for name, all_labels in LABELS.items() if set(all_labels) <= set(labels)), None)


@dataclass(frozen=True)
class Known:
    """The rules for two files.

    :param old_layout: layout of OLD, or None. There are known differences only if it is that of the Spark job
    :param new_layout: layout of NEW, or None
    :param time_zone: of the dates in OLD
    :param always_completed: each Progress in OLD is 100
    """

    old_layout: str | None
    new_layout: str | None
    time_zone: str
    always_completed: bool = False

    @property
    def profile(self) -> tuple[str, ...]:
        """The columns of NEW from the user cache."""
        return PROFILE.get(self.new_layout or "", ())

    @property
    def _to_standard(self) -> bool:
        return self.old_layout == SPARK_LAYOUT and self.new_layout == STANDARD_LAYOUT

    def column(self, label: str, *, in_old: bool) -> Reason | None:
        """Return why a column is in one file only; None if this is unknown."""
        if not self._to_standard:
            return None
        if label in LABELS[SPARK_LAYOUT if in_old else STANDARD_LAYOUT]:
            return Reason.COLUMNS
        if not in_old and label.endswith(PROGRESS_ENDING):
            return Reason.NESTED
        return Reason.ASSESSMENTS if not in_old and label.endswith(SCORE_ENDING) else None

    @property
    def order_is_known(self) -> bool:
        """Return whether the columns may be in another order."""
        return self._to_standard

    def learner(self, *, in_old: bool, profile_is_blank: bool, enrolment_date: str | None) -> Reason | None:
        """Return why a learner is in one file only; None if this is unknown."""
        if self._to_standard and not in_old and profile_is_blank:
            return Reason.MISSING
        return Reason.BLANK_DATES if self._to_standard and in_old and enrolment_date == "" else None

    def as_spark(self, label: str, cells: pa.Array) -> pa.Array:
        """Return the cells of NEW as the Spark job writes them, if the column has dates; else unchanged."""
        if not self._to_standard or label not in DATE_LABELS:
            return cells
        written = dates(instants(cells), SPARK_DATE, self.time_zone)
        return pc.coalesce(written, "")

    def cell(self, label: str, old: str, new: str, *, profile_is_blank: bool) -> Reason | None:
        """Return why two cells differ; None if this is unknown. Dates that `as_spark` makes equal are not asked for."""
        if self.old_layout != SPARK_LAYOUT:
            return None
        plain = _without_apostrophe(new)
        if plain == old:
            return Reason.FORMULAS
        if clean(old) != old and plain.strip() == clean(old).strip():
            return Reason.CONTROLS
        if new == "" and profile_is_blank and label in self.profile:
            return Reason.DELETED
        if not self._to_standard:
            return None
        if plain.strip() == old:
            return Reason.BLANKS
        rule = _score if label.endswith(SCORE_ENDING) else _RULES.get(label)
        if label == "Progress" and self.always_completed:
            return Reason.NO_LEAF_COUNT
        return rule(old, new) if rule else None


def _without_apostrophe(cell: str) -> str:
    """Return the cell before `escape_formulas`."""
    return cell[1:] if cell and defuse(cell[1:]) == cell else cell


def _score(old: str, new: str) -> Reason | None:
    points = _number(new)
    if points is None:
        return None
    if old == "":
        return Reason.ARCHIVED
    percent = _number(old.removesuffix("%")) if old.endswith("%") else None
    # The Spark job rounds up. So only no points are 0 %.
    return Reason.SCORE if percent is not None and (percent == 0) == (points == 0) else None


def _total_score(old: str, new: str) -> Reason | None:
    reason = _score(old, new)
    if old == "0%" and _number(new):  # the Spark job takes such an attempt for 0 points
        return Reason.NO_TOTAL_SCORE
    return Reason.TOTAL_SCORE if reason is Reason.SCORE or (reason and _number(new) == 0) else reason


def _progress(old: str, new: str) -> Reason | None:
    before, after = _number(old), _number(new)
    if before is None or after is None:
        return None
    if after < before:
        return Reason.REMOVED
    return Reason.ROUNDING if after == before + 1 else None


def _certificate(old: str, new: str) -> Reason | None:
    return Reason.CERTIFICATE if (old, new) == ("", "Failed") else None


def _batch_id(old: str, new: str) -> Reason | None:
    return Reason.BATCH_ID if old == BATCH_ID_PREFIX + new else None


def _date(old: str, new: str) -> Reason | None:
    """The date of a text is its first ten characters, in no time zone. A text that is not a date is blank in OLD."""
    day = f"{new[8:10]}/{new[5:7]}/{new[:4]}"
    is_date = moment(new, STANDARD_DATE) is not None
    return Reason.DATES if (is_date and old == day) or (old == "" and not is_date) else None


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


_RULES: dict[str, Callable[[str, str], Reason | None]] = {
    "Batch Id": _batch_id,
    "Certificate Status": _certificate,
    "Progress": _progress,
    "Total Score": _total_score,
    **dict.fromkeys(DATE_LABELS, _date),
}
