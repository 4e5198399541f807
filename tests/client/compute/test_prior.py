"""A client's class shares in its loss: exact, in training alone, and only where backend and task can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
from client.compute.made import backend_of, round_of

from heron_client.compute.backend import MicroBatch
from heron_client.compute.prior import adjust_logits, log_prior
from heron_core.errors import ConfigError, ModelError

COUNTS = [7, 0, 1]


def test_shares_count_half_a_sample_of_each_class_more_so_that_a_class_that_lacks_is_no_infinity() -> None:
    shares = np.exp(log_prior(COUNTS, 1.0).astype(np.float64))
    np.testing.assert_allclose(shares, [7.5 / 9.5, 0.5 / 9.5, 1.5 / 9.5], rtol=1e-6)
    assert log_prior(COUNTS, 2.0).tolist() == (2 * log_prior(COUNTS, 1.0)).tolist()
    assert log_prior(COUNTS, 1.0).dtype == np.float32


@pytest.mark.parametrize("name", ["heron", "cse_fsl"])
def test_a_training_loss_is_of_the_adjusted_logits_and_activations_stay_as_they_are(name: str) -> None:
    spec, model = tiny.spec(method={"name": name, "local_steps": 1}), tiny.mlp()
    classes = model.task.labels.classes
    counts = [9, *[0] * (classes - 1)]
    losses, activations, updates = [], [], []
    for factor in (0.0, 1.0):
        backend = backend_of(spec, model)
        adjust_logits(backend, counts, factor)
        local = round_of(spec, backend)
        activations.append([u.tensors["activations"].copy() for u in local.uploads() if u is not None])
        losses += local.figures.losses
        updates.append(local.update())
    assert losses[0] != losses[1]
    assert all(np.array_equal(a, b) for a, b in zip(*activations, strict=True))
    assert any(not np.array_equal(t, updates[1][n]) for n, t in updates[0].items())


def test_a_gradient_at_a_class_share_of_one_is_gone() -> None:
    """Where a client has one class alone, that is explained by its shares: nothing is left to learn."""
    spec, model = tiny.spec(method={"name": "cse_fsl", "local_steps": 1}), tiny.mlp()
    source = tiny.source(model)
    kept = int(source.labels[0])
    counts = np.bincount(np.full(10**6, kept), minlength=model.task.labels.classes).tolist()
    backend = backend_of(spec, model)
    adjust_logits(backend, counts, 1.0)
    x, _ = source.batch(np.arange(4))
    (losses, _), gradient = backend.loss_gradient(
        MicroBatch(x, np.full(4, kept, np.int64), ("masks",)), 4, keep_activations=False
    )
    assert losses.max() < 1e-4 and np.abs(gradient).max() < 1e-4


def test_a_backend_that_cannot_and_a_task_without_classes_are_refused() -> None:
    backend: Any = object()
    with pytest.raises(ConfigError, match=r"logit_adjustment needs a client that can add to the logits, object cannot"):
        adjust_logits(backend, COUNTS, 1.0)
    model = tiny.mlp()
    without: Any = type("Plain", (), {"name": "plain", "labels": model.task.labels})()
    object.__setattr__(model, "task", without)
    with pytest.raises(ModelError, match=r"the task plain cannot adjust logits; set method.logit_adjustment to 0"):
        adjust_logits(backend_of(tiny.spec(), model), COUNTS, 1.0)
