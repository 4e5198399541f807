"""Traffic of clients that have a place in the run and take more than their share. What outsiders do: traffics.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from traffics import FEDERATION, SESSION_KEY, Target, member, proto_field

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.bulk import update_chunks
from heron_core.wire.codec import BundleReceiver, announced, empty_arrays
from heron_core.wire.frames import deserializer, serialize

HISTOGRAM = b"\x01" * 15_000_000
"""So many classes of one sample each, as they are on the wire."""


@dataclass
class Hostile:
    """A member of the run, with its session, that beats as it should and does what it should not."""

    target: Target
    name: str
    session: str = ""
    run_id: str = ""
    restless: bool = False
    """Does it beat without a pause?"""
    begins: pb.RoundBegins = field(default_factory=pb.RoundBegins)
    state: dict[str, Array] = field(default_factory=dict)

    async def live(self, wrong: Callable[[Hostile, grpc.aio.Channel], Awaitable[None]]) -> None:
        """Joins again whenever it is cut off; does `wrong` in each round that it takes part in."""
        async with self.target.channel() as control:
            while not self.target.over:
                try:
                    await self._session(control, wrong)
                except grpc.aio.AioRpcError as error:
                    self.target.answers[f"session: {error.code().name}"] += 1
                    await asyncio.sleep(0.5)

    async def _session(self, control: grpc.aio.Channel, wrong: Any) -> None:
        request = pb.JoinRequest(
            protocol_version=PROTOCOL_VERSION, client_name=self.name, instance_key=self.name.encode().ljust(16)
        )
        join = control.unary_unary(
            FEDERATION + "Join", pb.JoinRequest.SerializeToString, pb.JoinReply.FromString
        )  # fmt: skip
        reply = await join(request, timeout=10)
        self.session, self.run_id = reply.session_id, reply.run_id
        watch = control.stream_stream(
            FEDERATION + "WatchRounds", pb.Beat.SerializeToString, pb.RoundEvent.FromString
        )(self._beats(reply.heartbeat_s), metadata=self.metadata)
        doing: asyncio.Task[None] | None = None
        try:
            async for event in watch:
                if event.HasField("round_begins") and (doing is None or doing.done()):
                    self.begins = event.round_begins
                    doing = asyncio.create_task(self._do(wrong))
                if event.HasField("dropped"):
                    self.target.answers["dropped from a round"] += 1
                if self.target.over:
                    return
        finally:
            if doing is not None:
                doing.cancel()

    async def _do(self, wrong: Any) -> None:
        async with self.target.channel() as bulk:
            try:
                await wrong(self, bulk)
            except grpc.aio.AioRpcError as error:
                self.target.answers[error.code().name] += 1

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ((SESSION_KEY, self.session),)

    async def _beats(self, heartbeat_s: float) -> AsyncIterator[pb.Beat]:
        while not self.target.over:
            yield pb.Beat(session_id=self.session, round=self.begins.round, term=self.begins.term)
            await asyncio.sleep(0 if self.restless else heartbeat_s)
            self.target.answers["beats"] += self.restless

    async def fetch(self, bulk: grpc.aio.Channel) -> tensors.Manifest:
        """The client state of the round, as an honest client gets it."""
        call = bulk.unary_stream(
            FEDERATION + "FetchModel", pb.FetchModelRequest.SerializeToString, deserializer(pb.StateChunk)
        )(pb.FetchModelRequest(session_id=self.session, version=self.begins.version), metadata=self.metadata)
        receiver: BundleReceiver | None = None
        manifest = tensors.Manifest()
        async for chunk in call:
            if receiver is None:
                manifest = chunk.rest.manifest
                self.state = empty_arrays(announced(manifest, "the state"))
                receiver = BundleReceiver(list(self.state.values()), "the state")
            receiver.write(chunk.rest.offset, chunk.payload)
        return manifest

    def header(self, **figures: Any) -> pb.UpdateHeader:
        """Of an update of this round."""
        return pb.UpdateHeader(
            run_id=self.run_id, term=self.begins.term, round=self.begins.round, session_id=self.session,
            num_samples=8, figures=pb.ClientFigures(**figures),
        )  # fmt: skip


async def nothing(hostile: Hostile, bulk: grpc.aio.Channel) -> None:
    """What the idle members do: they lose each round."""


async def both(
    target: Target, wrong: Callable[[Hostile, grpc.aio.Channel], Awaitable[None]], restless: bool = False
) -> None:
    await asyncio.gather(*(Hostile(target, f"hostile-{n}", restless=restless).live(wrong) for n in range(2)))


async def idle_members(target: Target) -> None:
    """The undisturbed run of the members' traffics: both are there, and give nothing."""
    await both(target, nothing)


