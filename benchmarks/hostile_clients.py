"""Hostile clients for the table of attacks: real clients of the simulator whose transport lies.

Each holds a session of its own, under a proved name, as a member has whose box was taken over. What it knows of the
honest ones it overhears (`Plot`): more than most attackers have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heron_client.transport.interface import Accept, PushStream, Transport
from heron_core.arrays import Array
from heron_core.errors import HeronError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.streams import generator
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import DTYPES
from heron_core.wire.frames import Bulk
from heron_simulator.forwarding import Forwarding

Arrays = Mapping[str, Array]
Twist = Callable[[Array, Array, np.random.Generator], Array]
"""(a tensor of the update, the same as it was fetched, a random stream) -> what is sent in its place."""
UploadTwist = Callable[[str, Array, int, int], Array]
"""(name, a tensor of a micro-batch, round, classes) -> what is sent in its place."""
PLACES = {0: (), 1: (4,), 3: (1, 4, 7)}
"""Which of the ten clients are hostile: neither first nor last in rank order."""
MOST_TRIES = 5
"""So often a hostile client sees one and the same round begin, before the run counts as stopped by it."""
TWISTS = {"sign_flip": -3.0, "scaled": 30.0, "noise": 10.0, "inner_product": -0.5, "activations": 1e4}
"""Factor of each attack that has one; see `UPDATES` and `UPLOADS`."""


class Stalled(Exception):
    """The hostile clients keep a round from ever ending."""


@dataclass
class Plot:
    """What the hostile clients of one run know together, and how they fared."""

    seed: int
    classes: int = 10
    hostile: tuple[int, ...] = ()
    clients: int = 10
    joined: int = 0
    honest: dict[int, dict[int, tuple[Any, dict[str, Array]]]] = field(default_factory=dict)
    """By round and place: the update of an honest client, header and tensors."""
    sessions: dict[int, tuple[str, str]] = field(default_factory=dict)
    """By place: name and session of an honest client."""
    refused: int = 0
    accepted: int = 0
    """Of the messages that no member may send."""

    def honest_of(self, number: int) -> list[dict[str, Array]]:
        """Updates of the honest in round `number`, if all are in; else none."""
        found = self.honest.get(number, {})
        return [found[place][1] for place in sorted(found)] if len(found) == self.clients - len(self.hostile) else []

    def forbidden(self, call: Callable[[], object]) -> None:
        """Does what the server must refuse."""
        try:
            call()
        except HeronError:
            self.refused += 1
        else:
            self.accepted += 1


def around(attack: str, plot: Plot) -> Callable[[Transport], Transport]:
    """For `simulate`: hostile transports at the plot's places, overheard ones at the others."""

    def wrap(inner: Transport) -> Transport:
        place, plot.joined = plot.joined, plot.joined + 1
        if place not in plot.hostile:
            return Overheard(inner, plot, place)
        return KINDS.get(attack, Hostile)(inner, plot, place, attack)

    return wrap


class Overheard(Forwarding):
    """An honest client; the hostile ones learn its session and its updates."""

    def __init__(self, inner: Transport, plot: Plot, place: int) -> None:
        super().__init__(inner)
        self._plot, self._place, self._name = plot, place, ""

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        reply = self._inner.join(request)
        self._plot.sessions[self._place] = (request.client_name, reply.session_id)
        return reply

    def submit(self, header: pb.UpdateHeader, arrays: Arrays) -> pb.SubmitUpdateReply:
        self._plot.honest.setdefault(header.round, {})[self._place] = (_copied(header), copied(arrays))
        self._plot.honest.pop(header.round - 2, None)
        return self._inner.submit(header, arrays)


class Hostile(Forwarding):
    """Computes as an honest client does, and changes what leaves: its updates, its uploads, or both."""

    def __init__(self, inner: Transport, plot: Plot, place: int, attack: str) -> None:
        super().__init__(inner)
        self._plot, self._place, self._attack = plot, place, attack
        self._before: dict[str, Array] = {}
        self._begun = [0, 0]
        self._opening = split.FrameHeader()

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        event = self._inner.next_event(timeout_s)
        if event is not None and event.WhichOneof("event") == "round_begins":
            again = event.round_begins.round == self._begun[0]
            self._begun = [event.round_begins.round, self._begun[1] + 1 if again else 1]
            if self._begun[1] > MOST_TRIES:
                raise Stalled(f"round {self._begun[0]} has begun {MOST_TRIES} times")
        return event

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        arrays = self._inner.fetch_model(request, accept)
        self._before = copied(arrays)
        return arrays

    def open_push(self, opening: split.FrameHeader) -> PushStream:
        self._opening = opening
        twist = UPLOADS.get(self._attack)
        stream = self._inner.open_push(opening)
        return stream if twist is None else HostilePush(stream, self._plot, twist, opening.round)

    def submit(self, header: pb.UpdateHeader, arrays: Arrays) -> pb.SubmitUpdateReply:
        twist = UPDATES.get(self._attack)
        return self._inner.submit(header, arrays if twist is None else self._twisted(twist, header.round, arrays))

    def _twisted(self, twist: Twist, number: int, arrays: Arrays) -> dict[str, Array]:
        """Each floating-point tensor changed; second moments stay what a client can have."""
        random = generator(self._plot.seed, "attack", number, self._place)
        result = copied(arrays)
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                changed = twist(array.astype(np.float64), self._before[name].astype(np.float64), random)
                changed = np.maximum(changed, 0.0) if name == "moments.second" else changed
                result[name] = np.asarray(changed).astype(array.dtype)
        return result


