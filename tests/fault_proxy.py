"""A proxy to a server of this machine that forwards everything, until a fault starts: at once, or at a moment of the dialogue."""

import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Whether this is the moment, by what a connection has sent so far, and what it sends now.
Moment = Callable[[bytes, bytes], bool]

# What happens to answers from the moment on, of every connection.
REFUSE = "refuse"  # the port is closed, and open connections end
HANG = "hang"  # connects, and answers nothing
DELAY = "delay"  # each piece of an answer comes late, by a time of its own
TRICKLE = "trickle"  # answers come in small pieces
CUT = "cut"  # the connection ends in the middle of the answer
RESET = "reset"  # the connection is reset in the middle of the answer, and each new one at once
# What happens to the one connection that first comes to the moment.
HOLD = "hold"  # what it sends waits for the end of the fault
LOSE = "lose"  # it ends in place of the answer
# What happens to each piece that a client sends at such a moment.
STOP = "stop"  # its connection ends in its place
SPOIL = "spoil"  # zeros come instead
REPLY = "reply"  # the proxy answers, not the server

MOST_DELAY_SECONDS = 0.1
PIECE_BYTES, PAUSE_SECONDS = 1000, 0.005  # of a trickle
PATIENCE_SECONDS = 120
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


def saying(words: bytes) -> Moment:
    """Return the moment at which a client sends these words."""
    return lambda before, now: words in before[-len(words) :] + now


class FaultProxy:
    """One port in front of a server's; `begin` and `end` may be called from any thread."""

    def __init__(self, port: int) -> None:
        self.met = 0  # how often the fault was felt
        self._to = ("127.0.0.1", port)
        self._fault: str | None = None
        self._at: Moment | None = None  # not yet come
        self._left = 0  # bytes of answers until it begins
        self._reply = b""
        self._alone: socket.socket | None = None  # the client that HOLD or LOSE is about
        self._clients: set[socket.socket] = set()
        self._closed = False
        self._changed = threading.Condition()
        self._random = random.Random(1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        # Of a port that was named, so that it keeps it while it is shut.
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, fault: str, at: Moment | None = None, after_bytes: int = 0, reply: bytes = b"") -> None:
        """Start a fault: at once or at the moment, and after this number of bytes of answers.

        :param reply: the answer of REPLY
        """
        with self._changed:
            self._fault, self._at, self._left, self._reply = fault, at, after_bytes, reply
            self._alone, self.met = None, 0
            if self._has_started(REFUSE):
                self._refuse()

    def end(self) -> None:
        """Forward everything again; connections that hang continue."""
        with self._changed:
            if self._refuses():
                self._door.listen()
            self._fault = None
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until the fault is felt."""
        with self._changed:
            felt = self._changed.wait_for(lambda: self.met, PATIENCE_SECONDS)
        assert felt, f"waited {PATIENCE_SECONDS} s for the moment in vain"

    @contextmanager
    def held(self, at: Moment) -> Iterator[Callable[[], None]]:
        """Hold the first connection that comes to the moment until the block's end; yield what waits for it."""
        self.begin(HOLD, at)
        try:
            yield self.wait
        finally:
            self.end()

    @contextmanager
    def losing_the_answer(self, at: Moment) -> Iterator[None]:
        """Pass on what comes at the moment and wait until the server has answered, but break the connection off instead."""
        self.begin(LOSE, at)
        yield
        assert self.met, "the moment never came"

    def close(self) -> None:
        """End it with all its connections: what was held never arrives."""
        with self._changed:
            self._closed, self._fault = True, None
            self._hang_up()
            with suppress(OSError):
                self._door.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._door.accept()
            except OSError:  # the door is shut
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or not self._refuses())
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()
        self._door.close()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._to) as server:
            self._clients.add(client)
            try:
                if self._has_started(RESET):
                    self._break_off(client, RESET)
                self._pass_on(client, server)
            finally:
                self._clients.discard(client)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        before = b""
        while True:
            ready, _, _ = select.select([client, server], [], [])
            for one in ready:
                data = one.recv(8192)
                if not data:
                    return
                if one is client:
                    server.sendall(self._said(client, before, data))
                    before += data
                else:
                    self._answer(client, data)

    def _said(self, client: socket.socket, before: bytes, now: bytes) -> bytes:
        """Return what the server gets instead of what the client sends."""
        with self._changed:
            if not (self._fault and self._at and self._at(before, now)):
                return now
            fault = self._fault
            if fault not in (STOP, SPOIL, REPLY):
                self._at = None
            if fault in (HOLD, LOSE):
                self._alone = client
        if fault == HOLD:
            self._meet()
            self._wait_for_end(HOLD)
        elif fault == REPLY:
            client.sendall(self._reply)
            self._break_off(client, fault)
        elif fault == STOP:
            self._break_off(client, fault)
        elif fault == SPOIL:
            self._meet()
            return bytes(len(now))
        return now

    def _answer(self, client: socket.socket, data: bytes) -> None:
        """Send an answer on, as the fault lets it."""
        with self._changed:
            fault = self._fault
            well = len(data)
            if fault and not self._at and (self._alone is None or (fault == LOSE and self._alone is client)):
                well, self._left = min(well, self._left), max(self._left - well, 0)
        client.sendall(data[:well])
        rest = data[well:]
        if not rest:
            return
        if fault in (REFUSE, CUT, RESET, LOSE):
            self._break_off(client, fault)
        self._meet()
        if fault == HANG:
            self._wait_for_end(HANG)
        if fault == DELAY:
            time.sleep(self._random.uniform(0, MOST_DELAY_SECONDS))
        if fault != TRICKLE:
            client.sendall(rest)
            return
        for start in range(0, len(rest), PIECE_BYTES):
            client.sendall(rest[start : start + PIECE_BYTES])
            time.sleep(PAUSE_SECONDS)

    def _has_started(self, fault: str) -> bool:
        return self._fault == fault and not self._at and self._left == 0

    def _refuses(self) -> bool:
        return self._has_started(REFUSE) and self.met > 0

    def _meet(self) -> None:
        with self._changed:
            self.met += 1
            self._changed.notify_all()

    def _wait_for_end(self, fault: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._fault != fault)
            if self._closed:
                raise ConnectionAbortedError

    def _break_off(self, client: socket.socket, fault: str) -> None:
        """End a client's connection, as the fault does."""
        with self._changed:
            if fault == REFUSE:
                self._refuse()
            else:
                self._meet()
            if fault == LOSE:
                self._fault = None
        if fault == RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        raise ConnectionAbortedError

    def _refuse(self) -> None:
        self._meet()
        self._left = 0
        with suppress(OSError):  # it is shut already
            self._door.shutdown(socket.SHUT_RDWR)
        self._hang_up()

    def _hang_up(self) -> None:
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Iterator[FaultProxy]:
    made = FaultProxy(port)
    try:
        yield made
    finally:
        made.close()
