"""Schedule a run as soon as a request is submitted: Airflow's triggerer runs this trigger, which asks Postgres."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from progress_exhaust.airflow_names import AirflowException
from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.settings import VARIABLE, Settings, parse_settings
from progress_exhaust.stages.site_setup import Site
from progress_exhaust.triggers.announcements import Announcements

if TYPE_CHECKING:
    from progress_exhaust.hooks.requests.models import Submission
    from progress_exhaust.hooks.requests.submissions import SubmissionWatch

# After this time it connects again, with the settings and the connection as they are then.
CONNECTED_SECONDS = 300
LONGEST_PAUSE_SECONDS = 60

log = logging.getLogger(__name__)


def prepare_watch() -> "tuple[Settings, SubmissionWatch]":
    """Read the settings and the connection from Airflow. It blocks, so it runs in a thread."""
    settings = parse_settings(Variable.get(VARIABLE, default=None))
    watch = Site(settings, run_id="").submission_watch()
    watch.prepare()
    return settings, watch


class PendingRequestsTrigger(BaseEventTrigger):
    """Fire once for each submission that waits for its first run. It only reads, and never ends by itself.

    It does not fire for requests that a run holds or has deferred, and not for a FAILED one that waits for its next attempt:
    the schedule starts the run for those. Two events for one submission do no harm: the second run finds nothing, and is
    skipped. So two triggerers, and a restart between event and claim, are safe.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._connected: tuple[Settings, SubmissionWatch] | None = None
        self._connected_until = 0.0
        self._has_answer = False  # since the start

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class, and no arguments: the settings are read while it runs."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until it is cancelled. An outage pauses it."""
        announcements = Announcements()
        pause, problem = 0.0, ""
        while True:
            await asyncio.sleep(pause)
            try:
                settings, waiting = await self._ask()
            except Exception as error:
                await self.cleanup()
                if problem != type(error).__name__:
                    problem = type(error).__name__
                    known = isinstance(error, ProgressExhaustError | AirflowException)  # whose texts have no secret
                    log.warning("New requests cannot be found at the moment: %s", error if known else problem)
                pause = min(2 * pause or 1, LONGEST_PAUSE_SECONDS)
                continue
            if problem:
                log.info("New requests can be found again")
            pause, problem = settings.request_poll_seconds, ""
            new = announcements.add(waiting, time.monotonic())
            if new:
                log.info("requests waiting=%d new=%d: a run is scheduled", len(waiting), new)
                yield TriggerEvent({"pending": len(waiting)})

    async def cleanup(self) -> None:
        """Close the connection. Airflow calls it whatever ended the trigger."""
        connected, self._connected = self._connected, None
        if connected is not None:
            _, watch = connected
            await watch.close()

    async def _ask(self) -> "tuple[Settings, list[Submission]]":
        if self._connected is not None and time.monotonic() > self._connected_until:
            await self.cleanup()
        if self._connected is None:
            self._connected = await asyncio.to_thread(prepare_watch)
            await self._connected[1].connect()
            self._connected_until = time.monotonic() + CONNECTED_SECONDS
        settings, watch = self._connected
        waiting = await watch.waiting(
            batch_number=settings.batch_number, channels=settings.channels, starting=not self._has_answer
        )
        self._has_answer = True
        return settings, waiting
