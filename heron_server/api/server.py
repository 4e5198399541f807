"""The port: both of Heron's services behind their interceptors, health, and reflection where it is asked for."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from heron_core.errors import ConfigError
from heron_core.wire.channel import SERVER_OPTIONS
from heron_server.api.charges import Charging
from heron_server.api.errors import Errors
from heron_server.api.limits import Limits
from heron_server.api.peer import Peers
from heron_server.api.service import handlers
from heron_server.metrics.charges import Charges
from heron_server.run.coordinator import Coordinator

SERVICES = ("heron.v1.FederationService", "heron.v1.SplitService")


def make_server(coordinator: Coordinator) -> grpc.aio.Server:
    """A server of Heron's two services, without a port; not started."""
    # From the outermost inwards.
    interceptors = (Errors(coordinator.fail), Peers(), Limits(), Charging(Charges(coordinator.ledger)))
    server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(handlers(coordinator))
    return server


async def listen(coordinator: Coordinator, address: str, reflection: bool) -> tuple[grpc.aio.Server, str]:
    """A started server and the address that it listens on; raises ConfigError for an address that cannot be had."""
    server = make_server(coordinator)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    for name in ("", *SERVICES):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    if reflection:
        _reflect(server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(
            f"cannot listen on {address}: the port is in use, or the address is not this machine's; "
            "stop the other server, or set server.address"
        )
    await server.start()
    return server, f"{address.rpartition(':')[0]}:{port}"


def _reflect(server: grpc.aio.Server) -> None:
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        raise ConfigError('server.reflection needs: pip install "heron-sfl[reflection]"') from None
    reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)
