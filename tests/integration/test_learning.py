"""The client learns: its auxiliary loss falls because of its updates, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from heron_client import local_round
from heron_core.config import load_toml
from heron_core.run_spec import RunSpec
from heron_server.demo import DEMO_FILE
from heron_server.simulator import simulate

ROUNDS = 4
WELL_BELOW = 0.7


def auxiliary_losses(**method: Any) -> tuple[float, float]:
    """Mean over the demo's clients: at the first local step, and at the last of the last round."""
    tables = load_toml(DEMO_FILE)
    del tables["server"]
    tables |= {"rounds": ROUNDS, "method": {**tables["method"], **method}}
    history = simulate(RunSpec.model_validate(tables)).summary["history"]
    return history[0]["client_loss_first"], history[-1]["client_loss_last"]


def test_auxiliary_loss_falls_well_below_its_start_and_the_frozen_controls() -> None:
    first, last = auxiliary_losses()
    frozen_first, frozen_last = auxiliary_losses(name="frozen")
    assert frozen_first == first, "the control begins with the same model on the same batches"
    assert last < WELL_BELOW * first
    assert last < WELL_BELOW * frozen_last


def test_auxiliary_loss_does_not_fall_when_the_updates_sign_is_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = local_round.zeroth_order_gradient

    def flipped(*arguments: Any, **named: Any) -> Tensor:
        return -rightly(*arguments, **named)

    monkeypatch.setattr(local_round, "zeroth_order_gradient", flipped)
    first, last = auxiliary_losses()
    assert last >= first
