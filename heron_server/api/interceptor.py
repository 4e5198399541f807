"""What the interceptors share: each is one function around a call, whatever the call's kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from heron_core.errors import TensorError
from heron_core.wire.frames import Bulk

OUR_SERVICES = "/heron.v1."
ALL_SERVICES = "/"
"""Health and reflection too, which are on the same port."""
SIDES = {False: "unary", True: "stream"}
"""gRPC's words for one message and for many."""

In = TypeVar("In")
Out = TypeVar("Out")
C = TypeVar("C")
Passing: TypeAlias = Message | Bulk[Message]
"""One message, as handlers see it."""
Request: TypeAlias = Passing | AsyncIterator[Passing]
"""What a call's handler gets: one message, or a stream of them."""
Reply: TypeAlias = Message | None
"""What it returns: the one answer, or None where it wrote answers one by one."""


class Interceptor(grpc.aio.ServerInterceptor, Generic[C]):
    """One concern of every call. `C` is what it gets beside the request: gRPC's context, or what `Peers` made of it.

    Calls of services whose path begins otherwise than `services` pass untouched.
    """

    services = OUR_SERVICES

    @abstractmethod
    async def around(
        self, rpc: str, request: Request, call: C, proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Runs `proceed(request, call)`, the next interceptor or the handler; `rpc` is the method's bare name."""

    def reading(self, rpc: str, read: Callable[[bytes], In]) -> Callable[[bytes], In | TensorError]:
        """What makes messages of the bytes of this RPC's requests, given what did so far; may give an error instead."""
        return read

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[In, Out] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[In, Out] | None:
        """gRPC's own hook: the call's handler, with `around` around it."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self.services):
            return handler
        rpc = handler_call_details.method.rpartition("/")[2]
        kind = f"{SIDES[handler.request_streaming]}_{SIDES[handler.response_streaming]}"
        proceed: Callable[..., Awaitable[Reply]] = getattr(handler, kind)
        assert handler.request_deserializer is not None
        read = self.reading(rpc, handler.request_deserializer)

        async def behaviour(request: Request, call: C) -> Reply:
            return await self.around(rpc, request, call, proceed)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: grpc.RpcMethodHandler[In, Out] = make(behaviour, read, handler.response_serializer)
        return wrapped
