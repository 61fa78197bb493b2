"""Let several clients of one Postgres go on one statement at a time, in an order that a program chooses.

Each client is a thread. Before each statement on the tables of the requests, and before each COMMIT, it waits at its gate. The
scheduler opens one gate, and waits until that client is at its next gate, has ended, or waits for a lock in Postgres. Then it
chooses again. So one list of choices gives one history, and gives it again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg

POLL_SECONDS = 0.002  # a statement on these small tables takes less
STUCK_SECONDS = 20
DEADLOCK_MILLISECONDS = 50


class Fault(StrEnum):
    """What happens to a connection at a gate."""

    NONE = ""
    LOST = "lost"  # before the statement or the COMMIT; the server rolls back
    UNACKNOWLEDGED = "unacknowledged"  # the COMMIT succeeds, and the client does not hear of it


@dataclass(frozen=True)
class Choice:
    """Which client goes on, by its place, and what happens to its connection there."""

    client: int
    fault: Fault = Fault.NONE

    def __str__(self) -> str:
        return f"{self.client}{ {Fault.NONE: '', Fault.LOST: 'x', Fault.UNACKNOWLEDGED: 'u'}[self.fault] }"


class Stopped(BaseException):
    """The schedule has ended: the client ends."""


class Client(threading.Thread):
    """One client: it does its work in its own thread, and waits at its gates."""

    def __init__(self, name: str, work: Callable[["Client"], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.work = work
        self.state = "running"  # ready: at a gate; blocked: waits for a lock; finished
        self.at = ""  # the statement that it is about to send
        self.fault = Fault.NONE
        self.faults = 0  # how many it has met
        self.error: BaseException | None = None
        self.pid: int | None = None  # of the backend that its statement runs in
        self.scheduler: Scheduler | None = None
        self.connections: list[Any] = []  # those that no transaction uses, of any client
        self.can_be_lost = True  # its connection
        self.statement_names: dict[str, str] = {}  # of the statements that wait at the gate, by their text

    def run(self) -> None:
        try:
            self.work(self)
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        with self.changed:
            self.state = "finished"
            self.changed.notify_all()

    @property
    def changed(self) -> threading.Condition:
        assert self.scheduler is not None
        return self.scheduler.changed

    def wait_at_gate(self, at: str) -> Fault:
        """Wait until the scheduler lets this client go on; return what happens to its connection."""
        if self.scheduler is None:
            return Fault.NONE
        with self.changed:
            self.state, self.at = "ready", at
            self.changed.notify_all()
            while self.state == "ready":
                self.changed.wait()
        if self.scheduler.stopped:
            raise Stopped
        fault, self.fault = self.fault, Fault.NONE
        self.faults += fault is not Fault.NONE
        return fault


class Scheduler:
    """Lets the clients go on in the chosen order.

    :param monitor: a cursor that commits each statement
    :param choose: returns the next choice from the places of the clients that can go on; the place of the last one may be among
        them
    """

    def __init__(self, monitor: Any, choose: "Callable[[Scheduler, list[int]], Choice]") -> None:
        self.changed = threading.Condition()
        self.stopped = False
        self.clients: list[Client] = []
        self.last: int | None = None
        self.trace: list[tuple[Choice, str]] = []
        self.problems: list[str] = []
        self._monitor, self._choose = monitor, choose

    def run(self, clients: Sequence[Client]) -> None:
        """Let these clients do their work."""
        self.clients = list(clients)
        for client in self.clients:
            client.scheduler = self
            client.start()
        try:
            while self._wait_until_quiet():
                ready = [place for place, client in enumerate(self.clients) if client.state == "ready"]
                choice = self._choose(self, ready)
                self.trace.append((choice, self.clients[choice.client].at))
                self.last = choice.client
                self._open(choice)
        finally:
            self._stop()

    def _open(self, choice: Choice) -> None:
        client = self.clients[choice.client]
        with self.changed:
            client.fault, client.state = choice.fault, "running"
            for other in self.clients:
                if other.state == "blocked":  # what this client does now may let it go on
                    other.state = "running"
            self.changed.notify_all()

    def _wait_until_quiet(self) -> bool:
        """Wait until each client is at a gate, blocked or finished; return whether one can go on."""
        deadline = time.monotonic() + STUCK_SECONDS
        while True:
            with self.changed:
                if self._running():
                    self.changed.wait(POLL_SECONDS)
                running = self._running()
            if running:
                self._note_blocked(running)
            elif any(client.state == "ready" for client in self.clients):
                return True
            elif all(client.state == "finished" for client in self.clients):
                return False
            else:
                self._wait_for_deadlock()
            if time.monotonic() > deadline:
                states = ", ".join(f"{client.name}: {client.state} at {client.at}" for client in self.clients)
                raise AssertionError(f"no client goes on: {states}")

    def _running(self) -> list[Client]:
        return [client for client in self.clients if client.state == "running"]

    def _note_blocked(self, running: Sequence[Client]) -> None:
        """Note that these clients wait for locks of clients, if all of them do: else one of them may be about to free another.

        What waits for Postgres itself, such as for autovacuum, goes on by itself.
        Postgres looks at one after the other. Meanwhile the first may get its lock, and the second begin to wait for it. So it
        is asked twice: a client that waits both times, while all others wait, is freed by none of them.
        """
        waiting, pids = ([client.pid for client in some if client.pid is not None] for some in (running, self.clients))
        blocked = "SELECT count(*) FROM unnest(%s::int[]) AS pid WHERE pg_blocking_pids(pid) && %s::int[]"
        for _ in range(2):
            self._monitor.execute(blocked, [waiting, pids])
            if self._monitor.fetchone() != (len(running),):
                return
        with self.changed:
            for client in running:
                client.state = "blocked"

    def _wait_for_deadlock(self) -> None:
        """All clients wait for each other: Postgres ends one of the statements."""
        blocked = [f"{client.name} at {client.at}" for client in self.clients if client.state == "blocked"]
        self.problems.append(f"deadlock: {', '.join(blocked)}")
        time.sleep(DEADLOCK_MILLISECONDS / 1000)
        with self.changed:
            for client in self.clients:
                if client.state == "blocked":
                    client.state = "running"

    def _stop(self) -> None:
        with self.changed:
            self.stopped = True
            for client in self.clients:
                if client.state == "ready":
                    client.state = "running"
            self.changed.notify_all()
        for client in self.clients:
            client.join(STUCK_SECONDS)

    def wait_for_end_of(self, pid: int) -> None:
        """Wait until the server has rolled back what a lost connection did."""
        while True:
            self._monitor.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid])
            if not self._monitor.rowcount:
                return
            time.sleep(0.001)


class GatedCursor(psycopg.Cursor[Any]):
    """Waits at the gate of its client before it sends a statement on the tables of the requests."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self._wait(query)
        return super().execute(query, params, **options)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> Any:
        self._wait(query)
        return super().executemany(query, params_seq, **options)

    def _wait(self, query: Any) -> None:
        connection: Any = self.connection
        if at := connection.client.statement_names.get(query):
            connection.pass_gate(at)


class GatedConnection(psycopg.Connection[Any]):
    """Waits at the gate of its client before COMMIT. Closed, it is kept for the client's next transaction."""

    client: Any

    def pass_gate(self, at: str) -> Fault:
        self.client.pid = self.info.backend_pid
        fault: Fault = self.client.wait_at_gate(at)
        if fault is Fault.LOST:
            self.lose()
        return fault

    def commit(self) -> None:
        fault = self.pass_gate("COMMIT")
        super().commit()
        if fault is Fault.UNACKNOWLEDGED:
            self.lose()

    def close(self) -> None:
        """Roll back what is open, as the server does when a connection is closed."""
        if self.closed:
            return
        with suppress(psycopg.Error):
            self.rollback()
        self.client.connections.append(self)

    def really_close(self) -> None:
        super().close()

    def lose(self) -> None:
        """Lose the connection: the client gets an error."""
        pid = self.info.backend_pid
        self.really_close()
        if self.client.scheduler is not None:
            self.client.scheduler.wait_for_end_of(pid)
        raise psycopg.OperationalError("the connection was lost")
