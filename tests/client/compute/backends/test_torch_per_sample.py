"""One forward pass with each sample's own parameters equals one pass a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from heron_client.compute.backends.torch_per_sample import PerSample
from heron_core.errors import ModelError
from heron_core.models import build_split_model
from heron_core.models.adapt.per_sample import acts_per_sample
from heron_core.spec.run_spec import ModelSpec

ROWS = 5


def family(name: str, norm: str = "group", **settings: Any) -> nn.Module:
    shape = (3, 8, 8)
    spec = ModelSpec.model_validate({"name": name, "norm": norm, "input_shape": shape, **settings})
    return build_split_model(spec).build("front", 0)


class Mixed(nn.Module):
    """Sequences [B, T, 6]: features last, a convolution over places, normalisation of two dimensions, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 4), nn.LayerNorm(4)
        self.conv, self.both = nn.Conv1d(4, 3, 3, padding=1), nn.LayerNorm((3, 7))
        self.groups, self.drop = nn.GroupNorm(1, 3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.norm(self.linear(x)))).transpose(1, 2)
        out: Tensor = self.groups(self.both(self.conv(h)))
        return out


FRONTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "digits_cnn": (lambda: family("digits_cnn"), (3, 8, 8)),
    "resnet18": (lambda: family("resnet18", cut="layer2.0"), (3, 8, 8)),
    "resnet50": (lambda: family("resnet50"), (3, 8, 8)),
    "mlp": (lambda: family("mlp", cut="hidden2"), (3, 8, 8)),
    "mixed": (Mixed, (7, 6)),
    "batch_norm": (lambda: tiny.conv("batch").build("front", 0), (1, 6, 6)),
}
CASES = [(name, kept) for name in FRONTS for kept in ("", "weight", "bias") if (name, kept) != ("mlp", "weight")]


def able(front: nn.Module) -> list[str]:
    layers = dict(front.named_modules())
    parts = [(n, *n.rpartition(".")[::2]) for n, _ in front.named_parameters()]
    return [name for name, path, parameter in parts if acts_per_sample(layers[path], parameter)]


def run(front: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(3)
    out: Tensor = front(x)
    return out


def fill(front: nn.Module, names: list[str], theta_D: Tensor) -> None:
    parameters = [front.get_parameter(name) for name in names]
    for parameter, values in zip(parameters, theta_D.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(values.view_as(parameter))


def flat(front: nn.Module, names: list[str]) -> Tensor:
    return torch.cat([front.get_parameter(name).detach().reshape(-1) for name in names])


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "kept"), CASES)
def test_a_pass_with_each_sample_s_own_parameters_equals_a_loop_over_the_samples(name: str, kept: str) -> None:
    build, shape = FRONTS[name]
    front = build().double().requires_grad_(False).train()
    names = [n for n in able(front) if n.endswith(kept)]
    if name == "batch_norm":  # a loop knows only the batch statistics that no sample's own parameters have touched
        names = [n for n in names if n.startswith("1.")]
    x, theta_D = drawn(ROWS, *shape), flat(front, names)
    fill(front, names, theta_D + 0.3 * drawn(1, len(theta_D))[0])  # off the ones and zeros of initialisation
    theta_BD = flat(front, names) + 0.2 * drawn(ROWS, len(theta_D))
    before = {n: t.clone() for n, t in front.named_parameters()}
    with torch.inference_mode(), torch.random.fork_rng():
        with PerSample(front, [f"front.{n}" for n in names]).parameters(theta_BD):
            found = run(front, x)
        assert all(torch.equal(t, before[n]) for n, t in front.named_parameters())
        rows = []
        for row, theta_D in enumerate(theta_BD):
            fill(front, names, theta_D)
            rows.append(run(front, x)[row])
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("name", ["digits_cnn", "resnet18"])
def test_with_the_same_parameters_for_all_it_is_the_plain_pass_in_pieces_too(name: str, norm: str) -> None:
    front = family(name, norm, input_shape=(3, 32, 32)).requires_grad_(False).train()
    names, x = able(front), drawn(96, 3, 32, 32).float()
    if norm == "batch":
        x = x.contiguous(memory_format=torch.channels_last)
    theta_D = flat(front, names) + 0.1 * drawn(1, len(flat(front, names)))[0].float()
    with torch.inference_mode():
        with PerSample(front, [f"front.{n}" for n in names]).parameters(theta_D.expand(96, -1)):
            found = front(x)
        fill(front, names, theta_D)
        torch.testing.assert_close(found, front(x), rtol=1e-4, atol=1e-4)


def test_an_error_inside_gives_the_layers_back() -> None:
    front = family("digits_cnn").requires_grad_(False)
    names, x = able(front), torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        expected = front(x)
        own = PerSample(front, [f"front.{n}" for n in names]).parameters(torch.zeros(2, len(flat(front, names))))
        with pytest.raises(RuntimeError, match="inside"), own:
            raise RuntimeError("inside")
        assert torch.equal(front(x), expected)


def test_a_parameter_that_cannot_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"front\.conv2\.conv\.weight cannot differ from sample to sample"):
        PerSample(family("digits_cnn"), ["front.conv1.norm.weight", "front.conv2.conv.weight"])
