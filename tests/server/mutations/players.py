"""Clients made of messages as bytes: honest ones, and what they sent, from which mutations are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from links import CHECK, FETCH, GRAPHS, JOIN, KINDS, LEAVE, PUSH, SUBMIT, WATCH, Answer, Link, Stream

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import as_bytes, manifest_of


@dataclass(frozen=True)
class Shape:
    """Of the run's uploads."""

    rows: int
    width: int
    classes: int
    steps: int = 2
    """Uploads a round: so few that nobody waits for another's."""


@dataclass
class Samples:
    """Sound messages of each RPC, call by call, as honest clients sent them."""

    calls: dict[str, list[list[bytes]]] = field(default_factory=dict)
    most: int = 12

    def keep(self, rpc: str, messages: Sequence[bytes], session_id: str) -> None:
        """For mutations, if there are not enough of this RPC yet; nobody learns from them the session that it was."""
        kept = self.calls.setdefault(rpc, [])
        if len(kept) < self.most:
            kept.append([message.replace(session_id.encode(), b"0" * len(session_id)) for message in messages])

    @property
    def complete(self) -> bool:
        """Are there some of every RPC?"""
        return self.calls.keys() >= set(KINDS)


@dataclass
class Place:
    """What a client knows of the run."""

    run_id: str = ""
    session_id: str = ""
    term: int = 1
    round: int = 1
    version: int = 0


