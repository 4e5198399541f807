"""The handlers of both services, in four moves each: decode, event, perform, encode. Runs on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import TypeAlias, TypeVar

import grpc

from heron_core.errors import Busy, HeronError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import state_chunks
from heron_core.wire.frames import Bulk, deserializer, serialize
from heron_server.api.peer import Call
from heron_server.api.updates import take_chunks, take_whole
from heron_server.run.coordinator import Coordinator
from heron_server.run.peer import Peer
from heron_server.run.sessions import Pushing

MOST_ANSWERS = 64
"""Events that wait on a stream of frames. A client that reads none of them is not read from either, or the cut
gradients of its uploads would pile up here. No interceptor can do this: it sees the one answer that is being written,
not those that wait behind it."""
LAST_WORDS_S = 5.0
"""How long what is still to be written may take, once the client's side of a stream has ended or has been refused."""

A = TypeVar("A")
Outbox: TypeAlias = asyncio.Queue[A | HeronError | None]
"""Answers of a stream; an error in the place of one ends it with that error, None ends it in good order."""


class Service:
    """FederationService and SplitService over one coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def join(self, request: pb.JoinRequest, call: Call[pb.JoinReply]) -> pb.JoinReply:
        """A place in the run."""
        return self._coordinator.join(call.peer, request)

    async def leave(self, request: pb.LeaveRequest, call: Call[pb.LeaveReply]) -> pb.LeaveReply:
        """The client's last word."""
        return self._coordinator.leave(call.peer, request)

    async def watch_rounds(self, beats: AsyncIterator[pb.Beat], call: Call[pb.RoundEvent]) -> None:
        """Events down and beats up, until the client is gone or its session is cut."""
        session_id = (await anext(beats)).session_id
        outbox: Outbox[pb.RoundEvent] = asyncio.Queue()
        self._coordinator.watch(call.peer, session_id, outbox.put_nowait, outbox.put_nowait)
        try:
            await _both(self._take_beats(call.peer, beats, outbox), outbox, call)
        finally:
            self._coordinator.watch_lost(session_id)

    async def _take_beats(
        self, peer: Peer, beats: AsyncIterator[pb.Beat], outbox: Outbox[pb.RoundEvent]
    ) -> None:
        async for beat in beats:
            if outbox.qsize() > MOST_ANSWERS:
                raise Busy(f"{MOST_ANSWERS} events wait for this client, which reads none; read them, and join again")
            self._coordinator.beat(peer, beat)

    async def fetch_model(self, request: pb.FetchModelRequest, call: Call[Bulk[pb.StateChunk]]) -> None:
        """The client state of a version, in chunks."""
        state, sent = self._coordinator.model(call.peer, request), 0
        for chunk in state_chunks(state):
            await call.write(chunk)
            sent += chunk.payload_bytes
            self._coordinator.moved(call.peer, request.session_id, "state down", sent)
        self._coordinator.fetched(call.peer, request, sent)

    async def fetch_graphs(self, request: pb.FetchGraphsRequest, call: Call[Bulk[pb.StateChunk]]) -> None:
        """The files of the run's graphs, in chunks."""
        for chunk in state_chunks(self._coordinator.offer.files(call.peer, request)):
            await call.write(chunk)

    async def submit_update(
        self, chunks: AsyncIterator[Bulk[pb.UpdateChunk]], call: Call[pb.SubmitUpdateReply]
    ) -> pb.SubmitUpdateReply:
        """A client's update."""
        await take_chunks(self._coordinator, call.peer, chunks)
        return pb.SubmitUpdateReply()

    async def push_activations(
        self, frames: AsyncIterator[Bulk[split.ActivationFrame]], call: Call[Bulk[split.PushEvent]]
    ) -> None:
        """Frames up, and what answers them down."""
        opening = await anext(frames)
        outbox: Outbox[Bulk[split.PushEvent]] = asyncio.Queue()
        pushing = self._coordinator.open_push(call.peer, opening.rest.header, outbox.put_nowait)
        try:
            await _both(self._take_frames(pushing, frames, outbox), outbox, call)
        finally:
            self._coordinator.push_closed(pushing)

    async def _take_frames(
        self, pushing: Pushing, frames: AsyncIterator[Bulk[split.ActivationFrame]],
        outbox: Outbox[Bulk[split.PushEvent]],
    ) -> None:  # fmt: skip
        async for frame in frames:
            if frame.rest.HasField("update"):
                take_whole(self._coordinator, pushing, frame)
                return  # the last frame
            self._coordinator.frame(pushing, frame)
            if outbox.qsize() > MOST_ANSWERS:
                await outbox.join()


async def _both(reading: Coroutine[None, None, None], outbox: Outbox[A], call: Call[A]) -> None:
    """Reads and writes a stream until either ends; then the other ends too. Raises the error of the one that failed.

    Once nothing more is read, what waits in the outbox is still written, for LAST_WORDS_S at most: gRPC loses the
    status of a call that ends while it is writing.
    """
    reader, writer = (asyncio.create_task(each) for each in (reading, _write_all(outbox, call)))
    try:
        await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        if reader.done():
            outbox.put_nowait(None)
            await asyncio.wait({writer}, timeout=LAST_WORDS_S)
    finally:
        for task in (reader, writer):
            task.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)
    for task in (reader, writer):
        if not task.cancelled():
            task.result()


async def _write_all(outbox: Outbox[A], call: Call[A]) -> None:
    """Sends what is put into the outbox, in order, up to None or an error, which is raised."""
    while (answer := await outbox.get()) is not None:
        if isinstance(answer, HeronError):
            raise answer
        await call.write(answer)
        outbox.task_done()


def handlers(
    coordinator: Coordinator, most_rest_bytes: int
) -> tuple[grpc.GenericRpcHandler, grpc.GenericRpcHandler]:
    """Both services; bulk messages with their one-copy serialisers. `most_rest_bytes`: of one beside its payload."""
    service = Service(coordinator)
    federation = grpc.method_handlers_generic_handler("heron.v1.FederationService", {
        "Join": grpc.unary_unary_rpc_method_handler(
            service.join, pb.JoinRequest.FromString, pb.JoinReply.SerializeToString
        ),
        "WatchRounds": grpc.stream_stream_rpc_method_handler(
            service.watch_rounds, pb.Beat.FromString, pb.RoundEvent.SerializeToString
        ),
        "FetchModel": grpc.unary_stream_rpc_method_handler(
            service.fetch_model, pb.FetchModelRequest.FromString, serialize
        ),
        "FetchGraphs": grpc.unary_stream_rpc_method_handler(
            service.fetch_graphs, pb.FetchGraphsRequest.FromString, serialize
        ),
        "SubmitUpdate": grpc.stream_unary_rpc_method_handler(
            service.submit_update, deserializer(pb.UpdateChunk, most_rest_bytes), pb.SubmitUpdateReply.SerializeToString
        ),
        "Leave": grpc.unary_unary_rpc_method_handler(
            service.leave, pb.LeaveRequest.FromString, pb.LeaveReply.SerializeToString
        ),
    })  # fmt: skip
    uploads = grpc.method_handlers_generic_handler("heron.v1.SplitService", {
        "PushActivations": grpc.stream_stream_rpc_method_handler(
            service.push_activations, deserializer(split.ActivationFrame, most_rest_bytes), serialize
        ),
    })  # fmt: skip
    return federation, uploads
