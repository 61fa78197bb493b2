"""A way to a store that cuts, stalls or spoils a put, or answers for the store."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

AS_IT_IS, CUT, STALL, SPOIL, ANSWER = "as it is", "cut", "stall", "spoil", "answer"
BIG = 20_000  # bytes of one connection's requests: by then, a package is on its way and nothing else is


class Proxy:
    """Passes everything on to a store of this machine, until `mode` says otherwise."""

    def __init__(self, port: int) -> None:
        self.mode = AS_IT_IS
        self.answer = b""
        self.seen = b""  # of what clients sent
        self.stalled = threading.Event()
        self._store = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._store)) as store:
            threading.Thread(target=_pump, args=(store, client), daemon=True).start()
            with suppress(OSError):
                self._send(client, store)
            for one in (store, client):  # closing alone would not end what the other thread waits for
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _send(self, client: socket.socket, store: socket.socket) -> None:
        sent = 0
        while data := client.recv(8192):
            sent += len(data)
            self.seen += data
            if self.mode == ANSWER:
                client.sendall(self.answer)
                return
            if self.mode == CUT and sent > BIG:
                return
            if self.mode == STALL and sent > BIG:
                self.stalled.set()
                while client.recv(8192):
                    pass
                return
            store.sendall(bytes(len(data)) if self.mode == SPOIL and sent > BIG else data)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(8192):
            target.sendall(data)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()
