"""Errors on their way to a peer: Heron's own with status and reason, unknown ones without their text."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import grpc

from heron_core.errors import REASON_KEY, HeronError, Internal, meaning_of
from heron_server.api.interceptor import Interceptor, Reply, Request
from heron_server.api.peer import Context

log = logging.getLogger("heron.server")


class Errors(Interceptor[Context]):
    """The one place where an exception becomes a status; the outermost interceptor."""

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        """`fail` is told of what nobody raises on purpose: a bug in the server, which ends the run."""
        self._fail = fail

    async def around(
        self, rpc: str, request: Request, call: Context, proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Ends the call with the status and the `heron-reason` of the HeronError that came out of it."""
        try:
            return await proceed(request, call)
        except HeronError as error:
            failure = error
        except (grpc.aio.BaseError, grpc.RpcError):
            raise  # gRPC's own: the call is over, because the peer is gone or was told so
        except (Exception, SystemExit) as error:
            log.error("a bug in the server, in %s: %r", rpc, error)
            self._fail(error)
            failure = Internal("the server failed; its log says why")
        meaning = meaning_of(failure)
        return await call.abort(grpc.StatusCode[meaning.status], str(failure), ((REASON_KEY, meaning.reason),))
