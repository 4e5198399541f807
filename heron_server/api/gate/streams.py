"""Every call as a stream of requests, so that each message is read only when an interceptor or a handler asks for it.

gRPC reads the request of a unary call before it calls anybody: whoever it comes from, and however long that takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from heron_server.api.interceptor import SIDES


class Streams(grpc.aio.ServerInterceptor):
    """The innermost interceptor: what is around it sees streams of requests only. On the wire both are the same."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """gRPC's own hook: the call's handler, with one in front of it that asks for the request."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        of_stream, down = handler.request_streaming, SIDES[handler.response_streaming]
        proceed: Callable[..., Any] = getattr(handler, f"{SIDES[of_stream]}_{down}")

        async def behaviour(requests: Any, call: Any) -> Any:
            answer = proceed(requests if of_stream else await anext(requests), call)
            if not inspect.isasyncgen(answer):
                return await answer
            async for each in answer:
                await call.write(each)
            return None

        make = getattr(grpc, f"stream_{down}_rpc_method_handler")
        wrapped: grpc.RpcMethodHandler[Any, Any] = make(
            behaviour, handler.request_deserializer, handler.response_serializer
        )
        return wrapped
