"""The bar charts of the last nights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from progress_exhaust.hooks.requests.status import Night

TITLES = {"requests": "Requests", "learners": "Learners reported", "seconds": "Seconds of work", "failures": "Failures"}


@dataclass(frozen=True)
class Chart:
    """One figure of each night, as bars.

    :param field: the field of Night that the chart shows
    """

    title: str
    nights: Sequence[Night]
    field: str

    @cached_property
    def values(self) -> list[float]:
        return [getattr(night, self.field) for night in self.nights]

    @property
    def maximum(self) -> float:
        return max(self.values, default=0)

    @property
    def description(self) -> str:
        """Return the chart as a sentence, for a screen reader."""
        if not self.maximum:
            return f"{self.title}: none in {len(self.nights)} days"
        peak = self.nights[self.values.index(self.maximum)]
        return (
            f"{self.title} of the last {len(self.nights)} days: {sum(self.values):,.0f} in total, at most {self.maximum:,.0f} on "
            f"{peak.day}, {self.values[-1]:,.0f} today"
        )


def make_charts(nights: Sequence[Night]) -> list[Chart]:
    """Return one chart per figure; the nights are in order of time."""
    return [Chart(title, nights, field) for field, title in TITLES.items()]
