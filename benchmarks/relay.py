"""A TCP relay that counts every byte between clients and a server, both ways."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """In front of `target` (host:port); clients connect to `address`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up = self.down = self.connections = 0
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        """Takes no more connections, and waits for those there are to end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(self._target)
                self._sockets.append(server)
                self.connections += 1
                self._start(self._copy, client, server, "up")
                self._start(self._copy, server, client, "down")

    def _copy(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        """Only this thread of a connection counts its direction; both threads share the sockets."""
        try:
            while data := source.recv(1 << 18):
                target.sendall(data)
                with _COUNTING:
                    setattr(self, direction, getattr(self, direction) + len(data))
        except OSError:
            pass
        for sock in (source, target):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


_COUNTING = threading.Lock()
