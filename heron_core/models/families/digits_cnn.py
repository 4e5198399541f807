"""A small convolutional network for 8x8 digits: 7,234 parameters, 1,272 of them before the default cut."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.families.layers import ConvNorm, Norm
from heron_core.models.families.outputs import vector_task
from heron_core.models.families.stages import Network, Shape, Stage
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import ModelSpec

WIDTHS = (8, 16, 32)


class ConvBlock(ConvNorm):
    """3x3 convolution, normalisation, ReLU, and a 2x2 max-pool if `pool`."""

    def __init__(self, incoming: int, outgoing: int, norm: Norm, pool: bool) -> None:
        super().__init__(incoming, outgoing, 3, norm)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, outgoing, H, W], halved if it pools."""
        x = super().forward(x)
        return F.max_pool2d(x, 2) if self.pool else x


class Classifier(nn.Module):
    """Flatten, linear: [B, C, H, W] to [B, K]."""

    def __init__(self, incoming: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(incoming, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, K]."""
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def three_widths(spec: ModelSpec, default: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channels of the three convolutions. ModelError: model.widths has more or fewer."""
    if not spec.widths:
        return default
    if len(spec.widths) != 3:
        raise ModelError(f"model.widths of {spec.name} are the channels of three convolutions, got {list(spec.widths)}")
    a, b, c = spec.widths
    return a, b, c


def _stages(shape: Shape, widths: tuple[int, int, int], norm: Norm, classes: int) -> list[Stage]:
    channels, height, width = shape
    a, b, c = widths
    return [
        Stage("conv1", lambda: ConvBlock(channels, a, norm, pool=False), (a, height, width)),
        Stage(
            "conv2",
            lambda: ConvBlock(a, b, norm, pool=True),
            (b, height // 2, width // 2),
            b * height * width,
        ),
        Stage("conv3", lambda: ConvBlock(b, c, norm, pool=True), (c, height // 4, width // 4)),
        Stage("classifier", lambda: Classifier(c * (height // 4) * (width // 4), classes), (classes,)),
    ]


def digits_cnn(spec: ModelSpec) -> SplitModel:
    """Input [1, 8, 8] unless model.input_shape says otherwise; cut after conv1, conv2 (default) or conv3."""
    shape = spec.input_shape or (1, 8, 8)
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ModelError(f"digits_cnn needs model.input_shape [C, H, W] with H and W of 4 or more, got {list(shape)}")
    task = vector_task(spec)
    network = Network(
        _stages(shape, three_widths(spec, WIDTHS), spec.norm, task.output_shape[0]),
        shape,
        task,
        per_sample=spec.norm == "group",
    )
    return network.split(spec.cut or "conv2", spec.auxiliary, "digits_cnn")
