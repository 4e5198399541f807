"""A TCP relay that counts every byte between clients and a server, both ways, and that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """In front of `target` (host:port); clients connect to `address`. Without a target they are turned away."""

    def __init__(self, target: str | None = None) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up = self.down = self.connections = 0
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._start(self._accept)

    def lead_to(self, target: str) -> None:
        """Connections from now on go there."""
        self._target = target

    def cut(self) -> None:
        """Breaks every connection, and turns clients away until `lead_to`."""
        self._target = None
        with self._lock:
            broken = list(self._sockets)
        for sock in broken:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        """Takes no more connections, and waits for those there are to end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        """One connection, until either side ends it."""
        target = self._target
        with client, suppress(OSError):
            if target is None:
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                ends = {client, server}
                for end in ends:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self.connections += 1
                    self._sockets |= ends
                if self._target is None:  # cut meanwhile
                    return
                down = threading.Thread(target=self._copy, args=(server, client, "down"), daemon=True)
                down.start()
                self._copy(client, server, "up")
                down.join()
                with self._lock:
                    self._sockets -= ends

    def _copy(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        """Both threads of a connection share its sockets; the one that ends first ends both."""
        try:
            while data := source.recv(1 << 18):
                target.sendall(data)
                with self._lock:
                    setattr(self, direction, getattr(self, direction) + len(data))
        except OSError:
            pass
        for sock in (source, target):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
