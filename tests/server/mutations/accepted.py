"""What a server has accepted, call by call, and a fresh run that is fed this alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from server.driven import QueuedWorker

from heron_core.errors import HeronError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.frames import deserializer, serialize
from heron_server.rounds.phase import Phase
from heron_server.run.coordinator import Coordinator, Pushing
from heron_server.run.peer import Peer
from heron_server.training.worker import Worker

Event = list[Any]
"""[seconds of the server's clock, what happened, ...]; texts, numbers, and bytes as hexadecimal."""
read_frame = deserializer(split.ActivationFrame)


class Recording(Coordinator):
    """Says what it accepts to `sink`: what raises is not accepted. Also who loses a round, and when a command of the
    worker has come to its end; with these, all that the training depends on is in the order in which it happened."""

    sink: Callable[[Event], None]

    def __init__(self, *args: Any, **named: Any) -> None:
        self._open: list[Event] = []
        self._depth = 0
        self._streams: dict[int, int] = {}
        self._opened = 0
        *before, worker = args[:5]
        super().__init__(*before, _Told(worker, self), *args[5:], **named)

    def join(self, peer: Peer, request: pb.JoinRequest) -> pb.JoinReply:
        if request.dry_run:
            return super().join(peer, request)
        with self._noted("join", peer.identity, request.SerializeToString().hex()) as event:
            reply = super().join(peer, request)
            event.append(reply.session_id)
        return reply

    def watch(self, peer: Peer, session_id: str, *rest: Any) -> None:
        with self._noted("watch", peer.identity, session_id):
            super().watch(peer, session_id, *rest)

    def watch_lost(self, session_id: str, *rest: Any) -> None:
        with self._noted("watch_lost", session_id):
            super().watch_lost(session_id, *rest)

    def leave(self, peer: Peer, request: pb.LeaveRequest) -> pb.LeaveReply:
        with self._noted("leave", peer.identity, request.SerializeToString().hex()):
            return super().leave(peer, request)

    def submit(self, peer: Peer, header: pb.UpdateHeader, state: dict[str, Any]) -> None:
        tensors = {name: [array.dtype.name, list(array.shape), array.tobytes().hex()] for name, array in state.items()}
        with self._noted("update", peer.identity, header.SerializeToString().hex(), tensors):
            super().submit(peer, header, state)

    def open_push(self, peer: Peer, opening: split.FrameHeader, send: Any) -> Pushing:
        self._opened += 1
        with self._noted("open", peer.identity, opening.SerializeToString().hex(), self._opened):
            pushing = super().open_push(peer, opening, send)
        self._streams[id(pushing)] = self._opened
        return pushing

    def frame(self, pushing: Pushing, bulk: Any) -> None:
        with self._noted("frame", self._streams[id(pushing)], serialize(bulk).hex()):
            super().frame(pushing, bulk)

    def push_closed(self, pushing: Pushing) -> None:
        with self._noted("closed", self._streams.pop(id(pushing))):
            super().push_closed(pushing)

    def client_failed(self, name: str, reason: str) -> None:
        with self._noted("failed", name, reason):
            super().client_failed(name, reason)

    def tick(self) -> None:
        if self._rounds.phase is Phase.GATHERING:
            with self._noted("tick"):
                super().tick()
        else:
            super().tick()

    def note(self, what: str) -> None:
        """Something of no length."""
        with self._noted(what):
            pass

    @contextmanager
    def _noted(self, *what: Any) -> Iterator[Event]:
        """The event stands before those that it leads to; what is refused is taken out again."""
        event: Event = [self.clock(), *what]
        self._open.append(event)
        self._depth += 1
        try:
            yield event
        except HeronError:
            self._open = [each for each in self._open if each is not event]
            raise
        finally:
            self._depth -= 1
            if not self._depth:
                for each in self._open:
                    self.sink(each)
                self._open = []


class _Told:
    """A worker whose outcomes are noted."""

    def __init__(self, inner: Worker, recording: Recording) -> None:
        self._inner, self._recording = inner, recording

    def submit(self, command: Any, done: Any, failed: Any) -> None:
        def noted(outcome: Callable[[Any], None], result: Any) -> None:
            self._recording.note("worked")
            outcome(result)

        self._inner.submit(command, lambda result: noted(done, result), lambda error: noted(failed, error))


class Replay:
    """A fresh run that is fed what another has accepted. `make` opens it on the worker and clock that it is given."""

    def __init__(self, run_id: str, make: Callable[[Worker, Callable[[], float]], Coordinator]) -> None:
        self._worker, self._now = QueuedWorker(), 0.0
        with named(run_id.rpartition("-")[2]):
            self.coordinator = make(self._worker, lambda: self._now)
        self.upload_bytes = self.update_bytes = 0
        """Of the tensors in the frames and in the updates that were accepted."""
        self._streams: dict[int, Pushing] = {}

    def feed(self, events: Iterable[Event]) -> None:
        """Everything, in order. An event that is refused raises: it was accepted before."""
        for now, what, *rest in events:
            self._now = now
            getattr(self, f"_{what}")(*rest)

    def _join(self, identity: str, request: str, session_id: str) -> None:
        with named(session_id):
            self.coordinator.join(Peer("", identity), pb.JoinRequest.FromString(bytes.fromhex(request)))

    def _watch(self, identity: str, session_id: str) -> None:
        self.coordinator.watch(Peer("", identity), session_id, lambda _: None, lambda _: None)

    def _watch_lost(self, session_id: str) -> None:
        self.coordinator.watch_lost(session_id)

    def _leave(self, identity: str, request: str) -> None:
        self.coordinator.leave(Peer("", identity), pb.LeaveRequest.FromString(bytes.fromhex(request)))

    def _update(self, identity: str, header: str, tensors: dict[str, Any]) -> None:
        state = {
            name: np.frombuffer(bytes.fromhex(data), dtype).reshape(shape).copy()
            for name, (dtype, shape, data) in tensors.items()
        }
        self.update_bytes += sum(array.nbytes for array in state.values())
        self.coordinator.submit(Peer("", identity), pb.UpdateHeader.FromString(bytes.fromhex(header)), state)

    def _open(self, identity: str, opening: str, number: int) -> None:
        header = split.FrameHeader.FromString(bytes.fromhex(opening))
        self._streams[number] = self.coordinator.open_push(Peer("", identity), header, lambda _: None)

    def _frame(self, number: int, data: str) -> None:
        bulk = read_frame(bytes.fromhex(data))
        self.upload_bytes += bulk.payload_bytes
        self.coordinator.frame(self._streams[number], bulk)

    def _closed(self, number: int) -> None:
        self.coordinator.push_closed(self._streams.pop(number))

    def _failed(self, name: str, reason: str) -> None:
        self.coordinator.client_failed(name, reason)

    def _tick(self) -> None:
        self.coordinator.tick()

    def _worked(self) -> None:
        self._worker.run(1)


def named(name: str) -> Any:
    """What the server draws a name for has this one, as in the run that it replays."""
    return patch("uuid.uuid4", lambda: SimpleNamespace(hex=name))
