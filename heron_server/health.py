"""`heron-server health`: asks the server that runs on this machine whether it serves, for container health checks."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from heron_core.errors import Internal, Unreachable
from heron_core.trust.addresses import host_of, is_socket, port_of
from heron_core.wire.channel import CLIENT_OPTIONS
from heron_server.certs.choice import Guard
from heron_server.config import ServerSettings

PATIENCE_S = 8.0
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def check_health(settings: ServerSettings, guard: Guard, patience_s: float = PATIENCE_S) -> None:
    """Raises Unreachable where nobody answers, Internal where somebody does and does not serve."""
    address = near(settings.address)
    with _channel(address, guard) as channel:
        try:
            request = health_pb2.HealthCheckRequest()
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=patience_s)
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}"
            raise Unreachable(f"nobody says at {address} that it serves ({said}); see the server's log") from None
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise Internal(f"the server at {address} says that it does not serve; its log says why")


def near(address: str) -> str:
    """Where this machine reaches a server that listens on `address`."""
    if is_socket(address):
        return address
    host = host_of(address)
    return f"{WILDCARDS[host]}:{port_of(address)}" if host in WILDCARDS else address


def _channel(address: str, guard: Guard) -> grpc.Channel:
    """With the server's own certificate, which is good for this too."""
    if guard.certs is None:
        return grpc.insecure_channel(address, CLIENT_OPTIONS)
    own = guard.certs.read()
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(own.ca, own.key, own.cert), CLIENT_OPTIONS)
