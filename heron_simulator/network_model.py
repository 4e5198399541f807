"""How long a round takes over a slow network: recorded messages, replayed on a virtual clock. No waiting, no clock.

The model. Each client has a link of its own to the server: a message of b bytes that is handed over at time t starts
when the link is free, occupies it for 8 b / rate, and arrives one latency later. Bytes are those on the wire (message,
gRPC prefix, HTTP/2 frames); the connection is open and warm, nothing is lost, the server's own link is no limit.

A round, as the product's client and server go through it:

  RoundBegins down | fetch: request up, client state down | opening up, Position down | local steps | update up

A client state that is small comes with RoundBegins, and nothing is fetched.

A micro-batch leaves once it is computed, and once three things allow it: the link is free; no more than `window`
micro-batches are unacknowledged with it (two, or one where two are too large; one is acknowledged when it has arrived
whole); the upload has credit (`slots` uploads in canonical order at first, one more with each that is consumed). Where
the server returns cut gradients, the client goes on when they are here: a round trip each upload, less what it can
compute without them. Elsewhere it computes on while uploads are on their way. The update leaves when everything is
acknowledged.

The server takes uploads one at a time in canonical order: the first of each client by rank, then the second of each.
Where batches are mixed, it takes one of each at once, when the last of them is here.
The round is over when every update has arrived and every upload is consumed; aggregation, evaluation and the checkpoint
take no time. Clients that vanish from a round are not in it: how long the server waits for them is up to its deadlines,
not to this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from heron_core.wire.window import MAX_UNACKNOWLEDGED, may_follow
from heron_server.metrics.ledger import framed
from heron_server.uploads.scheduler import upload_slots


def window_of(micro_batch_bytes: int) -> int:
    """Micro-batches of this many bytes of tensors each that a client may have unacknowledged."""
    window = 1
    while may_follow(window, (window + 1) * micro_batch_bytes):
        window += 1
    return window


@dataclass(frozen=True)
class Link:
    """One client's connection; rates in bits a second, infinite where there is no limit."""

    latency_s: float = 0.0
    up_bit_per_s: float = float("inf")
    down_bit_per_s: float = float("inf")

    def up_s(self, wire_bytes: int) -> float:
        """Seconds for which a message to the server occupies the link."""
        return 8 * wire_bytes / self.up_bit_per_s

    def down_s(self, wire_bytes: int) -> float:
        """Seconds for which a message from the server occupies the link."""
        return 8 * wire_bytes / self.down_bit_per_s


@dataclass(frozen=True)
class Compute:
    """Seconds of work."""

    step_s: float = 0.0
    """One local step of a client."""
    upload_shares: tuple[float, ...] = ()
    """Share of a local step after which each of its micro-batches leaves; none: all at its end."""
    answer_share: float = 0.0
    """Share of a local step that is computed before the client waits for cut gradients; no less than has left."""
    server_step_s: float = 0.0
    """One optimiser step of the server."""


@dataclass
class Sent:
    """One client's messages of one round, as bytes on the wire."""

    fetch: int = 0
    """Request of the client state; 0: none was made."""
    state: int = 0
    """The client state that came down: all chunks, or the RoundBegins that brought it."""
    opening: int = 0
    uploads: list[list[int]] = field(default_factory=list)
    """Micro-batches of each upload, in the order of uploads."""
    gradients: list[int] = field(default_factory=list)
    """Cut gradients that came down for each upload; empty where none do."""
    update: int = 0
    """The update, all chunks. 0: the client vanished."""
    messages_up: int = 0
    messages_down: int = 0

    def up(self, message_bytes: int) -> int:
        """Counts one message up; its bytes on the wire."""
        self.messages_up += 1
        return framed(message_bytes)

    def down(self, message_bytes: int) -> int:
        """Counts one message down; its bytes on the wire."""
        self.messages_down += 1
        return framed(message_bytes)

    @property
    def wire_up(self) -> int:
        """All that the client sent, as bytes on the wire."""
        return self.fetch + self.opening + sum(map(sum, self.uploads)) + self.update


Recording = dict[tuple[int, int], dict[int, Sent]]
"""(term, round) -> rank -> what that client sent and got. A round that was abandoned stands under its own term."""


