"""Progress of long work: a log line every few seconds, and counts in the ledger for the bar on the page."""

from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from progress_exhaust.stages.batch_context import BatchContext

SECONDS_BETWEEN_REPORTS = 5
LEARNERS = "learners"
# The order of counts in a log line; the others follow in the order of their names.
COUNT_ORDER = (
    *("found", "claimed", "succeeded", "done", "failed", "deferred", "duplicate", "rejected", "running", "waiting"),
    *("enrolled", "reported", "excluded", "missing"),
)

Item = TypeVar("Item")


class Progress:
    """Reports how far long work is.

    :param what: what one step is, for the log
    :param total: how many steps there are; None if unknown
    :param share: the part of the whole stage that this work is, as (start, end) from 0 to 1. If given, the ledger gets it too
    """

    def __init__(
        self, batch_context: "BatchContext", what: str, total: int | None = None, *, share: tuple[float, float] | None = None
    ) -> None:
        self._batch_context = batch_context
        self._what = what
        self._total = total
        self._share = share
        self._done = self._skipped = 0
        self._started = self._reported = monotonic()

    def track(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; each is one step."""
        for item in items:
            yield item
            self.add(1)

    def skip(self, done: int) -> None:
        """Count the steps of an earlier task attempt: they do not count for the speed of this one."""
        self._done += done
        self._skipped += done

    def add(self, done: int) -> None:
        """Count finished steps, and report if the last report is old enough."""
        self._done += done
        now = monotonic()
        if now - self._reported < SECONDS_BETWEEN_REPORTS:
            return
        self._reported = now
        rate = (self._done - self._skipped) / (now - self._started)
        text = f"{self._done:,} {self._what}, {rate:,.0f} a second"
        if self._total is not None:
            left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
            text = f"{self._done:,} of {self._total:,} {self._what}, {rate:,.0f} a second{left}"
        self._batch_context.log.info("%s: %s", self._batch_context.batch, text)
        if self._share and self._total:
            self._batch_context.report_progress(self._counts(now, rate, self._total, *self._share))

    def _counts(self, now: float, rate: float, total: int, start: float, end: float) -> dict[str, int]:
        """Return the counts for the ledger.

        The time left is that of the whole stage, at the average speed of this task attempt: it does not jump when the next
        part of the stage has another speed.
        """
        share_per_step = (end - start) / total
        share = start + share_per_step * self._done
        made_now = share - share_per_step * self._skipped
        counts = {"percent": int(100 * share)}
        if rate and made_now:
            counts["seconds_left"] = round((now - self._batch_context.started) * (1 - share) / made_now)
        if self._what == LEARNERS:
            counts |= {"learners_done": self._done, "learners_per_second": round(rate)}
        return counts


def format_counts(counts: Mapping[str, int]) -> str:
    """Return counts as `name=value` pairs, always in the same order, zeroes too."""
    known = {name: place for place, name in enumerate(COUNT_ORDER)}
    names = sorted(counts, key=lambda name: (known.get(name, len(known)), name))
    return " ".join(f"{name}={counts[name]}" for name in names)
