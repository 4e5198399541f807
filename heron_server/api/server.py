"""The port: both of Heron's services behind their interceptors, health, and reflection where it is asked for."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from heron_core.errors import ConfigError
from heron_core.trust.addresses import is_socket
from heron_core.wire.channel import SERVER_OPTIONS
from heron_core.wire.codec import MAX_PAYLOAD_BYTES, manifest_bytes
from heron_server.api.access import Access
from heron_server.api.charges import Charging
from heron_server.api.errors import Errors
from heron_server.api.gate.calls import Calls
from heron_server.api.gate.connections import Connections
from heron_server.api.gate.descriptors import OF_A_CLIENT, check_room, room_for_connections
from heron_server.api.gate.streams import Streams
from heron_server.api.limits import MAX_CONTROL_BYTES, Limits
from heron_server.api.peer import Peers
from heron_server.api.service import handlers
from heron_server.api.shares import Shares
from heron_server.certs.choice import OPEN, Guard
from heron_server.metrics.charges import Charges
from heron_server.run.coordinator import Coordinator

SERVICES = ("heron.v1.FederationService", "heron.v1.SplitService")


class Port:
    """A server of Heron's two services and of health, behind `guard`, at an address of its own once it listens."""

    def __init__(self, coordinator: Coordinator, guard: Guard = OPEN) -> None:
        """Not started. ConfigError where the guard's files cannot be used."""
        self._access = Access(guard)
        self._peers, self._shares = Peers(self._access), Shares(coordinator)
        check_room(coordinator.spec.federation.clients)
        of_clients = OF_A_CLIENT * coordinator.spec.federation.clients
        self._connections = Connections(coordinator.sessions.member, of_clients)
        # From the outermost inwards.
        interceptors = (
            Errors(coordinator.fail), self._peers, Calls(coordinator.sessions.member, self._connections), Limits(),
            Charging(Charges(coordinator.ledger)), self._shares, Streams(),
        )  # fmt: skip
        most_rest = MAX_CONTROL_BYTES + manifest_bytes(coordinator.expected_update)
        self.grpc = grpc.aio.server(interceptors=interceptors, options=options(most_rest))
        self.grpc.add_generic_rpc_handlers(handlers(coordinator, most_rest))

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
        if is_socket(address):
            return address
        self._connections.listen(port)
        return f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Takes calls from now on."""
        await self.grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls; those in progress have this long."""
        await self.grpc.stop(grace_s)

    def tick(self) -> None:
        """Call about twice a second: ends idle connections, and the calls of those who are not let in any more or take
        too much."""
        self._peers.tick()
        self._shares.tick()
        self._connections.tick()


def options(most_rest_bytes: int) -> list[tuple[str, int]]:
    """gRPC's, with what this run's messages and this process's file descriptors allow."""
    return [
        *SERVER_OPTIONS,
        ("grpc.max_receive_message_length", MAX_PAYLOAD_BYTES + most_rest_bytes + MAX_CONTROL_BYTES),
        ("grpc.max_allowed_incoming_connections", room_for_connections()),
    ]


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
