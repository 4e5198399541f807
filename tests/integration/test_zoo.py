"""Own modules of every kind: each trains and is right, or is refused by one line that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from integration.zoo import ALL

from heron_core.errors import ConfigError, HeronError, ModelError
from heron_core.models import build_split_model
from heron_core.spec.run_spec import ModelSpec, RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.validate import describe
from heron_simulator.simulator import Simulation, simulate

CPU = ServerSettings(device="cpu")
REFUSED = {
    "softmax": "back ends in a softmax: .* leave the softmax out",
    "sigmoid": "back ends in a sigmoid: .* leave the sigmoid out",
    "argmax": r"back must give \[B, 10\] .*, it gives \[B\]; leave the argmax out",
    "tuple": r"back must give \[B, 10\] .* and \[B, 10\]; wrap it in a module that returns the one meant, as out\[0\]",
    "dict": r"back must return a tensor .* dict with 'logits'; wrap it .* as out\['logits'\]",
    "half": r"up to a gives float16, what crosses the cut must be float32 .*\.float\(\)",
    "half_inside": r"front\.a\.inner\.0\.weight is float16, and what moves must be float32",
    "untracked_batch_norm": "front mixes the samples of a batch: .* track_running_stats=False from a.1",
    "lstm_over_the_batch": "front mixes the samples of a batch: .* batch_first=True",
    "lstm_at_the_cut": r"up to a must return a tensor .* Tensor, tuple; wrap it .* as out\[0\]",
    "random": "front must give the same for the same batch in evaluation, .*; draw nothing",
    "in_place": "back overwrites its input activations, .* set inplace=False",
    "tied_over_the_cut": "weights a.1.weight are used before and after 'a'; cut elsewhere or untie them",
    "skip_over_the_cut": "only the output of 'a' may cross the cut, but .* the output of 'c'",
    "called_twice": "the forward calls 'a' 2 times",
    "two_inputs": r"TwoInputs must take one tensor, it takes \['x', 'mask'\]; let the factory return a SplitModel",
    "branching_around_the_cut": r"cannot be traced \(.* \(zoo\.py:\d+ in forward\)\)\. Control flow .* submodule",
    "training_flag": r"the forward around 'a' asks self\.training .* use a module such as nn\.Dropout",
    "one_instance": r"must build a new module at each call, .* the same a\.0\.weight",
    "an_instance": r"must be a function that builds the network, it is a Net; give a function, such as lambda: Net\(\)",
    "a_module": "must return a SplitModel or a CutModule, it returned Net",
    "one_class": r"needs two classes or more, got classes = 1; .* task=Regression\(\)",
}
RIGHT = [name for name in ALL if name not in REFUSED]
THROUGH_THE_CUT = ["batch_norm", "spectral_norm", "lstm", "half_frozen", "two_tensors"]


def spec_of(own: str, **method: Any) -> RunSpec:
    steps = {"name": "cse_fsl", "local_steps": 8, "batch_size": 32, "optimizer": {"lr": 3e-2}}
    return RunSpec.model_validate(
        {
            "rounds": 1, "model": {"name": f"integration.zoo:{own}"}, "method": {**steps, **method},
            "server_optimizer": {"lr": 1e-2}, "federation": {"clients": 1}, "data": {"test_limit": 32},
        }
    )  # fmt: skip


def trained(own: str, **method: Any) -> Simulation:
    spec = spec_of(own, **method)
    return simulate(spec, settings=CPU, client_settings={"allow_model_code": [spec.model.name], "device": "cpu"})


def falls(result: Simulation) -> bool:
    record = result.summary["history"][0]
    return bool(record["client_loss_last"] < record["client_loss_first"])


def test_there_are_forty_of_them() -> None:
    assert len(ALL) >= 40 and not REFUSED.keys() - ALL.keys()


@pytest.mark.parametrize("name", RIGHT)
def test_a_module_that_is_right_learns_and_what_it_froze_stays(name: str) -> None:
    learned = trained(name)
    assert falls(learned)
    moved_alone(name, learned)
    moved_alone(name, trained(name, name="heron", local_steps=1))


def moved_alone(name: str, result: Simulation) -> None:
    """All weights of the front but those that it froze are others than it began with."""
    began = build_split_model(ModelSpec(name=f"integration.zoo:{name}")).build("front", 0)
    ended = dict(result.model.front.named_parameters())
    for weight, value in began.named_parameters():
        assert torch.equal(ended[weight], value) is not value.requires_grad, weight


@pytest.mark.parametrize("name", THROUGH_THE_CUT)
def test_so_does_one_that_is_trained_through_the_cut(name: str) -> None:
    assert falls(trained(name, name="sflv2"))


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_is_not_is_refused_before_any_client_comes(name: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[name]) as caught:
        describe(spec_of(name), CPU)
    assert "\n" not in str(caught.value)


def test_what_is_probably_not_meant_is_a_warning() -> None:
    assert "back ends in a log_softmax" in describe(spec_of("log_softmax"), CPU)
    assert "no parameter of the front moves, so that cse_fsl trains the head alone" in describe(spec_of("frozen"), CPU)


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "instance_norm"])
def test_micro_batches_ask_the_module_itself_what_it_normalises_over(name: str) -> None:
    pieces = spec_of(name, micro_batch=8)
    if name != "batch_norm":
        assert "none across the batch" in describe(pieces, CPU)
        return
    with pytest.raises(HeronError, match=r"micro_batch = 8, and front\.a\.1 normalises across the batch.*ghost_batch"):
        describe(pieces, CPU)
    assert "across the batch, in front.a.1" in describe(spec_of(name, micro_batch=8, ghost_batch_norm=True), CPU)


def test_a_front_without_weights_cannot_be_trained_through_the_cut() -> None:
    with pytest.raises(ConfigError, match=r"no parameter of its front is its own to move; cut later"):
        describe(spec_of("no_parameters_in_front", name="sflv2"), CPU)


def test_an_explicit_setting_moves_what_the_module_has_frozen() -> None:
    spec = spec_of("frozen", name="cse_fsl")
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"trainable": "frozen_too"})})
    result = simulate(spec, settings=CPU, client_settings={"allow_model_code": [spec.model.name]})
    began = build_split_model(spec.model).build("front", 0)
    assert not any(map(torch.equal, began.parameters(), result.model.front.parameters()))
