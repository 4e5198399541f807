"""What gRPC does in threads of its own is owned here: whoever waits for a call hears of anything that failed in one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Generic, Protocol, TypeVar

import grpc

from heron_client.transport.received import sound
from heron_core.errors import REASON_KEY, BadReply, HeronError, Unreachable, from_reason

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
POLL_S = 0.25
"""How soon a wait notices that it shall end."""


class Stream(Protocol[M_co]):
    """The messages of a call that can be cancelled."""

    def __next__(self) -> M_co: ...

    def __iter__(self) -> Iterator[M_co]: ...

    def cancel(self) -> bool:
        """Ends the call; False if it has ended already."""
        ...


class StreamEnded(Unreachable):
    """The server ended the stream in good order."""


def translate(error: grpc.RpcError | grpc.Future[M], address: str) -> HeronError:
    """The HeronError that the server meant, or Unreachable."""
    if not isinstance(error, grpc.Call):
        return Unreachable(f"the connection to {address} broke")
    for key, value in error.trailing_metadata() or ():
        if key == REASON_KEY:
            return from_reason(str(value), str(error.details()))
    code, details = error.code(), error.details()
    said = f"{code.name}: {details}"
    return Unreachable(f"no Heron server answers at {address} ({said}); check the address, and that it runs")


class Outgoing(Generic[M_co]):
    """The messages of a call, which gRPC takes in a thread; what fails there is kept."""

    def __init__(self, messages: Iterator[M_co]) -> None:
        self._messages = messages
        self.failure: Exception | None = None
        self.moved_at = monotonic()
        """When the newest message was taken, in seconds of the monotonic clock."""
        self.over = threading.Event()
        """The call has ended: no more messages are taken."""

    def __iter__(self) -> Iterator[M_co]:
        return self

    def __next__(self) -> M_co:
        """The next message; an error ends the call, and is `failure`."""
        try:
            message = next(self._messages)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        self.moved_at = monotonic()
        return message


class Reader(Generic[M]):
    """A thread that reads the messages of one call, and keeps what ended it."""

    def __init__(
        self, name: str, address: str, call: Stream[M | BadReply], sends: Outgoing[object] | None = None, most: int = 0
    ) -> None:
        """`sends`: what the call sends. `most`: messages that may wait here while no more are read; 0: any number."""
        self._address, self._call, self._sends = address, call, sends
        self._messages: queue.Queue[M | None] = queue.Queue(most)
        self._stopped = False
        self.end: Exception | None = None
        """What ended the call: a HeronError, or a bug on our own side."""
        threading.Thread(target=self._read, name=name, daemon=True).start()

    def next(self, timeout_s: float) -> M | None:
        """The next message, or None if none came in time. After the last it raises what ended the call, each time."""
        try:
            message = self._messages.get(timeout=timeout_s) if timeout_s > 0 else self._messages.get_nowait()
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)  # for who asks again
            assert self.end is not None, "the end is known before it is told"
            raise self.end
        return message

    def stop(self) -> None:
        """Ends the call; nothing more is read."""
        self._stopped = True
        self._call.cancel()
        self._end_sending()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._keep(sound(message))
            self.end = StreamEnded(f"the server at {self._address} ended the stream")
        except grpc.RpcError as error:
            self.end = (self._sends and self._sends.failure) or translate(error, self._address)
        except Exception as error:  # of whatever kind: who waits must hear of it
            self.end = error
            self._call.cancel()
        self._end_sending()
        self._keep(None)

    def _end_sending(self) -> None:
        if self._sends is not None:
            self._sends.over.set()

    def _keep(self, message: M | None) -> None:
        while not self._stopped:
            try:
                self._messages.put(message, timeout=POLL_S)
                break
            except queue.Full:
                continue
