"""Hostile traffic against a server, each kind a function of its own: what an outsider sends, and what a member may.

    python benchmarks/traffics.py NAME ADDRESS SECONDS

goes on for so long and prints one line: what was sent, and how it was answered. Add a traffic by writing it here, with
`@outsider` or `@member`.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import common  # noqa: F401 (puts the repository on the path)
import grpc

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.channel import CAPS
from heron_core.wire.codec import BundleReceiver, announced, empty_arrays
from heron_core.wire.frames import deserializer

FEDERATION, SPLIT, HEALTH = "/heron.v1.FederationService/", "/heron.v1.SplitService/", "/grpc.health.v1.Health/"
UNARY = {FEDERATION + "Join", FEDERATION + "Leave", FEDERATION + "FetchModel", HEALTH + "Check", HEALTH + "Watch"}
ALL = (*sorted(UNARY), FEDERATION + "WatchRounds", FEDERATION + "SubmitUpdate", SPLIT + "PushActivations")
MESSAGE_BYTES = (16 << 20) - 64
PAYLOAD = bytes(MESSAGE_BYTES - 1024)
OPTIONS = [*CAPS, ("grpc.use_local_subchannel_pool", 1)]
SESSION_KEY = "heron-session"


@dataclass
class Target:
    """The server under attack, for so long, and what it answered."""

    address: str
    until: float
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        return grpc.aio.insecure_channel(self.address, OPTIONS)

    async def send(
        self, channel: grpc.aio.Channel, rpc: str, *messages: bytes, session: str = "", timeout_s: float = 20
    ) -> None:
        """One call with these messages as they are, to its end."""
        metadata = ((SESSION_KEY, session),) if session else ()
        try:
            call = channel.stream_stream(rpc)(each(messages), timeout=timeout_s, metadata=metadata)
            async for _ in call:
                pass
            self.answers["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.answers[error.code().name] += 1


async def each(messages: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


Traffic = Callable[[Target], Awaitable[None]]
OUTSIDERS: dict[str, Traffic] = {}
MEMBERS: dict[str, Traffic] = {}


def outsider(traffic: Traffic) -> Traffic:
    """Of a peer without a session."""
    OUTSIDERS[traffic.__name__.replace("_", "-")] = traffic
    return traffic


def member(traffic: Traffic) -> Traffic:
    """Of the clients `hostile-0` and `hostile-1`, which have a place in the run."""
    MEMBERS[traffic.__name__.replace("_", "-")] = traffic
    return traffic


# -- from outside ------------------------------------------------------------------------------------------------


@outsider
async def refused_messages(target: Target) -> None:
    """680 messages of 16 MiB from four connections, to RPCs that want a session or a small message."""
    whole = split.ActivationFrame(header=split.FrameHeader(session_id="nobody"), payload=PAYLOAD).SerializeToString()
    update = pb.UpdateChunk(header=pb.UpdateHeader(session_id="nobody"), payload=PAYLOAD).SerializeToString()
    nonsense = b"\xff" * MESSAGE_BYTES
    kinds = [
        (SPLIT + "PushActivations", whole), (FEDERATION + "SubmitUpdate", update), (FEDERATION + "Join", nonsense),
        (FEDERATION + "SubmitUpdate", nonsense),
    ]  # fmt: skip

    async def one(rpc: str, message: bytes) -> None:
        async with target.channel() as channel:
            for _ in range(170):
                await target.send(channel, rpc, message)

    await asyncio.gather(*(one(*kind) for kind in kinds))


def giant_manifest(kind: str) -> bytes:
    """A message of 16 MiB whose manifest has some three million tensors."""
    metas = tensors.Manifest(tensors=[tensors.TensorMeta(dtype=1)] * 1000).SerializeToString()
    manifest = tensors.Manifest.FromString(metas * (MESSAGE_BYTES // len(metas) - 1))
    if kind == "update":
        return pb.UpdateChunk(header=pb.UpdateHeader(session_id="nobody"), manifest=manifest).SerializeToString()
    header = split.FrameHeader(session_id="nobody", manifest=manifest)
    return split.ActivationFrame(header=header).SerializeToString()


@outsider
async def giant_manifests(target: Target) -> None:
    """34 connections, each with one manifest of 16 MiB after the other."""
    frame, update = giant_manifest("frame"), giant_manifest("update")

    async def one(number: int) -> None:
        async with target.channel() as channel:
            while not target.over:
                if number % 2:
                    await target.send(channel, SPLIT + "PushActivations", frame)
                else:
                    await target.send(channel, FEDERATION + "SubmitUpdate", update)

    await asyncio.gather(*(one(number) for number in range(34)))


@outsider
async def idle_connections(target: Target) -> None:
    """400 connections that say nothing, and stay; opened again where they are cut."""
    host, _, port = target.address.rpartition(":")
    held: list[socket.socket] = []
    while not target.over:
        held = [each for each in held if is_open(each)]
        while len(held) < 400:
            try:
                held.append(socket.create_connection((host, int(port)), timeout=1))
                held[-1].setblocking(False)
                target.answers["opened"] += 1
            except OSError:
                target.answers["not connected"] += 1
                break
        await asyncio.sleep(0.25)


def is_open(sock: socket.socket) -> bool:
    """Whether the server has not closed it."""
    try:
        while data := sock.recv(4096):
            del data
    except BlockingIOError:
        return True
    except OSError:
        pass
    sock.close()
    return False


@outsider
async def idle_channels(target: Target) -> None:
    """400 connections of gRPC's own that are greeted, and then without a call."""

    async def one() -> None:
        async with target.channel() as channel:
            channel.get_state(try_to_connect=True)
            while not target.over:
                await asyncio.sleep(0.5)

    await asyncio.gather(*(one() for _ in range(400)))


