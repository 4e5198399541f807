"""What calls and messages cost, by RPC. Each transport reports what passes through it: the gRPC server in an
interceptor, the simulator's transport where a message would have crossed the wire.

The frames of uploads, and an update that is one, are charged where they are taken: only there is known what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.frames import Bulk
from heron_server.metrics.ledger import Direction, Kind, Ledger


@dataclass(frozen=True)
class Tariff:
    """To which kind the payload of an RPC's messages is charged, their rest to control. None: not charged here."""

    opening: Kind | None
    """The first message up, or the only one."""
    up: Kind | None
    """Those after it."""
    down: Kind | None


TARIFFS = {
    "Join": Tariff("control", None, "control"),
    "WatchRounds": Tariff(None, "control", "client_state_down"),
    "FetchModel": Tariff("control", None, "client_state_down"),
    "FetchGraphs": Tariff("control", None, "control"),
    "SubmitUpdate": Tariff("client_state_up", "client_state_up", None),
    "Leave": Tariff(None, None, None),
    "PushActivations": Tariff("control", None, "cut_gradients_down"),
}
"""A first beat, an update's reply and a Leave are a few bytes once a session or a round, and not charged."""


class Charges:
    """Opens the account of each call of a server."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def call(self, rpc: str) -> ChargedCall:
        """Charges the headers of a call of `rpc`, and at Join the client's connections."""
        if rpc == "Join":
            self._ledger.charge_session()
        self._ledger.charge_call()
        return ChargedCall(self._ledger, TARIFFS[rpc])


class ChargedCall:
    """One call's account: its transport says which messages pass."""

    def __init__(self, ledger: Ledger, tariff: Tariff) -> None:
        self._ledger, self._tariff = ledger, tariff
        self._up = tariff.opening

    def up(self, message: Message | Bulk[Message]) -> None:
        """The client has sent `message`."""
        self._charge("up", self._up, message)
        self._up = self._tariff.up

    def down(self, message: Message | Bulk[Message]) -> None:
        """The server sends `message`."""
        self._charge("down", self._tariff.down, message)

    def _charge(self, direction: Direction, kind: Kind | None, message: Message | Bulk[Message]) -> None:
        if kind is None:
            return
        if isinstance(message, Bulk):
            self._ledger.charge(direction, message.message_bytes, kind, message.payload_bytes)
        elif isinstance(message, pb.RoundEvent):
            self._ledger.charge(direction, message.ByteSize(), kind, len(message.round_begins.state.payload))
        else:
            self._ledger.charge(direction, message.ByteSize())
