"""What stands between a simulated client and the server: a recorder of messages, and chance that makes it vanish.

Each wraps a client's in-process Transport and hands everything else on.
"""

from __future__ import annotations

from typing import Any

from heron_core.errors import Unreachable
from heron_core.models.split_model import SplitModel
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.streams import generator
from heron_core.wire.bulk import state_chunks, update_chunks
from heron_core.wire.frames import Bulk
from heron_server.planning.macs import base_macs, client_step_macs
from heron_server.planning.plan import upload_bytes
from heron_simulator.network_model import Compute, Figures, Link, Sent, figures, window_of
from heron_simulator.settings import NetworkSettings, SimulateSettings


class Surroundings:
    """One simulated run's; give `around` to `simulate`, and ask for the figures after it."""

    def __init__(self, spec: RunSpec, settings: SimulateSettings) -> None:
        self._spec, self._settings = spec, settings
        self.rounds: dict[tuple[int, int], dict[int, Sent]] = {}
        """(term, round) -> rank -> its messages."""

    def around(self, transport: Any) -> Any:
        recorded = Recorded(transport, self.rounds)
        dropout = self._settings.dropout
        return Unsteady(recorded, self._spec.seed, dropout) if dropout else recorded

    def figures(self, model: SplitModel, byte_budget: int) -> Figures:
        """Messages, and seconds of each round on the virtual clock."""
        spec, network, whole_bytes = self._spec, self._settings.network, upload_bytes(self._spec, model)
        return figures(
            self.rounds, link_of(network), compute_of(network, spec, model), local_steps=spec.method.local_steps,
            upload_period=spec.method.upload_period, byte_budget=byte_budget, upload_bytes=whole_bytes,
            window=window_of(whole_bytes // pieces_of(spec.method)),
        )  # fmt: skip


class Recorded:
    """Notes each message's bytes on the wire, by round and rank. What evaluation sends is not a round's."""

    def __init__(self, inner: Any, rounds: dict[tuple[int, int], dict[int, Sent]]) -> None:
        self._inner, self._rounds, self._sent = inner, rounds, Sent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        event: pb.RoundEvent | None = self._inner.next_event(timeout_s)
        if event is None:
            return None
        if event.WhichOneof("event") == "evaluation_begins":
            self._sent = Sent()
        elif event.WhichOneof("event") == "round_begins":
            begins = event.round_begins
            by_rank = self._rounds.setdefault((begins.term, begins.round), {})
            self._sent = by_rank.setdefault(begins.rank, Sent())
        self._sent.down(event.ByteSize())
        return event

    def fetch_model(self, request: pb.FetchModelRequest) -> tuple[Any, dict[str, Any]]:
        manifest, arrays = self._inner.fetch_model(request)
        self._sent.fetch = self._sent.up(request.ByteSize())
        self._sent.state = sum(self._sent.down(chunk.message_bytes) for chunk in state_chunks(arrays))
        return manifest, arrays

    def open_push(self, opening: split.FrameHeader) -> RecordedPush:
        self._sent.opening = self._sent.up(split.ActivationFrame(header=opening).ByteSize())
        return RecordedPush(self._inner.open_push(opening), self._sent)

    def submit(self, header: pb.UpdateHeader, arrays: dict[str, Any]) -> pb.SubmitUpdateReply:
        self._sent.update = sum(self._sent.up(chunk.message_bytes) for chunk in update_chunks(header, arrays))
        reply: pb.SubmitUpdateReply = self._inner.submit(header, arrays)
        self._sent.down(reply.ByteSize())
        return reply


class RecordedPush:
    """One round's stream of uploads."""

    def __init__(self, inner: Any, sent: Sent) -> None:
        self._inner, self._sent = inner, sent

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        header, uploads = frame.rest.header, self._sent.uploads
        while len(uploads) <= header.step:
            uploads.append([])
        if header.offset == 0:
            uploads[header.step].append(0)
        uploads[header.step][-1] += self._sent.up(frame.message_bytes)
        self._inner.send(frame)

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        event: Bulk[split.PushEvent] | None = self._inner.receive(timeout_s)
        if event is not None:
            self._received(event)
        return event

    def close(self) -> None:
        self._inner.close()

    def _received(self, event: Bulk[split.PushEvent]) -> None:
        wire_bytes = self._sent.down(event.message_bytes)
        if event.rest.WhichOneof("event") == "cut_gradients":
            step, gradients = event.rest.cut_gradients.step, self._sent.gradients
            gradients.extend([0] * (step + 1 - len(gradients)))
            gradients[step] += wire_bytes


class Unsteady:
    """A client that vanishes from some rounds as they begin, and is back at once to wait for the next."""

    def __init__(self, inner: Any, seed: int, dropout: float) -> None:
        self._inner, self._seed, self._dropout = inner, seed, dropout
        self._session_id = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        self._session_id = session_id
        self._inner.watch(session_id, heartbeat_s, silence_s)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        event: pb.RoundEvent | None = self._inner.next_event(timeout_s)
        if event is not None and event.WhichOneof("event") == "round_begins" and self._vanishes(event.round_begins):
            reason = f"vanished from round {event.round_begins.round} (simulate.dropout)"
            self._inner.leave(pb.LeaveRequest(session_id=self._session_id, reason=reason))
            raise Unreachable(reason)
        return event

    def _vanishes(self, begins: pb.RoundBegins) -> bool:
        """By round and term, so that a round which was abandoned for want of clients is not so for ever."""
        path = ("simulate", "dropout", "round", begins.round, "term", begins.term, "client", begins.rank)
        return float(generator(self._seed, *path).random()) < self._dropout


def link_of(network: NetworkSettings) -> Link:
    rates = (rate or network.mbit_per_s or float("inf") for rate in (network.up_mbit_per_s, network.down_mbit_per_s))
    return Link(network.latency_ms / 1e3, *(1e6 * rate for rate in rates))


def compute_of(network: NetworkSettings, spec: RunSpec, model: SplitModel) -> Compute:
    """A step takes as long as its multiply-accumulates, or as the settings say."""
    step_s = network.compute_s_per_step
    if not step_s and network.client_gmacs_per_s:
        step_s = client_step_macs(spec, model) / (network.client_gmacs_per_s * 1e9)
    return Compute(step_s, upload_shares(spec, model), network.server_s_per_step)


def upload_shares(spec: RunSpec, model: SplitModel) -> tuple[float, ...]:
    """Share of a step's multiply-accumulates after which each micro-batch's activations leave.

    Cut gradients: after the forward pass. Losses alone: after the piece's base pass, and the probes of the pieces
    before it where a piece is probed before the next begins. Else: after all that there is to do for the piece.
    """
    pieces, front = pieces_of(spec.method), method_of(spec.method).front
    base = base_macs(spec, model) / client_step_macs(spec, model)
    if front not in ("zeroth_order", "cut_gradients"):
        return tuple((piece + 1) / pieces for piece in range(pieces))
    if spec.method.zo.scope == "batch":
        return tuple(base * (piece + 1) / pieces for piece in range(pieces))
    return tuple((piece + base) / pieces for piece in range(pieces))


def pieces_of(method: MethodSpec) -> int:
    """Micro-batches of one step."""
    return method.batch_size // method.micro_batch_rows
