"""Small networks of users' own, as they write them: images [1, 8, 8] to ten classes, cut after `a`.

Whatever a factory needs twice is in here; the tests say which of them train, and which are refused and why.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from heron_core.arrays import TensorSpec
from heron_core.models import CutModule, SplitModel
from heron_core.models.tasks.classification import Classification

SHAPE, CLASSES = (1, 8, 8), 10
Make = Callable[[], nn.Module]


class Net(nn.Module):
    """`b` after `a`, and `end` on what comes out."""

    def __init__(self, a: nn.Module, b: nn.Module, end: Callable[[Tensor], object] = lambda out: out) -> None:
        super().__init__()
        self.a, self.b, self.end = a, b, end

    def forward(self, x: Tensor) -> object:
        return self.end(self.b(self.a(x)))


class Call(nn.Module):
    """A function as a module, with modules of its own that it may use."""

    def __init__(self, function: Callable[..., object], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def front(*layers: nn.Module) -> nn.Sequential:
    """[1, 8, 8] to [4, 4, 4], with `layers` after the convolution."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers, nn.ReLU(), nn.AvgPool2d(2))


def back(inputs: int = 64) -> nn.Sequential:
    """What is flattened to `inputs` numbers, to ten classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def rows(x: Tensor) -> Tensor:
    """The image [B, 1, 8, 8] as a sequence of its rows [B, 8, 8]."""
    return x[:, 0]


class Rows(nn.Module):
    """An image's rows through a recurrent layer, and the last place of what comes out."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(rows(x))[0]
        return out[:, -1]


