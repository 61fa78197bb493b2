"""A way to a server of this machine that passes everything on, until a fault begins: at once, or in the middle of an answer."""

import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

REFUSE = "refuse"  # nobody listens, and who was connected no longer is
HANG = "hang"  # connects, and answers nothing
DELAY = "delay"  # each piece of an answer comes late, by a time of its own
TRICKLE = "trickle"  # answers come in small pieces
CUT = "cut"  # the connection ends in the middle of the answer
RESET = "reset"  # the connection is reset in the middle of the answer, and each new one at once

MOST_DELAY_SECONDS = 0.1
PIECE_BYTES, PAUSE_SECONDS = 1000, 0.005  # of a trickle
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


class FaultyWay:
    """One port in front of a server's; `begin` and `end` may be called from any thread."""

    def __init__(self, port: int) -> None:
        self.met = 0  # how often the fault was felt
        self._to = ("127.0.0.1", port)
        self._fault: str | None = None
        self._at = b""  # not yet heard: the fault waits for it
        self._left = 0  # bytes of answers until it begins
        self._clients: set[socket.socket] = set()
        self._closed = False
        self._changed = threading.Condition()
        self._random = random.Random(1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        # Of a port that was named, so that it keeps it while it is shut.
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, fault: str, at: bytes = b"", after_bytes: int = 0) -> None:
        """Begin a fault: once a client has said `at`, and so many bytes of answers went through since."""
        with self._changed:
            self._fault, self._at, self._left, self.met = fault, at, after_bytes, 0
            if fault == REFUSE and not at and not after_bytes:
                self._refuse()

    def end(self) -> None:
        """Pass everything on again; a connection that hung goes on."""
        with self._changed:
            if self._refuses():
                self._door.listen()
            self._fault = None
            self._changed.notify_all()

    def close(self) -> None:
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
                if self._begun(RESET):
                    self._meet()
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                    return
                self._pass_on(client, server)
            finally:
                self._clients.discard(client)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        heard = b""
        while True:
            ready, _, _ = select.select([client, server], [], [])
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                if one is client:
                    heard = heard[-len(self._at) :] + data
                    if self._at and self._at in heard:
                        self._at = b""
                    server.sendall(data)
                elif not self._answer(client, data):
                    return

    def _answer(self, client: socket.socket, data: bytes) -> bool:
        """Send an answer on, as the fault lets it; tell whether the connection goes on."""
        with self._changed:
            well = len(data)
            if self._fault and not self._at:
                well, self._left = min(well, self._left), max(self._left - well, 0)
            fault = self._fault
        client.sendall(data[:well])
        rest = data[well:]
        if not rest:
            return True
        self._meet()
        if fault == REFUSE:
            with self._changed:
                self._refuse()
            return False
        if fault == RESET:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        if fault in (CUT, RESET):
            return False
        if fault == HANG:
            with self._changed:
                self._changed.wait_for(lambda: self._fault != HANG)
        pieces = [rest]
        if fault == DELAY:
            time.sleep(self._random.uniform(0, MOST_DELAY_SECONDS))
        elif fault == TRICKLE:
            pieces = [rest[start : start + PIECE_BYTES] for start in range(0, len(rest), PIECE_BYTES)]
        for piece in pieces:
            client.sendall(piece)
            if fault == TRICKLE:
                time.sleep(PAUSE_SECONDS)
        return True

    def _begun(self, fault: str) -> bool:
        return self._fault == fault and not self._at and self._left == 0

    def _refuses(self) -> bool:
        return self._begun(REFUSE) and self.met > 0

    def _meet(self) -> None:
        with self._changed:
            self.met += 1

    def _refuse(self) -> None:
        self.met += 1
        self._left = 0
        with suppress(OSError):  # it is shut already
            self._door.shutdown(socket.SHUT_RDWR)
        self._hang_up()

    def _hang_up(self) -> None:
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@contextmanager
def way_to(port: int) -> Iterator[FaultyWay]:
    made = FaultyWay(port)
    try:
        yield made
    finally:
        made.close()
