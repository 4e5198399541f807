"""The port: both of Heron's services behind their interceptors, health, and reflection where it is asked for."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from heron_core.errors import ConfigError
from heron_core.trust.addresses import UNIX
from heron_core.wire.channel import SERVER_OPTIONS
from heron_server.api.access import Access
from heron_server.api.charges import Charging
from heron_server.api.errors import Errors
from heron_server.api.limits import Limits
from heron_server.api.peer import Peers
from heron_server.api.service import handlers
from heron_server.certs.choice import OPEN, Guard
from heron_server.metrics.charges import Charges
from heron_server.run.coordinator import Coordinator

SERVICES = ("heron.v1.FederationService", "heron.v1.SplitService")


class Port:
    """A server of Heron's two services and of health, behind `guard`, at an address of its own once it listens."""

    def __init__(self, coordinator: Coordinator, guard: Guard = OPEN) -> None:
        """Not started. ConfigError where the guard's files cannot be used."""
        self._access = Access(guard)
        self._peers = Peers(self._access)
        # From the outermost inwards.
        interceptors = (Errors(coordinator.fail), self._peers, Limits(), Charging(Charges(coordinator.ledger)))
        self.grpc = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        self.grpc.add_generic_rpc_handlers(handlers(coordinator))

    def bind(self, address: str) -> str:
        """The address with the port that was found; ConfigError for one that cannot be had."""
        credentials = self._access.credentials
        try:
            if credentials is None:
                port = self.grpc.add_insecure_port(address)
            else:
                port = self.grpc.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigError(
                f"cannot listen on {address}: the port is in use, or the address is not this machine's; "
                "stop the other server, or set server.address"
            )
        return address if address.startswith(UNIX) else f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Takes calls from now on."""
        await self.grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls; those in progress have this long."""
        await self.grpc.stop(grace_s)

    def tick(self) -> None:
        """Call about twice a second: ends the calls of those who are not let in any more."""
        self._peers.tick()


async def listen(
    coordinator: Coordinator, address: str, reflection: bool, guard: Guard = OPEN
) -> tuple[Port, str]:
    """A started server and the address that it listens on; raises ConfigError for an address that cannot be had."""
    port = Port(coordinator, guard)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, port.grpc)
    for name in ("", *SERVICES):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    if reflection:
        _reflect(port.grpc)
    bound = port.bind(address)
    await port.start()
    return port, bound


def _reflect(server: grpc.aio.Server) -> None:
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        raise ConfigError('server.reflection needs: pip install "heron-sfl[reflection]"') from None
    reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)
