"""Test the trigger of new requests with a fake Postgres: when it fires, how it goes through an outage, how it ends."""

import asyncio
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseEventTrigger

from progress_exhaust.airflow_names import AirflowNotFoundException
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.requests.models import Submission
from progress_exhaust.settings import Settings
from progress_exhaust.triggers import pending_requests
from progress_exhaust.triggers.announcements import CLAIM_SECONDS, MOST_REMEMBERED, Announcements
from progress_exhaust.triggers.pending_requests import LONGEST_PAUSE_SECONDS, PendingRequestsTrigger

SETTINGS = Settings(request_poll_seconds=7, batch_number=3, channels=("org-1",))
DOWN = SourceError("Postgres at host:5432 (connection progress_exhaust_requests) does not answer")


def waits(request_id: str, submitted_at: str = "2022-09-26 10:00:00", *, passed_over: bool = False) -> Submission:
    return Submission("tag", request_id, submitted_at, passed_over)


A, B, C = waits("A"), waits("B"), waits("C")


class FakePostgres:
    """Gives the answers of a script, one for each question; an exception is raised. After the last one it does not answer."""

    def __init__(self, answers: Iterable[Sequence[Submission] | Exception], *, connects: Iterable[Exception | None] = ()) -> None:
        self.answers = list(answers)
        self.connects = list(connects)
        self.asked: list[dict[str, Any]] = []
        self.connections = self.open = 0
        self.at_the_end = asyncio.Event()

    def prepare(self) -> tuple[Settings, "FakePostgres"]:
        return SETTINGS, self

    async def connect(self) -> None:
        self.connections += 1
        if self.connects and (error := self.connects.pop(0)):
            raise error
        self.open += 1

    async def waiting(self, **values: Any) -> list[Submission]:
        self.asked.append(values)
        if not self.answers:
            self.at_the_end.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    async def close(self) -> None:
        self.open = 0


@dataclass
class Outcome:
    """What the trigger did until the script ended."""

    payloads: list[Any]
    pauses: list[float]


