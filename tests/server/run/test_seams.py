"""What stands behind the run's seams is its own: another trainer, another aggregation rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny
from server.driven import Array, Client, Start, play_round

from heron_core.arrays import TensorSpec
from heron_core.measures import Metric, pair
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.rules import Rule
from heron_server.config import ServerSettings
from heron_server.metrics.counts import Counts
from heron_server.run.coordinator import Coordinator
from heron_server.storage.run_dir import RunDir
from heron_server.training.commands import ClientTensors, Commands, RoundEnd, TrainedModel
from heron_server.training.worker import InlineWorker
from heron_server.uploads.assembly import Upload
from heron_server.uploads.cut_gradients import CutGradients


class Adding:
    """A trainer without a model: its back is the sum of all activations that came."""

    uploaded = (TensorSpec("activations", (6,)), TensorSpec("labels", (), "int64"))
    metrics = (Metric("accuracy", higher_is_better=True),)
    has_test_set = True
    classes = 0

    def __init__(self) -> None:
        self.total, self.trained_uploads = 0.0, 0

    def client_tensors(self) -> ClientTensors:
        return ClientTensors({"front.weight": np.zeros(3, np.float32)}, frozenset())

    def train(self, client: str, rank: int, round_number: int, upload: Upload) -> CutGradients | None:
        self.total += float(upload.activations[0].sum())
        self.trained_uploads += 1
        return None

    def evaluate_upload(self, client: str, upload: Upload) -> Counts:
        raise AssertionError("it has a test set")

    def evaluate(self) -> Counts:
        return Counts(samples=4, measured={"accuracy": pair(3, 4)}, loss_sum=1.0)

    def end_round(self, round_number: int, state: Mapping[str, Array], weights: Mapping[int, float]) -> RoundEnd:
        mean, self.trained_uploads = self.total / self.trained_uploads, 0
        return RoundEnd(mean, dict(state), (), {})

    def align(self, round_number: int, heads: Mapping[int, Mapping[str, Array]]) -> dict[int, dict[str, Array]]:
        raise AssertionError("no head is ever due")

    def save(self) -> dict[str, Array]:
        return self.back_tensors()

    def mismatches(self, tensors: Mapping[str, Array]) -> list[str]:
        return []

    def load(self, client_state: Mapping[str, Array], tensors: Mapping[str, Array]) -> None:
        self.total, self.trained_uploads = float(tensors["back.total"]), 0

    def back_tensors(self) -> dict[str, Array]:
        return {"back.total": np.array(self.total)}

    def trained(self) -> TrainedModel:
        raise AssertionError("there is no model")


def test_a_run_asks_nothing_of_its_trainer_but_its_commands(tmp_path: Path) -> None:
    trainer: Commands = Adding()
    directory = RunDir(tmp_path / "run")
    settings = ServerSettings.model_validate({"quorum": 1.0, "abandoned_pause_s": 0.0})
    coordinator = Coordinator(tiny.spec(), settings, trainer, directory, InlineWorker())
    clients = [Client(coordinator, name) for name in "ab"]
    play_round(clients)
    after_one = trainer.save()
    clients[0].open()
    clients[0].push(0)
    assert trainer.save() != after_one
    coordinator.client_failed("a", "told so")
    assert trainer.save() == after_one, "an abandoned round leaves no trace"
    play_round(clients)
    assert coordinator.finished and coordinator.failure is None
    assert [record["accuracy"] for record in coordinator.records.history] == [0.75, 0.75]
    directory.close()


class LowestRankAlone:
    """Chooses one client."""

    def aggregate(self, updates: Updates) -> Aggregated:
        rank = min(updates.states)
        return Aggregated(dict(updates.states[rank]), {rank: 1.0})


def test_a_rule_that_chooses_clients_chooses_their_backs_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.run.phases.make.RULES", {"uniform": Rule(lambda _: LowestRankAlone(), 0, 1)})
    server = start(rounds=1, method={"name": "sflv1"})
    clients = server.clients("ab")
    for client in clients:
        client.open()
    for step in range(4):
        for client in clients:
            client.push(step)
    chosen = {n: t.clone() for n, t in server.trainer._backs.trainee(0).module.state_dict().items()}
    sent = clients[0].state()
    for client in clients:
        client.submit()
    assert server.coordinator.finished
    assert all(np.array_equal(server.coordinator.states.common(1)[n], t) for n, t in sent.items())
    back = server.trainer.back_tensors()
    assert all(np.array_equal(back[f"back.{n}"], t.numpy()) for n, t in chosen.items())
