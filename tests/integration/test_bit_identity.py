"""The simulator, which is the product's code, against the plain reference loop: one SHA-256 for every option."""

from __future__ import annotations

from typing import Any

import pytest
from integration.reference_loop import reference_run

from heron_core.run_spec import RunSpec
from heron_server.simulator import simulate

SMALL: dict[str, Any] = {"rounds": 2, "federation": {"clients": 3}}
METHOD: dict[str, Any] = {"local_steps": 3, "batch_size": 8}


def same_bits(*, zo: dict[str, Any] | None = None, method: dict[str, Any] | None = None, **tables: Any) -> None:
    """Asserts that both ways come to the same model."""
    chosen = {**METHOD, **(method or {}), "zo": {"mu": 1e-2, **(zo or {})}}
    spec = RunSpec.model_validate({**SMALL, "method": chosen, **tables})
    assert simulate(spec).summary["model_sha256"] == reference_run(spec)


@pytest.mark.parametrize("num_directions", [1, 3])
@pytest.mark.parametrize("distribution", ["sphere", "rademacher", "gaussian"])
def test_every_distribution_of_directions_gives_the_reference_bits(distribution: str, num_directions: int) -> None:
    same_bits(zo={"distribution": distribution, "num_directions": num_directions})


@pytest.mark.parametrize("num_directions", [1, 3])
def test_central_differences_give_the_reference_bits(num_directions: int) -> None:
    same_bits(zo={"difference": "central", "num_directions": num_directions})


def test_micro_batches_give_the_reference_bits() -> None:
    same_bits(method={"micro_batch": 2})


@pytest.mark.parametrize("local_steps", [4, 5])
def test_upload_period_gives_the_reference_bits_also_where_it_does_not_divide_the_steps(local_steps: int) -> None:
    same_bits(method={"upload_period": 2, "local_steps": local_steps})


@pytest.mark.parametrize("method", [{}, {"micro_batch": 4, "ghost_batch_norm": True}], ids=["whole", "ghost"])
def test_batch_norm_and_its_averaged_buffers_give_the_reference_bits(method: dict[str, Any]) -> None:
    same_bits(model={"norm": "batch"}, method=method)


def test_unequal_shares_weighted_by_samples_give_the_reference_bits() -> None:
    same_bits(
        data={"partition": "dirichlet", "alpha": 1.0},
        federation={"clients": 3, "aggregation": "samples"},
    )


def test_frozen_clients_give_the_reference_bits() -> None:
    same_bits(method={"name": "frozen"})


def test_sgd_with_momentum_on_both_sides_gives_the_reference_bits() -> None:
    sgd = {"name": "sgd", "lr": 1e-2, "momentum": 0.9}
    same_bits(method={"optimizer": sgd}, server_optimizer=sgd)


def test_mlp_gives_the_reference_bits() -> None:
    same_bits(model={"name": "mlp", "input_shape": [1, 8, 8]})


@pytest.mark.parametrize("auxiliary", ["flatten_linear", "conv_gap_linear"])
def test_other_auxiliary_heads_give_the_reference_bits(auxiliary: str) -> None:
    same_bits(model={"auxiliary": auxiliary})


def test_two_seeds_give_two_models() -> None:
    first, second = (RunSpec.model_validate({**SMALL, "method": METHOD, "seed": seed}) for seed in (0, 1))
    assert simulate(first).summary["model_sha256"] != simulate(second).summary["model_sha256"]
