"""Hostile traffic against a server, each kind a function of its own: what an outsider sends, and what a member may.

Add one by writing it here with `@outsider`, or with `@member` in hostile_members.py. `floods.py` measures what they do.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import common  # noqa: F401 (puts the repository on the path)
import grpc

from heron_core.errors import REASON_KEY
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.channel import CAPS

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
            self.answers[f"{error.code().name}{'' if reasoned(error) else ' ' + str(error.details())[:60]}"] += 1


def reasoned(error: grpc.aio.AioRpcError) -> bool:
    """Whether it is a refusal of Heron's own."""
    return any(key == REASON_KEY for key, _ in error.trailing_metadata() or ())


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
    """A message of 16 MiB whose manifest has some four million tensors. Written by hand: parsing it takes seconds."""
    tensor = proto_field(1, tensors.TensorMeta(dtype=1).SerializeToString())
    manifest = tensor * ((MESSAGE_BYTES - 1000) // len(tensor))
    if kind == "update":
        header = pb.UpdateHeader(session_id="nobody").SerializeToString()
        return proto_field(1, header) + proto_field(2, manifest)
    header = split.FrameHeader(session_id="nobody").SerializeToString()
    return proto_field(1, header + proto_field(10, manifest))


def proto_field(number: int, value: bytes) -> bytes:
    """A field of bytes or of a message, as it is on the wire."""
    length, varint = len(value), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *varint, length]) + value


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


