"""The gRPC front: handlers of four moves, decode, event, perform, encode. Runs on the event loop; torch never does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from heron_core.errors import REASON_KEY, HeronError, Internal, TensorError, meaning_of
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import state_chunks
from heron_core.wire.codec import BundleReceiver, empty_arrays
from heron_core.wire.frames import Bulk, deserializer, serialize
from heron_server.api.peer import peer_of
from heron_server.run.coordinator import Coordinator
from heron_server.run.peer import Peer

log = logging.getLogger("heron.server")
T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]
MOST_ANSWERS = 64
"""Events that wait on a stream of frames. A client that reads none of them is not read from either, or the cut
gradients of its uploads would pile up here."""


class Service:
    """FederationService and SplitService over one coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:
        return self._coordinator.join(peer_of(context), request)

    async def leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveReply:
        return self._coordinator.leave(peer_of(context), request)

    async def watch_rounds(self, beats: AsyncIterator[pb.Beat], context: Context) -> None:
        peer, first = peer_of(context), await _first(beats)
        outbox: asyncio.Queue[pb.RoundEvent | HeronError | None] = asyncio.Queue()
        self._coordinator.watch(peer, first.session_id, outbox.put_nowait, outbox.put_nowait)
        reader = asyncio.create_task(self._take_beats(peer, beats, outbox))
        try:
            while (event := await outbox.get()) is not None:
                await context.write(_sound(event))
        finally:
            reader.cancel()
            self._coordinator.watch_lost(first.session_id)

    async def _take_beats(
        self, peer: Peer, beats: AsyncIterator[pb.Beat], outbox: asyncio.Queue[pb.RoundEvent | HeronError | None]
    ) -> None:
        try:
            async for beat in beats:
                self._coordinator.beat(peer, beat)
        except HeronError:
            pass  # fenced meanwhile
        outbox.put_nowait(None)  # the client is gone

    async def fetch_model(self, request: pb.FetchModelRequest, context: Context) -> None:
        for chunk in state_chunks(self._coordinator.model(peer_of(context), request)):
            self._coordinator.ledger.charge("down", chunk.message_bytes, "client_state_down", chunk.payload_bytes)
            await context.write(chunk)

    async def submit_update(self, chunks: AsyncIterator[Any], context: Context) -> pb.SubmitUpdateReply:
        first: Bulk[pb.UpdateChunk] = await _first(chunks)
        peer, header = peer_of(context), first.rest.header
        fresh = self._coordinator.check_update(peer, header, first.rest.manifest)
        state = empty_arrays(self._coordinator.expected_update if fresh else [])
        receiver = BundleReceiver(list(state.values()), "update")
        self._receive(receiver, first, fresh)
        async for chunk in chunks:
            self._receive(receiver, _sound(chunk), fresh)
        if not receiver.complete:
            raise TensorError("the update ended before all the bytes of its manifest came; send it again")
        if fresh:
            self._coordinator.submit(peer, header, state)
        return pb.SubmitUpdateReply(duplicate=not fresh)

    def _receive(self, receiver: BundleReceiver, chunk: Bulk[pb.UpdateChunk], fresh: bool) -> None:
        self._coordinator.ledger.charge("up", chunk.message_bytes, "client_state_up", chunk.payload_bytes)
        if fresh:
            receiver.write(chunk.rest.offset, chunk.payload)

    async def push_activations(self, frames: AsyncIterator[Any], context: Context) -> None:
        opening: Bulk[split.ActivationFrame] = await _first(frames)
        outbox: asyncio.Queue[Bulk[split.PushEvent]] = asyncio.Queue()
        self._coordinator.ledger.charge("up", opening.message_bytes)
        pushing = self._coordinator.open_push(peer_of(context), opening.rest.header, outbox.put_nowait)
        writer = asyncio.create_task(_pump(outbox, context))
        try:
            async for frame in frames:
                self._coordinator.frame(pushing, _sound(frame))
                if outbox.qsize() > MOST_ANSWERS:
                    await outbox.join()
        finally:
            writer.cancel()
            self._coordinator.push_closed(pushing)


async def _pump(outbox: asyncio.Queue[Bulk[split.PushEvent]], context: Context) -> None:
    while True:
        await context.write(await outbox.get())
        outbox.task_done()


async def _first(messages: AsyncIterator[Any]) -> Any:
    async for message in messages:
        return _sound(message)
    raise TensorError("the stream ended before its first message; the first one says whose it is")


def _sound(message: Any) -> Any:
    if isinstance(message, HeronError):
        raise message
    return message


def translated(handler: Callable[[Any, Any], Awaitable[T]]) -> Callable[[Any, Any], Awaitable[T]]:
    """Errors on their way to a peer: ours with status and reason, unknown ones without their text."""

    async def call(request: Any, context: Context) -> T:
        try:
            return await handler(request, context)
        except HeronError as error:
            failure = error
        except (asyncio.CancelledError, grpc.aio.AbortError, grpc.RpcError):
            raise
        except Exception:
            log.exception("a bug in the server")
            failure = Internal("the server failed; its log says why")
        meaning = meaning_of(failure)
        return await context.abort(grpc.StatusCode[meaning.status], str(failure), ((REASON_KEY, meaning.reason),))

    return call


def _bulk(kind: type[Any]) -> Callable[[bytes], Any]:
    """A malformed message becomes its error, for the handler to raise: gRPC would send its text as an internal one."""
    read = deserializer(kind)

    def deserialize(data: bytes) -> Any:
        try:
            return read(data)
        except HeronError as error:
            return error

    return deserialize


def handlers(coordinator: Coordinator) -> tuple[grpc.GenericRpcHandler, ...]:
    """Both services; bulk messages with their one-copy serialisers."""
    service = Service(coordinator)
    federation: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Join": grpc.unary_unary_rpc_method_handler(
            translated(service.join), pb.JoinRequest.FromString, pb.JoinReply.SerializeToString
        ),
        "WatchRounds": grpc.stream_stream_rpc_method_handler(
            translated(service.watch_rounds), pb.Beat.FromString, pb.RoundEvent.SerializeToString
        ),
        "FetchModel": grpc.unary_stream_rpc_method_handler(
            translated(service.fetch_model), pb.FetchModelRequest.FromString, serialize
        ),
        "SubmitUpdate": grpc.stream_unary_rpc_method_handler(
            translated(service.submit_update), _bulk(pb.UpdateChunk), pb.SubmitUpdateReply.SerializeToString
        ),
        "Leave": grpc.unary_unary_rpc_method_handler(
            translated(service.leave), pb.LeaveRequest.FromString, pb.LeaveReply.SerializeToString
        ),
    }
    pushes: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "PushActivations": grpc.stream_stream_rpc_method_handler(
            translated(service.push_activations), _bulk(split.ActivationFrame), serialize
        ),
    }
    return (
        grpc.method_handlers_generic_handler("heron.v1.FederationService", federation),
        grpc.method_handlers_generic_handler("heron.v1.SplitService", pushes),
    )
