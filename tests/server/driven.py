"""A coordinator and its clients, driven by hand: no sockets, no threads, a clock that the test turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from server.heard import Heard

from heron_core.arrays import Array
from heron_core.errors import HeronError
from heron_core.models.split_model import SplitModel
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.methods import uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observers
from heron_server.run.coordinator import Coordinator
from heron_server.run.peer import Peer
from heron_server.storage.run_dir import RunDir
from heron_server.training.trainer import Trainer
from heron_server.training.worker import InlineWorker, Worker, outcome

MODEL = tiny.mlp()
HELD_OUT = 6
ALIGNED = {"every_rounds": 2, "passes": 3, "batch_size": 8, "buffer_samples": 8}
PEER = Peer("driven")


class QueuedWorker:
    """Runs a command when the test says so."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], Any]] = deque()

    def submit(self, command: Any, done: Any, failed: Any) -> None:
        self.queue.append(lambda: outcome(command, done, failed)())

    def run(self, count: int) -> None:
        while self.queue and count:
            self.queue.popleft()()
            count -= 1


class Server:
    """A coordinator on a clock that the test turns, and on an inline worker if the test brings no other."""

    def __init__(
        self, folder: Path, spec: RunSpec, resume: bool = False, model: SplitModel | None = None,
        worker: Worker | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        self.now, self.heard = 0.0, Heard()
        self.directory = RunDir(folder, settings.get("keep_checkpoints", 2))
        test = None if spec.data.source == "client" else tiny.source(MODEL)
        self.trainer = Trainer(spec, model or MODEL, torch.device("cpu"), test)
        chosen = ServerSettings.model_validate({"abandoned_pause_s": 0.0, **settings})
        try:
            self.coordinator = Coordinator(
                spec, chosen, self.trainer, self.directory, worker or InlineWorker(), resume,
                Observers([self.heard]), clock=lambda: self.now,
            )  # fmt: skip
        except HeronError:
            self.directory.close()
            raise

    def client(self, name: str) -> Client:
        return Client(self.coordinator, name)

    def clients(self, names: str) -> list[Client]:
        return [self.client(name) for name in names]

    @property
    def tensors(self) -> dict[str, Array]:
        """What a checkpoint would hold now."""
        return {**self.coordinator.states.tensors(self.coordinator.rounds_done), **self.trainer.save()}

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.coordinator.records.history

    def close(self) -> None:
        self.directory.close()


class Client:
    """Speaks to the coordinator as a transport does; sends made-up activations that depend on name, round and step."""

    def __init__(
        self, coordinator: Coordinator, name: str, key: bytes = b"k" * 16, peer: Peer = PEER
    ) -> None:
        self.coordinator, self.name, self.peer = coordinator, name, peer
        request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=key)
        self.reply = coordinator.join(peer, request)
        if not self.reply.session_id:  # it brings its own data, and says what that is
            request.data.CopyFrom(pb.DataFacts(run_id=self.reply.run_id, samples=HELD_OUT + 10))
            self.reply = coordinator.join(peer, request)
        self.session = self.reply.session_id
        self.events: list[pb.RoundEvent] = []
        self.answers: list[split.PushEvent] = []
        self.bulks: list[Bulk[split.PushEvent]] = []
        self.cut = False
        self.place: dict[str, int] = {}
        """Of the stream that was opened last."""
        coordinator.watch(peer, self.session, self.events.append, lambda _: setattr(self, "cut", True))

    def heard(self, kind: str) -> list[Any]:
        return [getattr(e, kind) for e in self.events if e.WhichOneof("event") == kind]

    @property
    def begins(self) -> pb.RoundBegins:
        return self.heard("round_begins")[-1]

    def tensors(self, step: int, rows: int = 4) -> dict[str, Array]:
        number = self.place.get("round") or self.begins.round
        rng = np.random.Generator(np.random.Philox([ord(self.name[0]), number, step]))
        labels = rng.integers(0, tiny.CLASSES, rows)
        return {"activations": rng.standard_normal((rows, 6), dtype=np.float32), "labels": labels}

    def open(self, purpose: int = split.PURPOSE_TRAIN, steps: int = 4) -> None:
        told = self.begins if purpose == split.PURPOSE_TRAIN else self.heard("evaluation_begins")[-1]
        self.place = {"term": told.term, "round": told.round, "purpose": purpose}
        opening = split.FrameHeader(run_id=self.reply.run_id, session_id=self.session, steps=steps, **self.place)
        self.pushing = self.coordinator.open_push(self.peer, opening, self._answered)

    def _answered(self, bulk: Bulk[split.PushEvent]) -> None:
        self.bulks.append(bulk)
        self.answers.append(bulk.rest)

    @property
    def credit(self) -> int:
        return max(max(e.position.credit_steps, e.credit.steps) for e in self.answers)

    def push(self, step: int, tensors: dict[str, Array] | None = None, rows: int = 4) -> None:
        tensors = tensors or self.tensors(step)
        ((offset, parts),) = chunks(list(tensors.values()))
        header = split.FrameHeader(step=step, sequence=step, offset=offset, batch_rows=rows, **self.place)
        header.manifest.CopyFrom(manifest_of(tensors))
        self.coordinator.frame(self.pushing, Bulk(split.ActivationFrame(header=header), parts))

    def fetch(self, version: int | None = None) -> dict[str, Array]:
        wanted = self.begins.version if version is None else version
        return self.coordinator.model(self.peer, pb.FetchModelRequest(session_id=self.session, version=wanted))

    def state(self) -> dict[str, Array]:
        """What goes up: the fetched tensors, each moved by the client's letter."""
        fetched, letter = self.fetch(), ord(self.name[0]) - 96
        names = [name for name, _, _ in self.coordinator.expected_update]
        return {n: (fetched[n] + letter).astype(fetched[n].dtype) for n in names}

    def submit(
        self, state: dict[str, Array] | None = None, step_seconds: float = 0.0,
        histogram: Sequence[int] = (), **header: Any,
    ) -> bool:  # fmt: skip
        state = state if state is not None else self.state()
        fields = {
            "run_id": self.reply.run_id, "term": self.begins.term, "round": self.begins.round,
            "session_id": self.session, "num_samples": 10, "held_out_samples": HELD_OUT, **header,
        }  # fmt: skip
        figures = pb.ClientFigures(
            mean_loss=1.0, forward_passes=8, step_seconds_median=step_seconds, class_histogram=histogram
        )
        update = pb.UpdateHeader(**fields, figures=figures)
        fresh = self.coordinator.check_update(self.peer, update, manifest_of(state))
        if fresh:
            self.coordinator.submit(self.peer, update, state)
        return fresh

    def leave(self) -> None:
        self.coordinator.leave(self.peer, pb.LeaveRequest(session_id=self.session, reason="enough"))


