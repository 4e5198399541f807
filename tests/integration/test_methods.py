"""The contract of the family: what every method, and heron with every kind of estimator, does alike."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pytest
from integration.settings import METHODS, tables

from heron_core.spec.run_spec import RunSpec
from heron_simulator.simulator import simulate

CLIENTS, ROUNDS, STEPS, BATCH = 3, 2, 24, 16
ACTIVATIONS_BYTES = 16 * 4 * 4 * 4
"""Of one sample at digits_cnn's default cut: float32 [16, 4, 4]."""
LABEL_BYTES = 8
RETURNING_CUT_GRADIENTS = ("sflv1", "sflv2", "sflv2, mixed batches", "heron, cut gradients")


@pytest.fixture(scope="module", params=METHODS)
def run(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The setting's name and the summary of a short run on the digits."""
    setting = request.param
    learning: dict[str, Any] = {} if setting == "frozen" else {"optimizer": {"lr": 5e-3}}
    spec = {
        "rounds": ROUNDS,
        "federation": {"clients": CLIENTS},
        "server_optimizer": {"lr": 3e-3},
        **tables(setting, local_steps=STEPS, batch_size=BATCH, **learning),
    }
    return setting, simulate(RunSpec.model_validate(spec)).summary


Run = tuple[str, dict[str, Any]]


def test_every_loss_is_a_number(run: Run) -> None:
    _, summary = run
    losses = [summary["loss"]]
    for record in summary["history"]:
        losses += [record["loss"], record["client_loss"], record["client_loss_first"], record["client_loss_last"]]
    assert all(isfinite(loss) for loss in losses)


def test_only_a_method_without_uploads_has_no_server_loss(run: Run) -> None:
    setting, summary = run
    assert all((record["server_loss"] is None) == (setting == "fedavg") for record in summary["history"])


def test_the_digits_are_learned(run: Run) -> None:
    _, summary = run
    assert summary["majority_accuracy"] < 0.2
    assert summary["accuracy"] > 0.7


def test_the_ledgers_kinds_add_up_to_what_crossed_the_wire(run: Run) -> None:
    _, summary = run
    ledger = dict(summary["ledger"])
    wire = ledger.pop("wire_up") + ledger.pop("wire_down")
    assert sum(ledger.values()) == wire


def test_activations_and_what_comes_back_are_charged_exactly(run: Run) -> None:
    setting, summary = run
    ledger = summary["ledger"]
    samples = 0 if setting == "fedavg" else ROUNDS * CLIENTS * STEPS * BATCH
    assert ledger["activations_up"] == samples * ACTIVATIONS_BYTES
    assert ledger["labels_up"] == samples * LABEL_BYTES
    returned = samples if setting in RETURNING_CUT_GRADIENTS else 0
    assert ledger["cut_gradients_down"] == returned * ACTIVATIONS_BYTES


def test_client_state_goes_down_to_all_and_up_from_those_who_learn(run: Run) -> None:
    setting, summary = run
    ledger = summary["ledger"]
    assert ledger["client_state_down"] > 0
    assert (ledger["client_state_up"] == 0) == (setting == "frozen"), "GroupNorm: a frozen client has nothing to send"


def test_clients_that_were_never_drawn_are_clients_of_the_run_too() -> None:
    spec = RunSpec.model_validate({
        "rounds": 1, "method": {"local_steps": 1, "batch_size": 4}, "data": {"train_limit": 90, "test_limit": 8},
        "federation": {"clients": 3, "clients_per_round": 1},
    })  # fmt: skip
    summary = simulate(spec).summary
    assert summary["clients"] == 3 and len(summary["per_client"]) == 1
