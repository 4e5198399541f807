"""The averaged back: its formula, that nothing learns from it, and that a checkpoint holds all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from server.driven import Start, play_round
from torch import nn

from heron_core.arrays import Array
from heron_core.errors import CheckpointError
from heron_core.models.split_model import SplitModel
from heron_server.storage.checkpoint import Checkpoint
from heron_server.training.backs import AveragedBack
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload

ON: dict[str, Any] = {"averaged_back": {"decay": 0.3}}
"""From the third step on, this is less than the warm-up."""


def trainer(model: SplitModel, **tables: Any) -> Trainer:
    return Trainer(tiny.spec(**tables), model, torch.device("cpu"), tiny.source(model))


def trained(made: Trainer, steps: int = 5, first: int = 0, shape: tuple[int, ...] = (4, 6, 6)) -> Trainer:
    for number in range(first, first + steps):
        rng = torch.Generator().manual_seed(number)
        z = torch.randn(4, *shape, generator=rng)
        made.train("edge-1", 0, 1, Upload(number, (z,), torch.arange(4) % tiny.CLASSES))
    return made


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


def test_it_follows_each_step_with_a_decay_that_warms_up_running_statistics_too() -> None:
    made, expected = trainer(tiny.conv("batch"), **ON), None
    for number in range(4):
        theta = {n: torch.from_numpy(t) for n, t in made.back_tensors().items() if n.startswith("back.")}
        expected = theta if expected is None else expected
        trained(made, 1, number)
        for name, tensor in made.back.state_dict().items():
            e, share = expected[f"back.{name}"], 1 - min(0.3, (2 + number) / (11 + number))
            expected[f"back.{name}"] = e + share * (tensor - e) if tensor.is_floating_point() else tensor
    found = made.back_tensors()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[f"averaged.{name}"], value.numpy(), err_msg=name)
    assert not np.array_equal(found["averaged.back.0.1.running_mean"], found["back.0.1.running_mean"])
    assert found["averaged.back.0.1.num_batches_tracked"] == found["averaged.steps"] == 4


def test_the_trained_back_has_the_bits_of_a_run_without_an_average_and_stands_beside_it() -> None:
    plain, made = (trained(trainer(tiny.conv("batch"), **tables)) for tables in ({}, ON))
    before, found, beside = made.save(), made.evaluate(), plain.evaluate()
    held = plain.save()
    assert same(before, {**before, **held}) and not any(name.startswith("averaged.") for name in held)
    assert found.trained == beside.measured and beside.trained == {} and found.loss_sum != beside.loss_sum
    assert same(made.save(), before), "evaluation touches neither"
    assert made.trained().trained_back is made.back and made.trained().back is not made.back
    assert plain.trained().back is plain.back and plain.trained().trained_back is None


def test_what_a_module_never_moves_stays_as_it_is_also_where_it_is_infinite() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.moved, self.still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
            self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    parts = tiny.mlp()
    model = SplitModel(parts.front, parts.auxiliary, Masked, parts.inputs, parts.activations, parts.task)
    back = model.build("back", 0)
    average = AveragedBack(model, 0, back, 0.9)
    back.moved.data += 11
    average.follow()
    state = average.module.state_dict()
    assert torch.equal(state["moved"], torch.full((2,), 1 + 11 * 9 / 11))
    assert torch.equal(state["still"], torch.ones(2)) and torch.equal(state["mask"], back.mask)


def test_an_upload_that_nothing_is_trained_on_is_no_step_of_the_average() -> None:
    made = trained(trainer(tiny.conv("group"), **ON))
    before = made.save()
    with pytest.raises(Exception, match="must be finite"):
        made.train("edge-1", 0, 1, Upload(9, (torch.full((4, 4, 6, 6), torch.nan),), torch.arange(4) % 3))
    assert same(made.save(), before)


def test_from_a_checkpoint_it_goes_on_with_the_same_bits() -> None:
    first, second = (trainer(tiny.conv("batch"), **ON) for _ in range(2))
    saved, state = trained(first).save(), first.client_state()
    trained(second, 2, 30)  # of an abandoned round
    assert second.mismatches(saved) == []
    second.load(state, saved)
    assert same(second.save(), saved)
    assert same(trained(first, 3, 5).save(), trained(second, 3, 5).save())


@pytest.mark.parametrize("method", [{}, {"name": "sflv2"}], ids=["heron", "sflv2"])
def test_a_killed_server_goes_on_with_the_same_average_and_figures(start: Start, method: dict[str, Any]) -> None:
    tables = {"rounds": 3, "method": method, **ON}
    undisturbed, killed = start("undisturbed", **tables), start("killed", **tables)
    for server, rounds in ((undisturbed, 3), (killed, 2)):
        clients = server.clients("ab")
        for _ in range(rounds):
            play_round(clients)
    clients[0].open()
    clients[0].push(0)  # lost with the server
    killed.close()
    resumed = start("killed", resume=True, **tables)
    play_round(resumed.clients("ab"))
    assert resumed.coordinator.model_sha256() == undisturbed.coordinator.model_sha256()
    assert same(resumed.tensors, undisturbed.tensors)
    for mine, other in zip(resumed.history, undisturbed.history, strict=True):
        assert (mine["accuracy"], mine["trained_metrics"]) == (other["accuracy"], other["trained_metrics"])
        assert mine["trained_accuracy"] == mine["trained_metrics"]["accuracy"]


@pytest.mark.parametrize("harm", ["averaged.steps", "averaged.back.0.weight"])
def test_a_checkpoint_without_its_average_is_not_resumed(start: Start, harm: str) -> None:
    server = start(rounds=2, **ON)
    play_round(server.clients("ab"))
    checkpoint = server.directory.last()
    left = {name: tensor for name, tensor in checkpoint.tensors.items() if name != harm}
    server.directory.save(Checkpoint(checkpoint.facts, left))
    server.close()
    with pytest.raises(CheckpointError, match=rf"does not fit the model.*\({harm}\)"):
        start(resume=True, rounds=2, **ON)