def play_round(clients: list[Client], backwards: bool = False) -> None:
    """Everyone pushes what its credit allows until all is sent, then submits."""
    order = clients[::-1] if backwards else clients
    steps = uploads_per_round(clients[0].coordinator.spec.method)
    for client in order if steps else ():
        client.answers.clear()
        client.open(steps=steps)
    sent = dict.fromkeys(order, 0)
    while min(sent.values()) < steps:
        for client in order:
            while sent[client] < min(steps, client.credit):
                client.push(sent[client])
                sent[client] += 1
    for client in order:
        client.submit()


def spoil(name: str, value: float) -> Callable[[dict[str, Array]], dict[str, Array]]:
    def spoiled(tensors: dict[str, Array]) -> dict[str, Array]:
        tensors[name].reshape(-1)[0] = value
        return tensors

    return spoiled


BAD_UPLOADS: dict[str, tuple[Callable[[dict[str, Array]], dict[str, Array]], str]] = {
    "NaN": (spoil("activations", np.nan), "must be finite, got 1 NaN"),
    "Inf": (spoil("activations", np.inf), "must be finite"),
    "a label out of range": (spoil("labels", 3), r"labels must lie in 0\.\.2"),
    "a wrong shape": (
        lambda t: {**t, "activations": t["activations"][:, :5]},
        r"must be float32 \[4, 6\], got float32 \[4, 5\]",
    ),
    "a wrong dtype": (lambda t: {**t, "activations": t["activations"].astype(np.float64)}, "got float64"),
    "a missing tensor": (lambda t: {"activations": t["activations"]}, r"missing \['labels'\]"),
}


Start = Callable[..., Server]
