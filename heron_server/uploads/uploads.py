"""One phase's uploads from their first frame until they are consumed, and the events that answer them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Literal

from heron_core.errors import StaleTerm, TensorError
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.frames import Bulk
from heron_server.metrics.ledger import Ledger
from heron_server.uploads.assembly import Assembly, Upload
from heron_server.uploads.cut_gradients import CutGradients, Unconfirmed
from heron_server.uploads.scheduler import Order, Scheduler

Send = Callable[[Bulk[pb.PushEvent]], None]
Named = tuple[str, Upload]
"""(client name, its upload)"""


class Uploads:
    """A training round's or an evaluation's uploads. `on_turn` gets each when its turn has come: one, or with `pooled`
    one of each client, in rank order."""

    def __init__(
        self, purpose: pb.Purpose, term: int, round_number: int, assemblies: Mapping[str, Assembly], slots: int,
        order: Order, ledger: Ledger, on_turn: Callable[[Sequence[Named]], None],
        clock: Callable[[], float] | None = None, *, pooled: bool = False,
    ) -> None:  # fmt: skip
        self.purpose, self.term, self.round = purpose, term, round_number
        self._assemblies = dict(assemblies)
        counts = {name: a.count for name, a in assemblies.items()}
        self.scheduler = Scheduler(counts, slots, order, clock, pooled=pooled)
        self._ledger, self._on_turn, self._pooled = ledger, on_turn, pooled
        self._whole: dict[tuple[str, int], Upload] = {}
        self._streams: dict[str, Send] = {}
        self._credits: dict[str, int] = {}
        self._ready: deque[Sequence[Named]] = deque()
        self._unconfirmed = Unconfirmed()
        self._handing = False
        self.ended = False
        """The phase is over or abandoned: nothing of it counts any more."""

    def open(self, name: str, opening: pb.FrameHeader, send: Send) -> None:
        """A client's stream begins or comes back; its Position is sent. Raises StaleTerm or TensorError."""
        if (opening.term, opening.round, opening.purpose) != (self.term, self.round, self.purpose):
            raise StaleTerm(
                f"the server is at term {self.term}, round {self.round}; these uploads are of term {opening.term}, "
                f"round {opening.round}: drop them and wait for the next event"
            )
        assembly = self._assembly(name)
        if opening.steps != assembly.count:
            raise TensorError(f"client {name!r}: a round has {assembly.count} uploads, got {opening.steps}")
        held = assembly.opened(opening)
        self._streams[name] = send
        self._credits[name] = self.scheduler.credit(name)
        position = pb.Position(sequence=assembly.sequence, credit_steps=self._credits[name], held=held)
        self._answer(name, pb.PushEvent(position=position))
        gradients = self._unconfirmed.again(name)
        if gradients is not None:
            self._send_gradients(name, gradients)

    def closed(self, name: str, send: Send) -> None:
        """The client's stream ended or broke."""
        if self._streams.get(name) is send:
            del self._streams[name]

    def frame(self, name: str, bulk: Bulk[pb.ActivationFrame]) -> None:
        """One frame; raises StaleTerm or TensorError, in which case nothing of it is kept."""
        header, payload = bulk.rest.header, bulk.payload_bytes
        kind: Literal["activations_up", "evaluation_up"]
        kind = "activations_up" if self.purpose == pb.PURPOSE_TRAIN else "evaluation_up"
        self._ledger.charge("up", bulk.message_bytes, kind, payload)
        if (header.term, header.round, header.purpose) != (self.term, self.round, self.purpose):
            raise StaleTerm(
                f"the server is at term {self.term}, round {self.round}, got a frame of {header.term}, {header.round}"
            )
        taken = self._assembly(name).take(header, bulk.payload, self._credits.get(name, 0))
        self._unconfirmed.confirm(name, header.step)
        if taken.sequence is None:
            return
        if kind == "activations_up":
            self._ledger.move(kind, "labels_up", taken.label_bytes)
        self._answer(name, pb.PushEvent(acknowledged=pb.Acknowledged(sequence=taken.sequence)))
        if taken.upload is not None:
            self._whole[name, taken.upload.number] = taken.upload
            self._hand_over(self.scheduler.complete(name, taken.upload.number))

    def consumed(self, name: str) -> None:
        """The worker is done with an upload; its place becomes credit."""
        self.scheduler.consumed(name)
        self._grant()

    def return_gradients(self, name: str, gradients: CutGradients) -> None:
        """What comes back for an upload, also on a stream that comes back, until the client shows that it has it."""
        if name in self._assemblies:
            self._unconfirmed.keep(name, gradients)
            self._send_gradients(name, gradients)

    def finished(self, name: str) -> None:
        """The client's update is here: nothing more goes down to it."""
        self._unconfirmed.forget(name)

    def place(self, name: str) -> tuple[int, int]:
        """How far the client has come: whole micro-batches, and bytes of the next."""
        assembly = self._assemblies.get(name)
        return (assembly.sequence, assembly.received_bytes) if assembly is not None else (0, 0)

    def client_done(self, name: str) -> bool:
        """Are all uploads of the client consumed?"""
        return self.scheduler.client_done(name)

    def drop(self, name: str) -> None:
        """The client is out: its unreleased uploads are discarded."""
        self._assemblies.pop(name, None)
        self._unconfirmed.forget(name)
        self._streams.pop(name, None)
        ready = self.scheduler.drop(name)
        self._whole = {turn: upload for turn, upload in self._whole.items() if turn[0] != name}
        self._hand_over(ready)
        self._grant()

    def _assembly(self, name: str) -> Assembly:
        if name not in self._assemblies:
            raise StaleTerm(f"client {name!r} has no part in this round; wait for the next event")
        return self._assemblies[name]

    def end(self) -> None:
        """The phase is over or abandoned: nothing more is handed over."""
        self.ended = True
        self._ready.clear()
        self._whole.clear()
        self._assemblies.clear()  # a stream that stays open holds nothing of it

    def _hand_over(self, ready: list[tuple[str, int]]) -> None:
        """In order, also when taking an upload makes its client fail and so releases others."""
        named = [(name, self._whole.pop((name, number))) for name, number in ready]
        pools = (list(pool) for _, pool in groupby(named, lambda one: one[1].number))
        self._ready.extend(pools if self._pooled else ([one] for one in named))
        if self._handing:
            return
        self._handing = True
        try:
            while self._ready:
                self._on_turn(self._ready.popleft())
        finally:
            self._handing = False

    def _grant(self) -> None:
        for name in self.scheduler.take_raised():
            credit = self.scheduler.credit(name)
            if name in self._streams and credit > self._credits.get(name, 0):
                self._credits[name] = credit
                self._answer(name, pb.PushEvent(credit=pb.Credit(steps=credit)))

    def _send_gradients(self, name: str, gradients: CutGradients) -> None:
        send = self._streams.get(name)
        if send is None:
            return
        for bulk in gradients.events():
            send(bulk)

    def _answer(self, name: str, event: pb.PushEvent) -> None:
        send = self._streams.get(name)
        if send is not None:
            send(Bulk(event))
