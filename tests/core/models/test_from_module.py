"""Any nn.Module cut after a named submodule."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models import CutModule, SplitModel, check_parts
from heron_core.models.from_module import split_cut_module, split_module


class Residual(nn.Module):
    """x + f(x), as users write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.linear(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(Residual(8) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, flip: bool = False) -> Tensor:
        x = self.embed(-x if flip else x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x * self.scale)
        return logits


def sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)
    )


def split(factory: type[nn.Module], cut: str, shape: tuple[int, ...] = (6,)) -> SplitModel:
    return split_cut_module(CutModule(factory, cut, shape, 4))[0]


@pytest.mark.parametrize("cut", [str(i) for i in range(6)])
@pytest.mark.parametrize("training", [True, False])
def test_a_sequential_cut_anywhere_equals_the_whole(cut: str, training: bool) -> None:
    whole = sequential().train(training)
    x = torch.rand(5, 1, 8, 8)
    expected = whole(x)
    front, back = split_module(whole, cut)
    assert torch.equal(back(front(x)), expected)
    names = {**dict(front.named_parameters()), **dict(back.named_parameters())}
    assert set(names) == set(dict(whole.named_parameters()))


@pytest.mark.parametrize("cut", ["embed", "blocks.0", "blocks.2"])
def test_a_residual_network_cut_between_blocks_equals_the_whole(cut: str) -> None:
    whole, x = Net(), torch.rand(5, 6)
    front, back = split_module(whole, cut)
    assert torch.equal(back(front(x)), whole(x))


@pytest.mark.parametrize("cut", ["blocks.1.linear", "blocks.1.norm"])
def test_a_skip_connection_over_the_cut_is_refused_and_named(cut: str) -> None:
    with pytest.raises(ModelError, match=f"only the output of '{cut}' may cross.*the output of 'blocks.0'"):
        split_module(Net(), cut)


def test_a_cut_that_the_input_bypasses_is_refused_and_named() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x) + x)  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="also uses the input 'x'"):
        split_module(Around(), "first")


def test_an_unknown_submodule_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"Net has no submodule 'block.1'.*did you mean 'blocks.1'"):
        split_module(Net(), "block.1")


class Choosy(Net):
    def forward(self, x: Tensor, flip: bool = False) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


class Dropping(Net):
    def forward(self, x: Tensor, flip: bool = False) -> Tensor:
        return super().forward(F.dropout(x, training=self.training))


class Repeating(Net):
    def forward(self, x: Tensor, flip: bool = False) -> Tensor:
        return self.head(self.blocks[0](self.blocks[0](self.embed(x))))  # type: ignore[no-any-return]


class TwoInputs(Net):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x * mask)


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[2].linear.weight = self.blocks[0].linear.weight  # type: ignore[union-attr]


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(x), x


class Pairing(Net):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    def forward(self, x: Tensor, flip: bool = False) -> Tensor:
        return super().forward(self.pair(x)[0])


@pytest.mark.parametrize(
    ("factory", "cut", "says"),
    [
        (Choosy, "blocks.0", "cannot be traced.*let the factory return a SplitModel"),
        (Dropping, "blocks.0", "asks self.training"),
        (Repeating, "blocks.0", "calls 'blocks.0' 2 times"),
        (Repeating, "blocks.1", "calls 'blocks.1' 0 times"),
        (TwoInputs, "embed", r"must take one tensor, it takes \['x', 'mask'\]"),
        (Tied, "blocks.0", "blocks.0.linear.weight are used before and after 'blocks.0'"),
        (Net, "head", "no weights follow 'head'"),
    ],
)
def test_a_network_that_cannot_be_cut_by_name_says_why(factory: type[nn.Module], cut: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        split_module(factory(), cut)


def test_a_submodule_that_returns_two_tensors_is_no_cut() -> None:
    with pytest.raises(ModelError, match="pair gives 2 tensors, one may cross"):
        split(Pairing, "pair")


def test_control_flow_on_data_is_fine_away_from_the_cut() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    whole = nn.Sequential(Gate(), nn.Linear(6, 8), Gate(), nn.Linear(8, 4))
    front, back = split_module(whole, "1")
    x = -torch.rand(3, 6)
    assert torch.equal(back(front(x)), whole(x))


def test_the_client_keeps_nothing_of_the_back() -> None:
    whole = Net()
    dropped = [weakref.ref(module) for module in (whole, whole.blocks[2], whole.head)]
    front = split_module(whole, "blocks.0")[0]
    del whole
    gc.collect()
    assert all(ref() is None for ref in dropped)
    assert {name.split(".")[0] for name, _ in front.named_parameters()} == {"embed", "blocks"}


def test_the_split_model_fits_and_its_parts_depend_on_their_seed_only() -> None:
    before = torch.get_rng_state()
    model = split(Net, "blocks.0")
    check_parts(model)
    assert model.activations[0].shape == (8,)
    first = model.build("front", 5)
    model.build("back", 5)
    again = model.build("front", 5)
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_head_is_the_factorys_else_the_run_files() -> None:
    made = CutModule(sequential, "2", (1, 8, 8), 4)
    assert "conv.weight" in split_cut_module(made, auxiliary="conv_gap_linear")[0].build("auxiliary", 0).state_dict()
    own = CutModule(sequential, "2", (1, 8, 8), 4, auxiliary="flatten_linear")
    weight = split_cut_module(own, auxiliary="gap_linear")[0].build("auxiliary", 0).get_parameter("linear.weight")
    assert weight.shape == (4, 4 * 6 * 6)


def test_train_and_eval_reach_the_submodules() -> None:
    front = split(sequential, "2", (1, 8, 8)).build("front", 0)  # type: ignore[arg-type]
    assert front.training
    front.eval()
    assert not any(module.training for module in front.modules())


def test_a_wrong_input_shape_names_it() -> None:
    with pytest.raises(ModelError, match=r"the model up to embed does not accept input \[7\]"):
        split(Net, "embed", (7,))


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (sequential(), "must be a function that builds .*, it is a Sequential; give a function, such as lambda"),
        (lambda: "a network", "must return an nn.Module, it returned str"),
    ],
)
def test_what_is_no_factory_is_named(factory: Any, says: str) -> None:
    with pytest.raises(ModelError, match=rf"CutModule\.module_factory {says}"):
        split_cut_module(CutModule(factory, "2", (1, 8, 8), 4))
