"""Fault injection: chance that makes a simulated client vanish from a round."""

from __future__ import annotations

from heron_client.transport.interface import Transport
from heron_core.errors import Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.streams import generator
from heron_simulator.forwarding import Forwarding


class DroppingOut(Forwarding):
    """A client that vanishes from some rounds as they begin, and is back at once to wait for the next."""

    def __init__(self, inner: Transport, seed: int, chance: float) -> None:
        super().__init__(inner)
        self._seed, self._chance = seed, chance
        self._session_id = ""

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        self._session_id = session_id
        self._inner.watch(session_id, heartbeat_s, silence_s)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        """Raises Unreachable where the client vanishes; it has left its session by then."""
        event = self._inner.next_event(timeout_s)
        if event is not None and event.WhichOneof("event") == "round_begins" and self._vanishes(event.round_begins):
            reason = f"vanished from round {event.round_begins.round} (simulate.dropout)"
            self._inner.leave(pb.LeaveRequest(session_id=self._session_id, reason=reason))
            raise Unreachable(reason)
        return event

    def _vanishes(self, begins: pb.RoundBegins) -> bool:
        """By round and term, so that a round which was abandoned for want of clients is not so for ever."""
        path = ("simulate", "dropout", "round", begins.round, "term", begins.term, "client", begins.rank)
        return float(generator(self._seed, *path).random()) < self._chance
