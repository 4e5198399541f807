"""Many clients in one process, without models: `python light_clients.py ADDRESS FIRST COUNT --certs FOLDER`.

Each has two connections of its own, opens its event stream, beats, and in every round fetches the client state, sends
prepared uploads and gives back what it fetched: what the product's client says, in the product's messages, over gRPC's
asyncio. A line on stdin is a command (`join COUNT`, `fetch`, `go`, `end`), and each is answered by a line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import common  # noqa: F401 (puts the repository on the path)
import grpc
import numpy as np

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.bulk import update_chunks
from heron_core.wire.channel import BULK_OPTIONS, CLIENT_OPTIONS, of_session
from heron_core.wire.codec import BundleReceiver, announced, chunks, empty_arrays, manifest_of
from heron_core.wire.frames import Bulk, deserializer, serialize

FEDERATION, PUSH = "/heron.v1.FederationService/", "/heron.v1.SplitService/PushActivations"
AT_ONCE = 4
"""Joins that a driver has in hand."""
NORMAL = pb.InputFacts(
    name="input", stored_dtype="float32", shape=[1, 8, 8], looked_at=1, least=[-3], most=[3], mean=[0], std=[1]
)
"""What each says of data that it does not have."""
WINDOW = 2
"""Uploads that are sent and not acknowledged, as in the product's client."""


class LightClient:
    """One name with two connections."""

    def __init__(self, address: str, name: str, certs: Path | None, work: Work) -> None:
        self.name, self._work = name, work
        own = certs and certs / name
        self._control, self._bulk = _channel(address, own), _channel(address, own, *BULK_OPTIONS)
        self._reply = pb.JoinReply()
        self._listening: asyncio.Task[None] | None = None
        self._place = (0, 0)
        """Term and round."""

    async def join(self) -> None:
        """A session, and its event stream open."""
        request = pb.JoinRequest(
            protocol_version=PROTOCOL_VERSION, client_name=self.name, instance_key=os.urandom(16)
        )
        ask = self._control.unary_unary(FEDERATION + "Join", _to_bytes, pb.JoinReply.FromString)
        self._reply = await ask(request, timeout=60, wait_for_ready=True)
        if not self._reply.session_id:
            request.data.CopyFrom(pb.DataFacts(run_id=self._reply.run_id, samples=1, inputs=[NORMAL]))
            self._reply = await ask(request, timeout=60, wait_for_ready=True)
        watch = self._control.stream_stream(FEDERATION + "WatchRounds", _to_bytes, pb.RoundEvent.FromString)
        first = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(watch(self._beats(), metadata=self._mine), first))
        await first.wait()

    @property
    def _mine(self) -> tuple[tuple[str, str], ...]:
        return of_session(self._reply.session_id)

    async def _beats(self) -> AsyncIterator[pb.Beat]:
        while True:
            term, number = self._place
            yield pb.Beat(session_id=self._reply.session_id, round=number, term=term)
            await asyncio.sleep(self._reply.heartbeat_s)

    async def _listen(self, events: Any, first: asyncio.Event) -> None:
        async for event in events:
            first.set()
            kind = event.WhichOneof("event")
            if kind == "round_begins":
                self._work.begun(self, event.round_begins)
            elif kind == "finished":
                return

    async def fetch(self, version: int) -> dict[str, Array]:
        """The client state of this version."""
        call = self._bulk.unary_stream(FEDERATION + "FetchModel", _to_bytes, deserializer(pb.StateChunk))
        arrays: dict[str, Array] = {}
        receiver: BundleReceiver | None = None
        request = pb.FetchModelRequest(session_id=self._reply.session_id, version=version)
        async for chunk in call(request, metadata=self._mine):
            if receiver is None:
                arrays = empty_arrays(announced(chunk.rest.manifest, "state"))
                receiver = BundleReceiver(list(arrays.values()), "state")
            receiver.write(chunk.rest.offset, chunk.payload)
        return arrays

    async def round(self, begins: pb.RoundBegins, batch: dict[str, Array], steps: int) -> None:
        """Its whole part in a round."""
        self._place = (begins.term, begins.round)
        ids = {"run_id": self._reply.run_id, "session_id": self._reply.session_id}
        ids |= {"term": begins.term, "round": begins.round}
        state = await self.fetch(begins.version)
        await self._push(split.FrameHeader(purpose=split.PURPOSE_TRAIN, steps=steps, **ids), batch)
        figures = pb.ClientFigures(mean_loss=1.0, forward_passes=3 * steps)
        header = pb.UpdateHeader(num_samples=1, figures=figures, **ids)
        submit = self._bulk.stream_unary(FEDERATION + "SubmitUpdate", serialize, pb.SubmitUpdateReply.FromString)
        await submit((each async for each in _aiter(update_chunks(header, state))), metadata=self._mine)

    async def _push(self, opening: split.FrameHeader, batch: dict[str, Array]) -> None:
        call = self._bulk.stream_stream(PUSH, serialize, deserializer(split.PushEvent))(
            metadata=self._mine
        )
        await call.write(Bulk(split.ActivationFrame(header=opening)))
        sent = acknowledged = credit = 0
        while acknowledged < opening.steps:
            event = (await call.read()).rest
            credit = max(credit, event.position.credit_steps, event.credit.steps)
            acknowledged = max(acknowledged, event.acknowledged.sequence)
            while sent < min(opening.steps, credit, acknowledged + WINDOW):
                await call.write(_frame(opening, batch, sent))
                sent += 1
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass

    async def end(self) -> None:
        """Both connections are closed."""
        if self._listening is not None:
            self._listening.cancel()
        await self._control.close()
        await self._bulk.close()