def round_seconds(
    clients: Sequence[Sent], link: Link, compute: Compute, *, local_steps: int, upload_period: int, slots: int,
    window: int = MAX_UNACKNOWLEDGED, mixing: bool = False,
) -> float:  # fmt: skip
    """Seconds from RoundBegins to the last update; `clients` by rank, those that took part."""
    runs = [_Client(sent, link, compute, upload_period, window) for sent in clients]
    consumed: list[float] = []
    server_free = 0.0
    for number in range(max((len(sent.uploads) for sent in clients), default=0)):
        for together in [runs] if mixing else [[client] for client in runs]:
            first = len(consumed)
            for turn, client in enumerate(together, first):
                credit_s = consumed[turn - slots] + link.latency_s if turn >= slots else 0.0
                server_free = max(server_free, client.upload(number, credit_s))
            server_free += len(together) * compute.server_step_s
            consumed += [server_free] * len(together)
            for client in together:
                client.returned(number, server_free)
    return max([server_free, *(client.update(local_steps) for client in runs)])


class _Client:
    """One client's virtual time."""

    def __init__(self, sent: Sent, link: Link, compute: Compute, upload_period: int, window: int) -> None:
        self._sent, self._link, self._compute, self._period = sent, link, compute, upload_period
        self._window = window
        self._steps = 0.0
        """Local steps computed, in fractions."""
        self._acknowledged: list[float] = []
        """When the client hears that each micro-batch has arrived."""
        self._now = link.latency_s + link.down_s(sent.state)  # RoundBegins is here
        if sent.fetch:
            self._now += link.up_s(sent.fetch) + 2 * link.latency_s
        self._link_free = self._now
        if sent.opening:
            self._now += link.up_s(sent.opening) + 2 * link.latency_s

    def upload(self, number: int, credit_s: float) -> float:
        """Computes up to each of the upload's micro-batches and sends it; when the last has arrived whole."""
        micro_batches = self._sent.uploads[number]
        shares = self._compute.upload_shares or (1.0,) * len(micro_batches)
        for share, wire_bytes in zip(shares, micro_batches, strict=True):
            self._compute_to((number + 1) * self._period - 1 + share)
            self._now = max(self._now, credit_s)
            if len(self._acknowledged) >= self._window:
                self._now = max(self._now, self._acknowledged[-self._window])
            self._transmit(wire_bytes)
            self._acknowledged.append(self._link_free + 2 * self._link.latency_s)
        return self._link_free + self._link.latency_s

    def returned(self, number: int, consumed_s: float) -> None:
        """Waits for the upload's cut gradients, if there are any."""
        if number < len(self._sent.gradients):
            self._compute_to(max(self._steps, (number + 1) * self._period - 1 + self._compute.answer_share))
            down_s = self._link.down_s(self._sent.gradients[number])
            self._now = max(self._now, consumed_s + down_s + self._link.latency_s)

    def update(self, local_steps: int) -> float:
        """Computes the rest, waits until all is acknowledged, sends the update; when it has arrived."""
        self._compute_to(local_steps)
        self._now = max(self._now, *self._acknowledged[-self._window :], 0.0)
        self._transmit(self._sent.update)
        return self._link_free + self._link.latency_s

    def _compute_to(self, steps: float) -> None:
        self._now += (steps - self._steps) * self._compute.step_s
        self._steps = steps

    def _transmit(self, wire_bytes: int) -> None:
        """Hands a message to the link; the client need not wait for it to leave."""
        self._link_free = max(self._link_free, self._now) + self._link.up_s(wire_bytes)


@dataclass(frozen=True)
class Figures:
    """What a run's messages come to."""

    round_s: tuple[float, ...]
    messages_up: int
    messages_down: int


def figures(
    recording: Recording, link: Link, compute: Compute, *, local_steps: int, upload_period: int, byte_budget: int,
    upload_bytes: int, window: int = MAX_UNACKNOWLEDGED, mixing: bool = False,
) -> Figures:  # fmt: skip
    """Of a whole recorded run; the server holds uploads up to `byte_budget`. An abandoned round is free."""
    took = []
    for _, by_rank in sorted(recording.items()):
        present = [sent for _, sent in sorted(by_rank.items()) if sent.update]
        if present:
            slots = upload_slots(byte_budget, upload_bytes, len(by_rank))
            took.append(round_seconds(
                present, link, compute, local_steps=local_steps, upload_period=upload_period, slots=slots,
                window=window, mixing=mixing,
            ))  # fmt: skip
    every = [sent for by_rank in recording.values() for sent in by_rank.values()]
    return Figures(tuple(took), sum(s.messages_up for s in every), sum(s.messages_down for s in every))
