"""The way from the job to one server, on which a test holds what the job sends, or loses the answer to it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE_SECONDS = 120
# Whether this is the moment, by what a connection has sent so far, and what it sends now.
Moment = Callable[[bytes, bytes], bool]


class Wire:
    """Passes everything on, but for what a connection sends at one moment.

    :param port: of the server, on 127.0.0.1
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._moment: Moment | None = None
        self._lose_answer = False
        self._lock = threading.Lock()
        self._reached, self._go_on = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def held(self, moment: Moment) -> Iterator[Callable[[], None]]:
        """Hold the first connection that comes to the moment until the block's end; yield what waits for it."""
        self._reached.clear()
        self._go_on.clear()
        self._moment, self._lose_answer = moment, False
        try:
            yield self._wait
        finally:
            self._moment = None
            self._go_on.set()

    @contextmanager
    def losing_the_answer(self, moment: Moment) -> Iterator[None]:
        """Pass on what comes at the moment and wait until the server has answered, but break the connection off instead."""
        self._reached.clear()
        self._go_on.set()
        self._moment, self._lose_answer = moment, True
        yield
        assert self._reached.is_set(), "the moment never came"

    def close(self) -> None:
        self._listener.close()

    def _wait(self) -> None:
        assert self._reached.wait(PATIENCE_SECONDS), f"waited {PATIENCE_SECONDS} s for the moment in vain"

    def _is_now(self, before: bytes, now: bytes) -> bool:
        with self._lock:
            if self._moment is None or not self._moment(before, now):
                return False
            self._moment = None
            self._reached.set()
        self._go_on.wait(PATIENCE_SECONDS)
        return self._lose_answer

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._server_port)) as server:
            lost = threading.Event()
            back = threading.Thread(target=self._answer, args=(server, client, lost), daemon=True)
            back.start()
            before = b""
            with suppress(OSError):
                while now := client.recv(8192):
                    if self._is_now(before, now):
                        lost.set()
                    server.sendall(now)
                    before += now
            _end(server)
            back.join(PATIENCE_SECONDS)

    @staticmethod
    def _answer(server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(8192)) and not lost.is_set():
                client.sendall(data)
        _end(client)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # closing alone would not end what another thread waits for
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    made = Wire(port)
    try:
        yield made
    finally:
        made.close()