class Work:
    """What all clients send; their rounds, all at once."""

    def __init__(self, rows: int, width: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        self._batch = {
            "activations": rng.standard_normal((rows, width), dtype=np.float32), "labels": rng.integers(0, 10, rows),
        }  # fmt: skip
        self._steps = steps
        self._rounds: set[asyncio.Task[None]] = set()

    def begun(self, client: LightClient, begins: pb.RoundBegins) -> None:
        task = asyncio.create_task(self._round(client, begins))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    async def _round(self, client: LightClient, begins: pb.RoundBegins) -> None:
        try:
            await client.round(begins, self._batch, self._steps)
        except grpc.aio.AioRpcError as error:
            print(f"{client.name}: {error.code().name} {error.details()}", file=sys.stderr, flush=True)


def _channel(address: str, certs: Path | None, *more: tuple[str, int]) -> grpc.aio.Channel:
    options = [*CLIENT_OPTIONS, *more]
    if certs is None:
        return grpc.aio.insecure_channel(address, options)
    ca, key, cert = (certs.joinpath(name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options)


def _to_bytes(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found


def _frame(opening: split.FrameHeader, batch: dict[str, Array], step: int) -> Bulk[split.ActivationFrame]:
    ((offset, parts),) = chunks(list(batch.values()))
    header = split.FrameHeader(
        term=opening.term, round=opening.round, purpose=opening.purpose, step=step, sequence=step, offset=offset,
        batch_rows=len(batch["labels"]), manifest=manifest_of(batch),
    )  # fmt: skip
    return Bulk(split.ActivationFrame(header=header), parts)


async def _aiter(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def _in_hands(calls: list[Any]) -> None:
    """Awaits them all, AT_ONCE at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(call: Any) -> None:
        async with limit:
            await call

    await asyncio.gather(*(one(call) for call in calls))


async def drive(args: argparse.Namespace) -> None:
    work = Work(args.rows, args.width, args.steps)
    waiting = [f"client-{i:04d}" for i in range(args.first, args.first + args.count)]
    clients: list[LightClient] = []
    print("ready", flush=True)
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        if words[0] == "join":
            made = [LightClient(args.address, waiting.pop(0), args.certs, work) for _ in range(int(words[1]))]
            clients += made
            await _in_hands([client.join() for client in made])
        elif words[0] == "fetch":
            await _in_hands([client.fetch(0) for client in clients])
        gc.collect()
        print("done", flush=True)
    await asyncio.gather(*(client.end() for client in clients))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--certs", type=Path, help="folder with a folder for each client; without it, plain text")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    asyncio.run(drive(parser.parse_args()))


if __name__ == "__main__":
    main()
