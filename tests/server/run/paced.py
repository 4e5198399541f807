"""Driven clients whose local steps take time by the server's clock, which `play` moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from server.driven import PEER, Client, Server

from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.methods import uploads_per_round
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk

BEAT_S = 5


def beat(client: Client, step: int, **place: Any) -> None:
    """The client has done so many local steps of its round."""
    begins = client.begins
    fields = {"term": begins.term, "round": begins.round, "step": step, **place}
    client.coordinator.beat(PEER, pb.Beat(session_id=client.session, **fields))


class Paced:
    """Computes one local step after the other, sends what its credit allows, and beats every 5 s."""

    def __init__(self, client: Client, step_s: float) -> None:
        self.client, self.step_s = client, step_s
        self.method = client.coordinator.spec.method
        self._heard, self._step, self._ready_at, self._busy = 0, 0, 0.0, False

    def act(self, now: float) -> None:
        """What the client does at this moment."""
        self._listen(now)
        if now % BEAT_S == 0:
            beat(self.client, self._step) if self._busy else beat(self.client, 0, round=0, term=0)
        if not self._busy or now < self._ready_at:
            return
        if self._step == self.method.local_steps:
            self._busy = False
            self.client.submit()
            return
        number, rest = divmod(self._step + 1, self.method.upload_period)
        if uploads_per_round(self.method) and not rest:
            if self.client.credit < number:
                return
            self.client.push(number - 1)
        self._step += 1
        self._ready_at = now + self.step_s

    def _listen(self, now: float) -> None:
        events, self._heard = self.client.events[self._heard :], len(self.client.events)
        for kind in (event.WhichOneof("event") for event in events):
            if kind == "round_begins":
                self._step, self._ready_at, self._busy = 0, now + self.step_s, True
                self.client.answers.clear()
                if uploads_per_round(self.method):
                    self.client.open(steps=uploads_per_round(self.method))
            elif kind in ("dropped", "round_ends"):
                self._busy = False


def play(server: Server, clients: list[Paced], over: Callable[[], bool], longest_s: float = 20_000) -> None:
    """A second after the other, until `over`."""
    while not over():
        assert server.now < longest_s, "it did not end"
        for client in clients:
            client.act(server.now)
        server.coordinator.tick()
        server.now += 1


def trickled(client: Client, number: int = 0) -> Iterator[None]:
    """Sends an upload byte by byte, the next with each step of the iterator."""
    tensors = client.tensors(number)
    ((_, parts),) = chunks(list(tensors.values()))
    whole = b"".join(parts)
    for offset in range(len(whole)):
        header = split.FrameHeader(step=number, sequence=number, offset=offset, batch_rows=4, **client.place)
        if not offset:
            header.manifest.CopyFrom(manifest_of(tensors))
        frame = Bulk(split.ActivationFrame(header=header), (whole[offset : offset + 1],))
        client.coordinator.frame(client.pushing, frame)
        yield
