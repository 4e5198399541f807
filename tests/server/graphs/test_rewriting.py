"""The formulas that export exactly are torch's own functions, and what cannot be exported is refused by name."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.arrays import TensorSpec
from heron_core.errors import ConfigError, ModelError
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.classification import Classification
from heron_server.graphs.compare import TOLERANCE
from heron_server.graphs.examples import inputs_of, traced_rows
from heron_server.graphs.export import export_graphs
from heron_server.graphs.refusals import refuse_what_graphs_lack
from heron_server.graphs.rewriting import Formulas, GivenMasks
from heron_server.graphs.tracing import trace


@pytest.mark.parametrize("shape", [(9, 4), (5, 3, 6), (2, 3, 4, 5)])
def test_batch_norm_by_mean_and_variance_moves_the_running_statistics_as_torch_does(shape: tuple[int, ...]) -> None:
    x, channels = torch.randn(shape) * 3 + 1, shape[1]
    by_torch, by_formula = (
        [torch.ones(channels) * 0.3, torch.ones(channels) * 2, torch.randn(channels), torch.randn(channels)]
        for _ in range(2)
    )
    by_formula[2:] = by_torch[2:]
    wanted = F.batch_norm(x, *by_torch, training=True, momentum=0.2)
    with Formulas():
        found = F.batch_norm(x, *by_formula, training=True, momentum=0.2)
    for one, other in zip([found, *by_formula], [wanted, *by_torch], strict=True):
        torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=1e-5)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
def test_cross_entropy_by_logsumexp_has_torch_s_losses_and_gradient(function: Any, reduction: str) -> None:
    labels = torch.tensor([[0, 2], [-100, 1], [1, 1]])
    logits = (torch.randn(3, 3, 2) * 50).requires_grad_()
    wanted = function(logits, labels, reduction=reduction)
    (slope,) = torch.autograd.grad(wanted.sum(), logits)
    with Formulas():
        found = function(logits, labels, reduction=reduction)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), logits)[0], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", [
    {}, {"is_causal": True, "scale": 0.3}, {"attn_mask": torch.ones(5, 6, dtype=torch.bool).tril(1)},
    {"attn_mask": torch.linspace(-2, 2, 30).reshape(5, 6)},
], ids=["plain", "causal", "mask", "bias"])  # fmt: skip
def test_attention_by_its_formula_is_torch_s_where_heads_share_keys_too(how: dict[str, Any]) -> None:
    query, (key, value) = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 2, 6, 8)
    wanted = F.scaled_dot_product_attention(query, key, value, enable_gqa=True, **how)
    with Formulas():
        found = F.scaled_dot_product_attention(query, key, value, enable_gqa=True, **how)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", [
    {}, {"stride": 2, "padding": 1}, {"stride": (3, 2), "padding": (2, 0), "dilation": (1, 2)}, {"padding": (1,)},
], ids=str)  # fmt: skip
def test_a_convolution_s_gradient_by_convolutions_is_torch_s(how: dict[str, Any]) -> None:
    given = [torch.randn(5, 3, 11, 12), torch.randn(4, 3, 3, 2), torch.randn(4)]
    found = []
    for formulas in (nullcontext(), Formulas()):
        leaves = [each.clone().requires_grad_() for each in given]
        with formulas:
            output = F.conv2d(*leaves, **how)
            found.append([output, *torch.autograd.grad((output * output.detach().cos()).sum(), leaves)])
    for wanted, by_formula in zip(*found, strict=True):
        torch.testing.assert_close(by_formula, wanted, rtol=1e-4, atol=1e-4)


def test_dropout_takes_the_given_mask_and_leaves_evaluation_alone() -> None:
    asked: list[tuple[tuple[int, ...], float]] = []

    def draw(shape: tuple[int, ...], p: float) -> Tensor:
        asked.append((shape, p))
        return torch.zeros(shape, dtype=torch.bool).index_fill(0, torch.tensor([0]), True)

    x = torch.ones(2, 3, 4, 4)
    with GivenMasks(draw):
        assert torch.equal(nn.Dropout(0.25).eval()(x), x)
        dropped, whole_maps = nn.Dropout(0.25)(x), nn.Dropout2d(0.5)(x)
    assert asked == [((2, 3, 4, 4), 0.25), ((2, 3, 1, 1), 0.5)]
    assert torch.equal(dropped[0], x[0] / 0.75) and torch.equal(whole_maps[0], x[0] * 2)
    assert not dropped[1].any() and not whole_maps[1].any()


class Draws(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Looks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(("layer", "said"), [(Draws, "random numbers by aten.rand_like"), (Looks, "in forward")])
def test_what_cannot_be_a_graph_is_refused(layer: type[nn.Module], said: str) -> None:
    model = SplitModel(
        layer, lambda: nn.Linear(5, 3), lambda: nn.Linear(5, 3), (TensorSpec("input", (5,)),),
        (TensorSpec("activations", (5,)),), Classification(3),
    )  # fmt: skip
    module, examples = layer(), inputs_of(model, traced_rows(model))
    with pytest.raises(ModelError, match=said):
        trace(lambda named: {"activations": module(named["inputs.input"])}, examples, {"inputs.input": ("B",)})


def test_a_dropout_that_is_neither_fixed_nor_as_long_as_the_sequences_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.drop = nn.Embedding(5, 3), nn.Dropout(0.5)

        def forward(self, tokens_BT: Tensor) -> Tensor:
            hidden_BTH: Tensor = self.embedding(tokens_BT)
            twice = self.drop(torch.cat([hidden_BTH, hidden_BTH], 1))
            return twice.narrow(1, 0, hidden_BTH.shape[1])

    model = SplitModel(
        Twice, lambda: nn.Linear(3, 3), lambda: nn.Linear(3, 3), (TensorSpec("tokens", (6,), "int64", True, 5),),
        (TensorSpec("hidden", (6, 3), variable=True),), Classification(3),
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"acts on \[7, 12, 3\] for 7 samples.*set its probability to 0"):
        export_graphs(tiny.spec(method={"objective": "cut_gradient"}), model)


@pytest.mark.parametrize("method", ["cse_fsl", "fsl_sage", "sflv1", "sflv2", "fedavg"])
def test_a_method_that_backpropagates_through_the_front_is_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=f'"{method}" needs the gradient of the front'):
        refuse_what_graphs_lack(tiny.spec(method={"name": method, "local_steps": 4, "batch_size": 4}))


@pytest.mark.parametrize(("zo", "said"), [
    ({"exact_stages": 1}, "method.zo.exact_stages = 1 needs the gradient of the front's last stages"),
    ({"block_wise": True}, "method.zo.block_wise begins forward passes inside the front"),
    ({"scope": "sample"}, 'method.zo.scope = "sample" gives each sample its own parameters'),
])  # fmt: skip
def test_an_estimator_that_needs_more_than_whole_passes_is_refused(zo: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}.*or give every client torch"):
        refuse_what_graphs_lack(tiny.spec(method={"zo": zo}))


def test_the_gradient_of_a_language_model_s_head_is_refused() -> None:
    model = {"name": "causal_lm", "base": "tiny", "cut": "1", "trainable": "lora"}
    spec = tiny.spec(model=model, data={"source": "client"}, method={"auxiliary_update": "first_order"})
    with pytest.raises(ConfigError, match='"first_order" needs the gradient of a language model'):
        refuse_what_graphs_lack(spec)


def test_heron_and_its_control_are_not() -> None:
    for method in ("heron", "frozen"):
        refuse_what_graphs_lack(tiny.spec(method={"name": method}))