@outsider
async def malformed_messages(target: Target) -> None:
    """Messages that are none, to every RPC and to health, as fast as they are refused, over eight connections."""

    async def one(number: int) -> None:
        rng = random.Random(number)
        async with target.channel() as channel:
            while not target.over:
                await target.send(channel, rng.choice(ALL), rng.randbytes(rng.choice((1, 3, 20, 400))))

    await asyncio.gather(*(one(number) for number in range(8)))


@outsider
async def broken_calls(target: Target) -> None:
    """Calls that are cancelled at once, or end before their first message."""

    async def one(number: int) -> None:
        rng = random.Random(number)
        async with target.channel() as channel:
            while not target.over:
                rpc = rng.choice(ALL)
                if rng.random() < 0.5:
                    await target.send(channel, rpc, timeout_s=0.2)
                    continue
                call = channel.stream_stream(rpc)(endless())
                await asyncio.sleep(rng.random() * 0.01)
                call.cancel()
                target.answers["cancelled"] += 1

    await asyncio.gather(*(one(number) for number in range(8)))


async def endless() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


@outsider
async def silent_calls(target: Target) -> None:
    """2,000 calls over 40 connections that never send a message."""

    async def one() -> None:
        async with target.channel() as channel:
            calls = [channel.stream_stream(ALL[n % len(ALL)])(endless()) for n in range(50)]
            while not target.over:
                await asyncio.sleep(0.5)
            for call in calls:
                target.answers["open" if not call.done() else "ended"] += 1
                call.cancel()

    await asyncio.gather(*(one() for _ in range(40)))


# -- from members ------------------------------------------------------------------------------------------------


@dataclass
class Hostile:
    """A member of the run, with its session, that beats as it should and does what it should not."""

    target: Target
    name: str
    session: str = ""
    run_id: str = ""
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
            await asyncio.sleep(heartbeat_s)

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


async def both(target: Target, wrong: Callable[[Hostile, grpc.aio.Channel], Awaitable[None]]) -> None:
    await asyncio.gather(*(Hostile(target, f"hostile-{n}").live(wrong) for n in range(2)))


@member
async def idle_members(target: Target) -> None:
    """The undisturbed run of the members' traffics: both are there, and give nothing."""
    await both(target, nothing)


@member
async def unfinished_updates(target: Target) -> None:
    """40 updates at once from each, which never send their last piece."""

    async def wrong(hostile: Hostile, bulk: grpc.aio.Channel) -> None:
        manifest = await hostile.fetch(bulk)
        first = pb.UpdateChunk(header=hostile.header(), manifest=manifest, payload=b"\0").SerializeToString()

        async def endless_update() -> AsyncIterator[bytes]:
            yield first
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
        header = hostile.header(class_histogram=[1] * 15_000_000)
        payload = b"".join(array.tobytes() for array in hostile.state.values())
        chunk = pb.UpdateChunk(header=header, manifest=manifest, payload=payload).SerializeToString()
        await target.send(bulk, FEDERATION + "SubmitUpdate", chunk, session=hostile.session)

    await both(target, wrong)


@member
async def beats(target: Target) -> None:
    """Beats without a pause."""

    async def wrong(hostile: Hostile, bulk: grpc.aio.Channel) -> None:
        async def many() -> AsyncIterator[bytes]:
            while not target.over:
                target.answers["beats"] += 1
                yield pb.Beat(session_id=hostile.session, round=1, step=target.answers["beats"] % 7).SerializeToString()

        async for _ in bulk.stream_stream(FEDERATION + "WatchRounds")(many(), metadata=hostile.metadata):
            pass

    await both(target, wrong)


TRAFFICS = {**OUTSIDERS, **MEMBERS}


def main() -> None:
    name, address, seconds = sys.argv[1:]
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    target = Target(address, time.monotonic() + float(seconds))

    async def run() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(TRAFFICS[name](target), float(seconds) + 1)

    asyncio.run(run())
    print(", ".join(f"{what} {count}" for what, count in target.answers.most_common()) or "nothing was answered")


if __name__ == "__main__":
    main()