class Player:
    """One client that does what the protocol says; its tensors follow from its name, round and step."""

    def __init__(self, link: Link, name: str, shape: Shape, samples: Samples | None = None) -> None:
        self.link, self.name, self._shape, self._samples = link, name, shape, samples or Samples()
        self.place = Place()
        self.key = name.encode().ljust(16)[:16]
        self._watch: Stream | None = None
        self._push: Stream | None = None
        self._frames: list[bytes] = []
        self._credit = 0
        self.steps = shape.steps

    async def join(self) -> Answer:
        """A session, and its event stream; the one before is another's no more. Samples hold another key."""
        request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=self.name, instance_key=self.key)
        answer = await self.link.call(JOIN, [request.SerializeToString()], "")
        if answer.code == "OK":
            reply = pb.JoinReply.FromString(answer.replies[0])
            self.place.run_id, self.place.session_id = reply.run_id, reply.session_id
            request.instance_key = self.key[::-1]
            self._keep(JOIN, [request.SerializeToString()])
            self._keep(CHECK, [b""])
            self._keep(GRAPHS, [pb.FetchGraphsRequest(client_name=self.name, graphs="0" * 64).SerializeToString()])
            self._keep(LEAVE, [pb.LeaveRequest(session_id=reply.session_id, reason="enough").SerializeToString()])
        return answer

    async def watch(self) -> None:
        """Opens the event stream."""
        if self._watch is not None:
            await self._watch.end()
        self._watch = self.link.open(WATCH, self.place.session_id)
        beat = pb.Beat(session_id=self.place.session_id).SerializeToString()
        await self._watch.send(beat)
        later = pb.Beat(session_id=self.place.session_id, round=1, term=1, step=1).SerializeToString()
        self._keep(WATCH, [beat, later])

    async def event(self, *wanted: str) -> pb.RoundEvent:
        """Waits for one of these events, and learns what round it is."""
        assert self._watch is not None
        while (data := await self._watch.read()) is not None:
            event = pb.RoundEvent.FromString(data)
            kind = event.WhichOneof("event")
            if kind == "round_begins":
                told = event.round_begins
                self.place.term, self.place.round, self.place.version = told.term, told.round, told.version
            if kind in wanted:
                return event
        raise ConnectionError(f"{self.name}: the event stream ended: {await self._watch.end()}")

    async def fetch(self) -> dict[str, Array]:
        """The round's client state."""
        request = pb.FetchModelRequest(session_id=self.place.session_id, version=self.place.version)
        answer = await self.link.call(FETCH, [request.SerializeToString()], self.place.session_id)
        _good(answer, self.name)
        self._keep(FETCH, [request.SerializeToString()])
        chunks = [pb.StateChunk.FromString(data) for data in answer.replies]
        flat = np.frombuffer(b"".join(chunk.payload for chunk in chunks), np.float32)
        state, at = {}, 0
        for meta in chunks[0].manifest.tensors:
            size = int(np.prod(meta.shape))
            state[meta.name], at = flat[at : at + size].reshape(meta.shape), at + size
        return state

    # -- uploads -------------------------------------------------------------------------------------------------

    async def open(self) -> int:
        """Opens the stream of uploads; returns how many of them are there already."""
        self._push = self.link.open(PUSH, self.place.session_id)
        header = split.FrameHeader(**self._ids(), purpose=split.PURPOSE_TRAIN, steps=self._shape.steps)
        self._frames = [split.ActivationFrame(header=header).SerializeToString()]
        await self._push.send(self._frames[0])
        event = split.PushEvent.FromString(await self._push.read() or b"")
        self._credit = event.position.credit_steps
        return event.position.sequence

    async def upload(self, step: int) -> None:
        """One upload, once there is room for it."""
        assert self._push is not None
        while self._credit <= step:
            event = split.PushEvent.FromString(await self._push.read() or b"")
            self._credit = max(self._credit, event.credit.steps)
        self._frames.append(self.frame(step))
        await self._push.send(self._frames[-1])

    def frame(self, step: int) -> bytes:
        """The whole upload in one message."""
        shape, drawn = self._shape, np.random.Generator(np.random.Philox([_number(self.name), self.place.round, step]))
        tensors: dict[str, Array] = {
            "activations": drawn.standard_normal((shape.rows, shape.width), dtype=np.float32),
            "labels": drawn.integers(0, shape.classes, shape.rows),
        }
        header = split.FrameHeader(
            term=self.place.term, round=self.place.round, purpose=split.PURPOSE_TRAIN, step=step, sequence=step,
            batch_rows=shape.rows, manifest=manifest_of(tensors),
        )  # fmt: skip
        payload = b"".join(as_bytes(array) for array in tensors.values())
        return split.ActivationFrame(header=header, payload=payload).SerializeToString()

    async def submit(self) -> None:
        """Closes the stream of uploads, and sends the update: the fetched state, moved by a bit."""
        if self._push is not None:
            _good(await self._push.end(), self.name)
            self._keep(PUSH, self._frames)
            self._push = None
        moved = {name: array + np.float32(0.01 * (_number(self.name) % 7)) for name, array in self.fetched.items()}
        messages = self.update(moved)
        _good(await self.link.call(SUBMIT, messages, self.place.session_id), self.name)
        self._keep(SUBMIT, messages)

    def update(self, state: dict[str, Array]) -> list[bytes]:
        """In two chunks."""
        figures = pb.ClientFigures(
            mean_loss=1.0, first_loss=1.0, last_loss=1.0, forward_passes=4, step_seconds_median=0.01,
            peak_bytes=1 << 20, class_histogram=[1] * self._shape.classes,
        )  # fmt: skip
        header = pb.UpdateHeader(**self._ids(), num_samples=10, figures=figures)
        payload = b"".join(as_bytes(array) for array in state.values())
        half = len(payload) // 2
        return [
            pb.UpdateChunk(header=header, manifest=manifest_of(state), payload=payload[:half]).SerializeToString(),
            pb.UpdateChunk(offset=half, payload=payload[half:]).SerializeToString(),
        ]

    async def leave(self) -> Answer:
        """The session's end."""
        request = pb.LeaveRequest(session_id=self.place.session_id, reason="enough")
        return await self.link.call(LEAVE, [request.SerializeToString()], self.place.session_id)

    async def begin(self) -> None:
        """Waits for the next round, fetches its state and opens its stream of uploads."""
        await self.event("round_begins")
        self.fetched = await self.fetch()
        await self.open()

    async def finish(self) -> None:
        """What is left of the round."""
        self.fetched = await self.fetch()
        for step in range(await self.open(), self._shape.steps):
            await self.upload(step)
        await self.submit()

    async def end(self) -> None:
        """Closes the event stream."""
        if self._watch is not None:
            await self._watch.end()

    def _keep(self, rpc: str, messages: Sequence[bytes]) -> None:
        self._samples.keep(rpc, messages, self.place.session_id)

    def _ids(self) -> dict[str, str | int]:
        place = self.place
        return {"run_id": place.run_id, "session_id": place.session_id, "term": place.term, "round": place.round}


def _number(name: str) -> int:
    return int.from_bytes(name.encode()[-4:], "big")


def _good(answer: Answer, name: str) -> None:
    """An honest client is refused nothing."""
    if answer.code != "OK":
        raise ConnectionError(f"{name}, which is honest, was refused: {answer.code} {answer.reason} {answer.details}")
