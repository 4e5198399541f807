"""How many samples an evaluation takes at a time: as many as their outputs leave room for."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from heron_core.arrays import TensorSpec
from heron_core.data.source import ArraySource
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.next_token import NextToken
from heron_server.metrics.counts import evaluation_rows
from heron_server.training.trainer import Trainer

LENGTH, VOCABULARY = 16, 4096


def test_outputs_of_a_few_classes_leave_the_usual_number_and_a_large_vocabulary_few() -> None:
    assert evaluation_rows((10,)) == evaluation_rows((80, 48)) == 256
    assert evaluation_rows((64, 49152)) == 21 and evaluation_rows((2048, 49152)) == 1


def test_the_logits_of_a_test_set_are_never_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Back(nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            seen.append(len(hidden))
            return super().forward(hidden)

    model = SplitModel(
        front=lambda: nn.Embedding(VOCABULARY, 2), auxiliary=lambda: nn.Linear(2, VOCABULARY),
        back=lambda: Back(2, VOCABULARY), inputs=(TensorSpec("tokens", (LENGTH,), "int64", count=VOCABULARY),),
        activations=(TensorSpec("hidden", (LENGTH, 2)),), task=NextToken(VOCABULARY, LENGTH),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, VOCABULARY, (2, 20, LENGTH))
    labels[:, :5] = -100
    labels[7] = -100
    made = Trainer(tiny.spec(), model, torch.device("cpu"), ArraySource(tokens, labels))
    whole = made.evaluate(batch_rows=20)
    monkeypatch.setattr("heron_server.metrics.counts.EVALUATION_BYTES", 6 * LENGTH * VOCABULARY * 4)
    seen.clear()
    found = made.evaluate()
    assert seen == [6, 6, 6, 2] and found.samples == 20
    (loss, count), (right, places) = found.measured["token_loss"], found.measured["token_accuracy"]
    assert count == places == 19 * 11 and right == whole.measured["token_accuracy"][0]
    assert loss == pytest.approx(whole.measured["token_loss"][0])