def run(postgres: FakePostgres, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Run the trigger as the triggerer does, until the end of the script; then cancel it."""
    outcome = Outcome([], [])

    async def sleep(seconds: float) -> None:
        outcome.pauses.append(seconds)

    async def consume(trigger: PendingRequestsTrigger) -> None:
        try:
            async for event in trigger.run():
                outcome.payloads.append(event.payload)
        finally:
            await trigger.cleanup()

    async def until_the_end() -> None:
        task = asyncio.create_task(consume(PendingRequestsTrigger()))
        await asyncio.wait_for(postgres.at_the_end.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(pending_requests, "prepare_watch", postgres.prepare)
    monkeypatch.setattr(pending_requests.asyncio, "sleep", sleep)
    asyncio.run(until_the_end())
    return outcome


# When it fires


def test_new_request_fires_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(FakePostgres([[], [A], [A], [A], []]), monkeypatch).payloads == [{"pending": 1}]


def test_empty_queue_does_not_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(FakePostgres([[], [], []]), monkeypatch).payloads == []


def test_request_that_waits_at_the_start_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(FakePostgres([[A, B], [A, B]]), monkeypatch).payloads == [{"pending": 2}]


def test_request_that_a_run_passed_over_does_not_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart: it waits because of a limit. The next answers do not say so any more."""
    postgres = FakePostgres([[waits("A", passed_over=True)], [A], [A, B]])
    assert run(postgres, monkeypatch).payloads == [{"pending": 2}]
    assert [values["starting"] for values in postgres.asked] == [True, False, False, False]


def test_claimed_request_that_returns_does_not_fire_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the API may be ahead: a deferred request then looks as if it was submitted after the run."""
    assert run(FakePostgres([[A], [], [A], [A]]), monkeypatch).payloads == [{"pending": 1}]


def test_request_that_is_submitted_again_fires_again(monkeypatch: pytest.MonkeyPatch) -> None:
    again = waits("A", "2022-09-26 10:05:00")
    assert run(FakePostgres([[A], [], [again], [again]]), monkeypatch).payloads == [{"pending": 1}] * 2


def test_each_new_request_fires_once_the_first_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(FakePostgres([[A], [A, B], [B], [B], [C, B]]), monkeypatch).payloads == [{"pending": 1}, {"pending": 1}]


def test_run_that_is_due_claims_later_requests_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(FakePostgres([[A], [B, A], [C, B, A], []]), monkeypatch).payloads == [{"pending": 1}]


def test_request_fires_if_no_run_claims_anything_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    announcements = Announcements()
    assert announcements.add([A], 0) == 1
    assert announcements.add([A, B], CLAIM_SECONDS - 1) == 0
    assert announcements.add([A, B], CLAIM_SECONDS) == 1
    assert announcements.add([A, B], 10 * CLAIM_SECONDS) == 0


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    announcements = Announcements()
    for number in range(3 * MOST_REMEMBERED):
        announcements.add([waits(str(number))], float(number))
    assert len(announcements._known) <= MOST_REMEMBERED + 1


def test_it_asks_for_this_sites_part_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = FakePostgres([[]])
    assert run(postgres, monkeypatch).pauses == [0, 7]
    assert postgres.asked[0] == {"batch_number": 3, "channels": ("org-1",), "starting": True}


# Outages


def test_outage_is_logged_once_with_growing_pauses_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    postgres = FakePostgres([[A], DOWN, [A], [A, B], []], connects=[None, *[DOWN] * 6, None])
    with caplog.at_level(logging.INFO):
        outcome = run(postgres, monkeypatch)
    assert outcome.payloads == [{"pending": 1}]  # a run that claims A claims B
    assert outcome.pauses == [0, 7, 14, 28, 56, 60, 60, 60, 60, 7, 7, 7]
    assert max(outcome.pauses) == LONGEST_PAUSE_SECONDS
    said = [record.getMessage() for record in caplog.records if "New requests" in record.getMessage()]
    assert said == [f"New requests cannot be found at the moment: {DOWN}", "New requests can be found again"]


def test_request_of_an_outage_fires_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(FakePostgres([[], DOWN, DOWN, [A], [A]]), monkeypatch).payloads == [{"pending": 1}]


def test_start_in_an_outage_looks_up_what_was_passed_over_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = FakePostgres([DOWN, [waits("A", passed_over=True)], [A]])
    assert run(postgres, monkeypatch).payloads == []
    assert [values["starting"] for values in postgres.asked] == [True, True, False, False]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            SetupError("permission denied for table job_request (for SELECT)"),
            "permission denied for table job_request (for SELECT)",
        ),
        (AirflowNotFoundException("The conn_id `x` isn't defined"), "The conn_id `x` isn't defined"),
        (RuntimeError("password=secret"), "RuntimeError"),
    ],
)
def test_no_error_ends_it_and_only_known_texts_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    assert run(FakePostgres([error, [A]]), monkeypatch).payloads == [{"pending": 1}]
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        f"New requests cannot be found at the moment: {said}"
    ]


# Connections


def test_it_closes_its_connection_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = FakePostgres([[], [A], []])
    run(postgres, monkeypatch)
    assert (postgres.connections, postgres.open) == (1, 0)


def test_it_connects_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = FakePostgres([[], DOWN, []])
    run(postgres, monkeypatch)
    assert postgres.connections == 2


def test_it_reads_settings_and_connection_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_requests, "CONNECTED_SECONDS", -1)
    postgres = FakePostgres([[]] * 3)
    run(postgres, monkeypatch)
    assert (postgres.connections, postgres.open) == (4, 0)


# As Airflow keeps it


def test_it_survives_airflows_serialization() -> None:
    row = Trigger.from_object(PendingRequestsTrigger())
    assert row.classpath == "progress_exhaust.triggers.pending_requests.PendingRequestsTrigger"
    assert row.kwargs == {}  # so that a new version of the DAG file finds the same trigger
    assert isinstance(PendingRequestsTrigger(**row.kwargs), PendingRequestsTrigger)
    hashes = {BaseEventTrigger.hash(*PendingRequestsTrigger().serialize()) for _ in range(2)}
    assert hashes == {BaseEventTrigger.hash(row.classpath, row.kwargs)}


def test_its_event_has_no_data_of_a_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    [payload] = run(FakePostgres([[A]]), monkeypatch).payloads
    assert json.dumps(payload) == '{"pending": 1}'
