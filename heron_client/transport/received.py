"""What comes from the server is checked as what comes from any peer, and its errors say whose fault they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from google.protobuf.message import DecodeError

from heron_core.errors import BadReply, ServerTensorError, TensorError

R = TypeVar("R")
ADVICE = "look at the server's log: its model has diverged or was damaged"
"""For check_finite."""


@contextmanager
def from_server() -> Iterator[None]:
    """Around the checks of what the server sent: a TensorError inside becomes a ServerTensorError."""
    try:
        yield
    except TensorError as error:
        raise ServerTensorError(str(error)) from None


def reading(read: Callable[[bytes], R]) -> Callable[[bytes], R | BadReply]:
    """As `read`, but gives an error for bytes that are no message: raised within gRPC, it would pass as gRPC's own."""

    def reading(data: bytes) -> R | BadReply:
        try:
            return read(data)
        except (DecodeError, TensorError):
            return BadReply(f"expected a protobuf message from the server, got {len(data)} bytes that are none")

    return reading


def sound(message: R | BadReply) -> R:
    """The message; raises the error that was read in its place."""
    if isinstance(message, BadReply):
        raise message
    return message
