"""Whom a client believes to be its server, and what it proves itself with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

from heron_core.errors import ConfigError
from heron_core.trust.folder import CertFolder
from heron_core.trust.token import TOKEN_KEY
from heron_core.wire.channel import CLIENT_OPTIONS

R = TypeVar("R")


@dataclass(frozen=True)
class Trust:
    """How connections are made. By default in plain text, with nothing to prove."""

    tls: bool = False
    certs: CertFolder | None = None
    """The CA to believe, and this client's certificate if the folder has one. None: the authorities that all know."""
    token: Path | None = None
    """The file with this client's token."""
    use_proxy: bool = False
    """Go by the proxy that the environment names."""

    def stamp(self) -> object:
        """Changes when one of the files does."""
        token = self.token.stat().st_mtime_ns if self.token and self.token.exists() else 0
        return (self.certs.stamp() if self.certs else None, token)

    def channel(self, address: str, *more: tuple[str, str | int]) -> grpc.Channel:
        """A connection that is made once it is used. Raises ConfigError for files that cannot be used.

        `more`: options of gRPC.
        """
        options = list({**dict(CLIENT_OPTIONS), "grpc.enable_http_proxy": int(self.use_proxy), **dict(more)}.items())
        if self.tls:
            channel = grpc.secure_channel(address, self._credentials(), options)
        else:
            channel = grpc.insecure_channel(address, options)
        return grpc.intercept_channel(channel, WithToken(self.read_token())) if self.token else channel

    def _credentials(self) -> grpc.ChannelCredentials:
        if self.certs is None:
            return grpc.ssl_channel_credentials()
        if not self.certs.proves:
            return grpc.ssl_channel_credentials(self.certs.ca())
        own = self.certs.read()
        return grpc.ssl_channel_credentials(own.ca, own.key, own.cert)

    def read_token(self) -> str:
        """The token of the file. Raises ConfigError."""
        assert self.token is not None
        try:
            token = self.token.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the token in {self.token} cannot be read: {error}; see token_file") from None
        if not token.isprintable() or not token.isascii() or not token:
            raise ConfigError(f"{self.token} must hold one line, the token that `heron-server certs token` made")
        return token


PLAIN = Trust()


class Details(NamedTuple):
    """gRPC's grpc.ClientCallDetails."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class WithToken(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):  # fmt: skip
    """Puts the token into every call."""

    def __init__(self, token: str) -> None:
        self._entry = (TOKEN_KEY, token)

    def _with_token(self, proceed: Callable[..., R], details: grpc.ClientCallDetails, request: object) -> R:
        given = (*(details.metadata or ()), self._entry)
        return proceed(
            Details(
                details.method, details.timeout, given, details.credentials, details.wait_for_ready,
                getattr(details, "compression", None),
            ),
            request,
        )  # fmt: skip

    intercept_unary_unary = intercept_unary_stream = _with_token  # type: ignore[assignment]
    intercept_stream_unary = intercept_stream_stream = _with_token  # type: ignore[assignment]
