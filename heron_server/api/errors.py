"""Errors on their way to a peer: Heron's own with status and reason, unknown ones without their text."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable

import grpc

from heron_core.errors import REASON_KEY, HeronError, Internal, meaning_of
from heron_server.api.interceptor import ALL_SERVICES, Interceptor, Reply, Request
from heron_server.api.peer import Context

log = logging.getLogger("heron.server")


class Errors(Interceptor[Context]):
    """The one place where an exception becomes a status; the outermost interceptor."""

    services = ALL_SERVICES

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
            meaning, said = meaning_of(error), str(error)
            forget(error)
        except (grpc.aio.BaseError, grpc.RpcError) as error:
            forget(error)
            raise  # gRPC's own: the call is over, because the peer is gone or was told so
        except (Exception, SystemExit) as error:
            log.error("a bug in the server, in %s: %r", rpc, error)
            self._fail(error)
            meaning, said = meaning_of(Internal()), "the server failed; its log says why"
        return await call.abort(grpc.StatusCode[meaning.status], said, ((REASON_KEY, meaning.reason),))


def forget(error: BaseException) -> None:
    """Lets go of what the functions held that this error came through, the peer's messages above all.

    An error and the frames of its traceback hold each other, until a full garbage collection finds them.
    """
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each.__traceback__ is not None:
            traceback.clear_frames(each.__traceback__)
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__]
