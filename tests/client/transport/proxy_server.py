"""An HTTP proxy that leads every CONNECT to one server."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def proxy_to(server: str) -> Iterator[str]:
    """The proxy's host:port."""
    host, _, port = server.rpartition(":")

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while not self.request.recv(65536).endswith(b"\r\n\r\n"):
                pass
            with socket.create_connection((host, int(port))) as there:
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=relay, args=(there, self.request), daemon=True)
                back.start()
                relay(self.request, there)
                back.join(10.0)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()


def relay(source: socket.socket, sink: socket.socket) -> None:
    """Until the source has ended; then the sink hears its end too."""
    with suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