class InnerProduct(Hostile):
    """Waits for the honest updates, and sends their mean change times a small negative number, as its whole party does.

    Xie, Koyejo and Gupta, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation, UAI 2019.
    """

    _held: tuple[pb.UpdateHeader, dict[str, Array]] | None = None

    def submit(self, header: pb.UpdateHeader, arrays: Arrays) -> pb.SubmitUpdateReply:
        self._held = (_copied(header), copied(arrays))
        return pb.SubmitUpdateReply()

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        if self._held is not None and (honest := self._plot.honest_of(self._held[0].round)):
            (header, arrays), self._held = self._held, None
            means = {name: np.mean([h[name].astype(np.float64) for h in honest], axis=0) for name in arrays}
            factor, before = TWISTS[self._attack], self._before
            lies = {name: before[name] + factor * (means[name] - before[name]) for name in arrays}
            for name, array in arrays.items():
                if array.dtype.kind == "f":
                    lie = np.maximum(lies[name], 0.0) if name == "moments.second" else lies[name]
                    arrays[name] = np.asarray(lie).astype(array.dtype)
            self._inner.submit(header, arrays)
        return super().next_event(timeout_s)


class Replaying(Hostile):
    """Honest, and sends once more what it and others sent in the round before."""

    _last: tuple[pb.UpdateHeader, dict[str, Array], split.FrameHeader] | None = None

    def submit(self, header: pb.UpdateHeader, arrays: Arrays) -> pb.SubmitUpdateReply:
        plot, inner = self._plot, self._inner
        if self._last is not None:
            old, state, opening = self._last
            plot.forbidden(lambda: inner.submit(old, state))
            plot.forbidden(lambda: inner.open_push(opening))
            for theirs, their_state in plot.honest.get(old.round, {}).values():
                plot.forbidden(lambda h=theirs, s=their_state: inner.submit(h, s))  # type: ignore[misc]
        self._last = (_copied(header), copied(arrays), self._opening)
        return inner.submit(header, arrays)


class Impersonating(Hostile):
    """Honest, and calls in the names and sessions of the others, of which it knows all."""

    def submit(self, header: pb.UpdateHeader, arrays: Arrays) -> pb.SubmitUpdateReply:
        for name, session in self._plot.sessions.values():
            self._speak_as(name, session, header, arrays)
        return self._inner.submit(header, arrays)

    def _speak_as(self, name: str, session: str, header: pb.UpdateHeader, arrays: Arrays) -> None:
        plot, inner = self._plot, self._inner
        forged, opening = _copied(header), split.FrameHeader()
        forged.session_id = session
        opening.CopyFrom(self._opening)
        opening.session_id = session
        wild = {n: a * 100 if a.dtype.kind == "f" else a for n, a in arrays.items()}
        join = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=b"h" * 16)
        fetch = pb.FetchModelRequest(session_id=session, version=header.round - 1)
        plot.forbidden(lambda: inner.join(join))
        plot.forbidden(lambda: inner.fetch_model(fetch, lambda manifest: None))
        plot.forbidden(lambda: inner.open_push(opening))
        plot.forbidden(lambda: inner.submit(forged, wild))
        plot.forbidden(lambda: inner.leave(pb.LeaveRequest(session_id=session, reason="forged")))


class HostilePush(PushStream):
    """Rewrites each micro-batch of a round's uploads; each is one frame, as small models have it."""

    def __init__(self, inner: PushStream, plot: Plot, twist: UploadTwist, number: int) -> None:
        self._inner, self._plot, self._twist, self._number = inner, plot, twist, number

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        tensors, payload, offset, parts = frame.rest.header.manifest.tensors, frame.payload, 0, []
        assert tensors, "a micro-batch in several frames"
        for meta in tensors:
            dtype, count = DTYPES[meta.dtype], int(np.prod(tuple(meta.shape)))
            array = np.frombuffer(payload, dtype, count, offset)
            parts.append(np.asarray(self._twist(meta.name, array, self._number, self._plot.classes)).tobytes())
            offset += array.nbytes
        self._inner.send(Bulk(frame.rest, (b"".join(parts),)))

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        return self._inner.receive(timeout_s)

    def close(self) -> None:
        self._inner.close()


def copied(arrays: Arrays) -> dict[str, Array]:
    """The client goes on to change its own."""
    return {name: array.copy() for name, array in arrays.items()}


def _copied(header: pb.UpdateHeader) -> pb.UpdateHeader:
    copy = pb.UpdateHeader()
    copy.CopyFrom(header)
    return copy


def _noise(now: Array, before: Array, random: np.random.Generator) -> Array:
    size = TWISTS["noise"] * float(np.sqrt(np.mean(np.square(now - before))))
    return np.asarray(now + size * random.standard_normal(now.shape))


def _flip(name: str, array: Array, number: int, classes: int) -> Array:
    return classes - 1 - array if name == "labels" else array


def _large(name: str, array: Array, number: int, classes: int) -> Array:
    return array if name == "labels" else (array * TWISTS["activations"]).astype(array.dtype)


def _not_a_number(name: str, array: Array, number: int, classes: int) -> Array:
    """In odd rounds; in even ones it is the update's turn."""
    return array if name == "labels" or number % 2 == 0 else np.full_like(array, np.nan)


UPDATES: dict[str, Twist] = {
    "sign_flip": lambda now, before, random: before + TWISTS["sign_flip"] * (now - before),
    "scaled": lambda now, before, random: before + TWISTS["scaled"] * (now - before),
    "noise": _noise,
    "nan": lambda now, before, random: np.full_like(now, np.nan),
}
UPLOADS: dict[str, UploadTwist] = {"label_flip": _flip, "activations": _large, "nan": _not_a_number}
KINDS: dict[str, type[Hostile]] = {
    "inner_product": InnerProduct, "replay": Replaying, "impersonation": Impersonating,
}  # fmt: skip