class Attention(nn.Module):
    """One block of a vision transformer, by hand: patches of 4x4, a place for each, and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 5, 8) * 0.02)
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        patches_BTC = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches_BTC], dim=1) + self.places
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        shares = (q @ k.transpose(1, 2) / 8**0.5).softmax(dim=-1)
        out: Tensor = (x + self.out(shares @ v))[:, 0]
        return out


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(2, channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.one(x)))


class Scaled(nn.Module):
    """A parameter without dimensions, a buffer that training moves, and one that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = front(), nn.Parameter(torch.tensor(1.0))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("offset", torch.full((4, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        out: Tensor = self.inner(x) * self.scale + self.offset
        return out


class Branching(nn.Module):
    """Control flow that depends on data, within one submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = front()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out * 2 if torch.isfinite(out).all() else out


class TiedInside(nn.Module):
    """One weight, used twice on the same side of the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(torch.relu(self.one(x.flatten(1))))
        return out


class TiedOver(nn.Module):
    """One weight on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Sequential(nn.Flatten(), nn.Linear(64, 64)), nn.Linear(64, 64)
        self.b.weight = self.a[1].weight
        self.c = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> object:
        return self.c(torch.relu(self.b(self.a(x))))


class SkipOver(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = front(), back(), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> object:
        return self.b(self.a(x)) + self.c(x.flatten(1))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 1, 3, padding=1), back()

    def forward(self, x: Tensor) -> object:
        return self.b(self.a(self.a(x)))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = front(), back()

    def forward(self, x: Tensor, mask: Tensor) -> object:
        return self.b(self.a(x) * mask)


class BranchingAround(Net):
    def forward(self, x: Tensor) -> object:
        h = self.a(x)
        return self.b(h * 2 if h.mean() > 0 else h)


class TrainingFlag(Net):
    def forward(self, x: Tensor) -> object:
        h = self.a(x)
        return self.b(h + torch.randn_like(h) if self.training else h)


def fixed(module: nn.Module) -> nn.Module:
    """Its weights stay as they are."""
    return module.requires_grad_(False)


def half_fixed() -> nn.Module:
    made = front(nn.GroupNorm(2, 4))
    fixed(made[0])
    return made


def embedded(x: Tensor) -> Tensor:
    """Sixteen grey levels as ids."""
    return ((x.flatten(1) + 1) * 7.9).long().clamp(0, 15)


def of(a: Make, b: Make = back, end: Callable[[Tensor], object] = lambda out: out) -> Callable[[], CutModule]:
    """A factory of the network of `a` and `b`."""
    return lambda: CutModule(lambda: Net(a(), b(), end), "a", SHAPE, CLASSES)


def whole(make: Make) -> Callable[[], CutModule]:
    return lambda: CutModule(make, "a", SHAPE, CLASSES)


def two_tensors() -> SplitModel:
    """A front with two outputs, and a head of its own."""
    return SplitModel(
        front=lambda: Call(lambda m, x: (m.one(x), x.flatten(1)[:, :4]), one=front()),
        auxiliary=lambda: Joined(), back=lambda: Joined(),
        inputs=(TensorSpec("input", SHAPE),),
        activations=(TensorSpec("maps", (4, 4, 4)), TensorSpec("corner", (4,))),
        task=Classification(CLASSES),
    )  # fmt: skip


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(68, CLASSES)

    def forward(self, maps: Tensor, corner: Tensor) -> object:
        return self.linear(torch.cat([maps.flatten(1), corner], dim=1))


_ONE = Net(front(), back())

ALL: dict[str, Callable[[], object]] = {
    # -- right ---------------------------------------------------------------------------------------------------
    "plain": of(front),
    "batch_norm": of(lambda: front(nn.BatchNorm2d(4))),
    "cumulative_batch_norm": of(lambda: front(nn.BatchNorm2d(4, momentum=None))),
    "instance_norm": of(lambda: front(nn.InstanceNorm2d(4, affine=True, track_running_stats=True))),
    "group_norm": of(lambda: front(nn.GroupNorm(2, 4))),
    "residual": of(lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Residual(4), nn.AvgPool2d(2))),
    "dropout": of(lambda: front(nn.Dropout(0.3))),
    "in_place_inside": of(lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2))),
    "lazy": of(
        lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU()),
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)),
    ),
    "weight_norm": of(lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), nn.ReLU()),
                      lambda: back(144)),
    "spectral_norm": of(lambda: nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)), nn.ReLU()),
                        lambda: back(144)),
    "lstm": of(lambda: Rows(nn.LSTM(8, 12, batch_first=True)), lambda: back(12)),
    "gru": of(lambda: Rows(nn.GRU(8, 12, num_layers=2, batch_first=True)), lambda: back(12)),
    "vit": of(Attention, lambda: back(8)),
    "transformer": of(
        lambda: Call(
            lambda m, x: m.layer(rows(x)).flatten(1),
            layer=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1),
        )
    ),
    "embedding": of(lambda: Call(lambda m, x: m.table(embedded(x)), table=nn.Embedding(16, 3)), lambda: back(192)),
    "tied_inside": of(TiedInside),
    "buffers": of(Scaled),
    "branching_inside": of(Branching),
    "frozen": of(lambda: fixed(front())),
    "half_frozen": of(half_fixed),
    "frozen_bfloat16": of(
        lambda: nn.Sequential(
            Call(lambda m, x: m.inner(x.bfloat16()).float(), inner=fixed(front().bfloat16())),
            nn.Conv2d(4, 4, 1),
        )
    ),
    "no_parameters_in_front": of(lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), lambda: back(16)),
    "log_softmax": of(front, end=lambda out: out.log_softmax(1)),
    "two_tensors": two_tensors,
    # -- refused -------------------------------------------------------------------------------------------------
    "softmax": of(front, end=lambda out: out.softmax(1)),
    "sigmoid": of(front, end=torch.sigmoid),
    "argmax": of(front, end=lambda out: out.argmax(1)),
    "tuple": of(front, end=lambda out: (out, out)),
    "dict": of(front, end=lambda out: {"logits": out}),
    "half": of(lambda: Call(lambda m, x: m.inner(x.half()), inner=front().half()),
               lambda: Call(lambda m, x: m.inner(x.float()), inner=back())),
    "half_inside": of(lambda: Call(lambda m, x: m.inner(x.half()).float(), inner=front().half())),
    "untracked_batch_norm": of(lambda: front(nn.BatchNorm2d(4, track_running_stats=False))),
    "lstm_over_the_batch": of(lambda: Rows(nn.LSTM(8, 12)), lambda: back(12)),
    "lstm_at_the_cut": of(lambda: Call(lambda m, x: m.inner(rows(x)), inner=nn.LSTM(8, 12)), lambda: back(12)),
    "random": of(lambda: Call(lambda m, x: m.inner(x + torch.randn_like(x)), inner=front())),
    "in_place": of(lambda: nn.Conv2d(1, 4, 3, padding=1), lambda: nn.Sequential(nn.ReLU(inplace=True), back(256))),
    "tied_over_the_cut": whole(TiedOver),
    "skip_over_the_cut": whole(SkipOver),
    "called_twice": whole(CalledTwice),
    "two_inputs": whole(TwoInputs),
    "branching_around_the_cut": whole(lambda: BranchingAround(front(), back())),
    "training_flag": whole(lambda: TrainingFlag(front(), back())),
    "one_instance": whole(lambda: _ONE),
    "an_instance": lambda: CutModule(_ONE, "a", SHAPE, CLASSES),
    "a_module": lambda: Net(front(), back()),
    "one_class": lambda: CutModule(lambda: Net(front(), nn.Linear(4, 1)), "a", SHAPE, 1),
}  # fmt: skip


def __getattr__(name: str) -> Callable[[], object]:
    """Each of them is a name of this module, as a run file says it."""
    if name not in ALL:
        raise AttributeError(name)
    return ALL[name]
