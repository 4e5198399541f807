"""A gRPC server of Heron's two services that a test makes do what no Heron server does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

RPCS = {
    "FederationService": ("Join", "Leave", "WatchRounds", "FetchModel", "FetchGraphs", "SubmitUpdate"),
    "SplitService": ("PushActivations",),
}
Act = Callable[[Any, grpc.ServicerContext], Iterator[bytes]]
"""What an RPC does: gets its messages as bytes, and yields the answers."""


class OddServer:
    """Each RPC does what `acts` says, else it answers nothing until the end of the test."""

    def __init__(self, acts: dict[str, Act]) -> None:
        self._acts = acts
        self._called = {rpc: threading.Event() for rpcs in RPCS.values() for rpc in rpcs}
        self._over = threading.Event()

    def reached(self, rpc: str) -> None:
        """Waits until somebody has called the RPC."""
        assert self._called[rpc].wait(10.0), f"nobody called {rpc}"

    def close(self) -> None:
        self._over.set()

    def handler(self, rpc: str) -> Any:
        def act(requests: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._called[rpc].set()
            if rpc in self._acts:
                yield from self._acts[rpc](requests, context)
            else:
                context.add_callback(self._over.set)
                self._over.wait(60.0)

        return grpc.stream_stream_rpc_method_handler(act)


@contextmanager
def odd_server(at: str = "127.0.0.1:0", **acts: Act) -> Iterator[tuple[OddServer, str]]:
    """The server and its address."""
    odd = OddServer(acts)
    server = grpc.server(ThreadPoolExecutor(8))
    for service, rpcs in RPCS.items():
        handlers = {rpc: odd.handler(rpc) for rpc in rpcs}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"heron.v1.{service}", handlers),))
    port = server.add_insecure_port(at)
    server.start()
    try:
        yield odd, f"{at.removesuffix('0')}{port}" if at.endswith(":0") else at
    finally:
        odd.close()
        server.stop(0).wait(10.0)