@member
async def unfinished_updates(target: Target) -> None:
    """40 updates at once from each, which never send their last piece."""

    async def wrong(hostile: Hostile, bulk: grpc.aio.Channel) -> None:
        await hostile.fetch(bulk)
        pieces = [serialize(chunk) for chunk in update_chunks(hostile.header(), hostile.state)]

        async def endless_update() -> AsyncIterator[bytes]:
            for piece in pieces[:-1]:
                yield piece
            await asyncio.sleep(30)

        calls = [
            bulk.stream_unary(FEDERATION + "SubmitUpdate")(endless_update(), metadata=hostile.metadata)
            for _ in range(40)
        ]
        for call in calls:
            try:
                await call
            except grpc.aio.AioRpcError as error:
                target.answers[error.code().name] += 1

    await both(target, wrong)


@member
async def unread_fetches(target: Target) -> None:
    """300 fetches at once from each, of which nothing is read."""

    async def wrong(hostile: Hostile, bulk: grpc.aio.Channel) -> None:
        request = pb.FetchModelRequest(session_id=hostile.session, version=hostile.begins.version)
        calls = [
            bulk.unary_stream(FEDERATION + "FetchModel")(request.SerializeToString(), metadata=hostile.metadata)
            for _ in range(300)
        ]
        await asyncio.sleep(15)
        for call in calls:
            target.answers[(await call.code()).name if call.done() else "unread"] += 1
            call.cancel()

    await both(target, wrong)


@member
async def giant_histograms(target: Target) -> None:
    """An update with a class histogram of 15 million entries from each."""

    async def wrong(hostile: Hostile, bulk: grpc.aio.Channel) -> None:
        manifest = await hostile.fetch(bulk)
        figures = proto_field(8, HISTOGRAM)
        header = hostile.header().SerializeToString() + proto_field(6, figures)
        payload = b"".join(array.tobytes() for array in hostile.state.values())
        rest = pb.UpdateChunk(manifest=manifest, payload=payload).SerializeToString()
        chunk = proto_field(1, header) + rest
        await target.send(bulk, FEDERATION + "SubmitUpdate", chunk, session=hostile.session)

    await both(target, wrong)


@member
async def beats(target: Target) -> None:
    """Beats without a pause."""
    await both(target, nothing, restless=True)


@member
async def comings_and_goings(target: Target) -> None:
    """Joins and leaves, without a pause."""

    async def one(name: str) -> None:
        request = pb.JoinRequest(
            protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=name.encode().ljust(16)
        )
        async with target.channel() as channel:
            join = channel.unary_unary(FEDERATION + "Join", pb.JoinRequest.SerializeToString, pb.JoinReply.FromString)
            while not target.over:
                try:
                    session = (await join(request, timeout=10)).session_id
                    target.answers["joined"] += 1
                    leave = pb.LeaveRequest(session_id=session, reason="x" * 5000).SerializeToString()
                    await target.send(channel, FEDERATION + "Leave", leave, session=session)
                except grpc.aio.AioRpcError as error:
                    target.answers[error.code().name] += 1

    await asyncio.gather(one("hostile-0"), one("hostile-1"))


