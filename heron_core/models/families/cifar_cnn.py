"""A small convolutional network for 32x32 images, to be adapted on the edge: 14,416 parameters before its last cut."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.families.digits_cnn import three_widths
from heron_core.models.families.layers import ConvNorm, Norm
from heron_core.models.families.outputs import vector_task
from heron_core.models.families.stages import Network, Shape, Stage
from heron_core.models.heads.auxiliary import GapLinear
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import ModelSpec

WIDTHS = (16, 32, 32)


class PooledConv(ConvNorm):
    """3x3 convolution, normalisation, ReLU, 2x2 max-pool."""

    def __init__(self, incoming: int, outgoing: int, norm: Norm) -> None:
        super().__init__(incoming, outgoing, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, outgoing, H / 2, W / 2]."""
        return F.max_pool2d(super().forward(x), 2)


def _stages(shape: Shape, widths: tuple[int, int, int], norm: Norm, classes: int) -> list[Stage]:
    channels, height, width = shape
    a, b, c = widths
    halved, quartered = ((height + 1) // 2, (width + 1) // 2), ((height + 1) // 4, (width + 1) // 4)
    return [
        Stage("conv1", lambda: ConvNorm(channels, a, 3, norm, stride=2), (a, *halved)),
        Stage("conv2", lambda: PooledConv(a, b, norm), (b, *quartered), b * halved[0] * halved[1]),
        Stage("conv3", lambda: ConvNorm(b, c, 3, norm), (c, *quartered)),
        Stage("classifier", lambda: GapLinear((c,), classes), (classes,)),
    ]


def cifar_cnn(spec: ModelSpec) -> SplitModel:
    """Input [3, 32, 32] unless model.input_shape says otherwise; cut after conv1, conv2 or conv3 (default)."""
    shape = spec.input_shape or (3, 32, 32)
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ModelError(f"cifar_cnn needs model.input_shape [C, H, W] with H and W of 4 or more, got {list(shape)}")
    task = vector_task(spec)
    stages = _stages(shape, three_widths(spec, WIDTHS), spec.norm, task.output_shape[0])
    network = Network(stages, shape, task, per_sample=spec.norm == "group")
    return network.split(spec.cut or "conv3", spec.auxiliary, "cifar_cnn")
