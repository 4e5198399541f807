"""The client learns: its loss falls because of its updates, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from integration.settings import METHODS, tables

from heron_client.compute.backend import Vector
from heron_core.config import load_toml
from heron_core.replay.update_rules import Adam
from heron_core.spec.run_spec import RunSpec
from heron_server.demo import DEMO_FILE
from heron_simulator.simulator import simulate

ROUNDS = 12
WELL_BELOW = 0.7


def auxiliary_losses(**method: Any) -> tuple[float, float]:
    """Mean over the demo's clients, with slopes of a head of their own: at the first local step, and at the last of the
    last round."""
    tables = load_toml(DEMO_FILE)
    del tables["server"]
    tables |= {"rounds": ROUNDS, "method": {**tables["method"], "objective": "auxiliary", **method}}
    history = simulate(RunSpec.model_validate(tables)).summary["history"]
    return history[0]["client_loss_first"], history[-1]["client_loss_last"]


def test_auxiliary_loss_falls_well_below_its_start_and_the_frozen_controls() -> None:
    first, last = auxiliary_losses()
    frozen_first, frozen_last = auxiliary_losses(name="frozen")
    assert frozen_first == first, "the control begins with the same model on the same batches"
    assert last < WELL_BELOW * first
    assert last < WELL_BELOW * frozen_last


@pytest.fixture
def flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client update goes the wrong way."""
    rightly = Adam.step

    def wrongly(rule: Adam, theta_D: Vector, gradient_D: Vector) -> None:
        rightly(rule, theta_D, -gradient_D)

    monkeypatch.setattr(Adam, "step", wrongly)


@pytest.mark.usefixtures("flipped")
def test_auxiliary_loss_does_not_fall_when_the_updates_sign_is_flipped() -> None:
    first, last = auxiliary_losses()
    assert last >= first


def client_losses(setting: str) -> tuple[float, float]:
    """One client on a tiny network: the loss that it lowers, at its first local step and in the mean of its last round.

    The server is nearly still, so that what falls falls because of the client.
    """
    method = METHODS[setting]
    wanted: dict[str, Any] = {"local_steps": 40, "batch_size": 16, "optimizer": {"lr": 1e-2}}
    if method["name"] == "heron" and not method.get("micro_batch"):
        wanted["zo"] = {**method.get("zo", {}), "num_directions": 4}
    run = tables(setting, **wanted)
    if run["model"]["trainable"] == "all":
        stages = 1 + method.get("zo", {}).get("exact_stages", 0)
        run["model"] = {"name": "mlp", "widths": [16] * (stages + 1), "cut": f"hidden{stages}"}
    spec = {"rounds": 3, "federation": {"clients": 1}, "server_optimizer": {"lr": 1e-4}, **run}
    history = simulate(RunSpec.model_validate(spec)).summary["history"]
    return history[0]["client_loss_first"], history[-1]["client_loss"]


LEARNING = [setting for setting in METHODS if setting != "frozen"]


@pytest.mark.parametrize("setting", LEARNING)
def test_each_methods_client_loss_falls(setting: str) -> None:
    first, last = client_losses(setting)
    assert last < 0.98 * first


@pytest.mark.usefixtures("flipped")
@pytest.mark.parametrize("setting", LEARNING)
def test_no_methods_client_loss_falls_when_the_updates_sign_is_flipped(setting: str) -> None:
    first, last = client_losses(setting)
    assert last >= first
