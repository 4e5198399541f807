"""What a client that means harm, or is merely slow, puts in front of its transport."""

from __future__ import annotations

from collections.abc import Mapping
from time import sleep
from typing import Any

import numpy as np

from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.interface import PushStream
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.frames import Bulk

SLOW_S = 0.15
"""Longer than a heartbeat."""


class Spoiling:
    """A transport that puts a NaN into the first update, or the first upload, that is sent."""

    def __init__(self, inner: GrpcTransport, spoil: list[str]) -> None:
        self._inner, self._spoil = inner, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Any]) -> pb.SubmitUpdateReply:
        if "an update" in self._spoil:
            self._spoil.clear()
            arrays = {name: array.copy() for name, array in arrays.items()}
            next(iter(arrays.values())).flat[0] = np.nan
        return self._inner.submit(header, arrays)

    def open_push(self, opening: split.FrameHeader) -> Any:
        return SpoilingPush(self._inner.open_push(opening), self._spoil)


class SpoilingPush:
    def __init__(self, inner: PushStream, spoil: list[str]) -> None:
        self._inner, self._spoil = inner, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        if "an upload" in self._spoil:
            self._spoil.clear()
            frame = Bulk(frame.rest, [b"\xff" * len(part) for part in frame.parts])
        self._inner.send(frame)


class Troublesome(Spoiling):
    """A transport that sends each update twice, and takes its time over every frame and over the last word."""

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Any]) -> pb.SubmitUpdateReply:
        self._inner.submit(header, arrays)
        return self._inner.submit(header, arrays)

    def open_push(self, opening: split.FrameHeader) -> Any:
        return SlowPush(self._inner.open_push(opening), self._spoil)

    def leave(self, request: pb.LeaveRequest) -> None:
        sleep(SLOW_S)
        self._inner.leave(request)


class SlowPush(SpoilingPush):
    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        sleep(SLOW_S)
        super().send(frame)
