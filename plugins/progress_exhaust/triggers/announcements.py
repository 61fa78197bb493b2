"""Which new submissions need an event. It decides from answers and times alone, and asks nothing itself."""

from collections.abc import Iterable

from progress_exhaust.hooks.requests.models import Submission

# After an event, a run claims the requests within seconds, with all others that came meanwhile. No second event is sent for
# those before the first run has claimed, or has had this long to do so.
CLAIM_SECONDS = 60
MOST_REMEMBERED = 10_000


class Announcements:
    """The submissions that an event was sent for. Each gets one event, as long as this object lives."""

    def __init__(self) -> None:
        self._known: set[Submission] = set()
        self._last: set[Submission] = set()  # of the last event
        self._last_at = float("-inf")

    def add(self, waiting: Iterable[Submission], now: float) -> int:
        """Return how many submissions need an event now, and remember them; 0 if a run is about to claim them.

        :param waiting: all that wait, as Postgres answers now
        :param now: a monotonic time in seconds
        """
        current = set(waiting)
        if len(self._known) > MOST_REMEMBERED:
            self._known &= current
        self._known |= {one for one in current if one.passed_over}
        new = current - self._known
        run_is_due = bool(self._last & current) and now < self._last_at + CLAIM_SECONDS
        if not new or run_is_due:
            return 0
        self._known |= new
        self._last, self._last_at = new, now
        return len(new)
