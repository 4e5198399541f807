"""One client's way to its server, each part of it looked at once."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address

import grpc

from heron_client.check import Trial, ask_server, trial_of
from heron_client.config import ClientSettings
from heron_client.session.answers import run_spec_of
from heron_client.session.joining import doubts_of
from heron_client.transport.grpc_streams import FEDERATION
from heron_client.transport.trust import Trust
from heron_client.trust import choose_trust
from heron_core.data.facts import DataFacts
from heron_core.errors import ConfigError, HeronError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_core.trust.addresses import host_of, is_socket, port_of

PATIENCE_S = 3.0
"""For one try to connect."""
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Visit:
    """What the checks share."""

    settings: ClientSettings
    insecure: bool = False
    now: datetime | None = None
    """What the clock says. None: what it says when it is asked."""

    @property
    def time(self) -> datetime:
        """By this machine's clock."""
        return self.now or datetime.now(UTC)

    @property
    def host(self) -> str:
        """The server's, without brackets; empty for a socket of this machine."""
        return "" if is_socket(self.settings.server) else host_of(self.settings.server)

    @property
    def port(self) -> int:
        """The server's."""
        return port_of(self.settings.server)

    @property
    def by_name(self) -> bool:
        """Has the host to be looked up?"""
        try:
            ip_address(self.host)
        except ValueError:
            return bool(self.host)
        return False

    @cached_property
    def trust(self) -> Trust:
        """How connections are made. Raises ConfigError."""
        return choose_trust(self.settings, self.insecure)

    @cached_property
    def addresses(self) -> list[str]:
        """The host's, as this machine's own resolver has them. Raises OSError."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    @cached_property
    def _asked(self) -> pb.JoinReply | HeronError:
        try:
            return ask_server(self.settings, self.trust)
        except HeronError as error:
            return error

    @property
    def reached(self) -> bool:
        """Does a Heron server answer, whatever it says? It is not asked where this client may not go to it so."""
        return not isinstance(self._asked, Unreachable | ConfigError)

    def answer(self) -> pb.JoinReply:
        """To a Join that takes no place. Raises PeerError or ConfigError."""
        if isinstance(self._asked, HeronError):
            raise self._asked
        return self._asked

    def reaches(self, address: str, *options: tuple[str, str | int]) -> bool:
        """Does a server answer gRPC there, with these options of it?"""
        with self.trust.channel(address, *options) as channel:
            join: grpc.UnaryUnaryMultiCallable[pb.JoinRequest, pb.JoinReply] = channel.unary_unary(
                FEDERATION + "Join", pb.JoinRequest.SerializeToString, pb.JoinReply.FromString
            )
            try:
                join(pb.JoinRequest(), timeout=PATIENCE_S)
            except grpc.RpcError as error:
                return error.code() not in SILENT
        return True

    @cached_property
    def spec(self) -> RunSpec:
        """The run's settings. Raises PeerError or ConfigError."""
        return run_spec_of(self.answer())

    @cached_property
    def trial(self) -> Trial:
        """The run's work, on this machine. Raises ModelError, ConfigError or PeerError."""
        return trial_of(self.settings, self.trust, self.answer())

    def compared(self, facts: DataFacts) -> list[str]:
        """What the server finds doubtful about this data. Raises DataError where it cannot be that of the run."""
        return doubts_of(ask_server(self.settings, self.trust, self.answer().run_id, facts))
