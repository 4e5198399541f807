"""A small convolutional network for series of several channels: 3,136 parameters before its default cut.

Legend: B batch, C channels, L length.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.families.digits_cnn import Classifier, three_widths
from heron_core.models.families.layers import Norm, group_count
from heron_core.models.families.outputs import vector_task
from heron_core.models.families.stages import Network, Shape, Stage
from heron_core.models.lean import convolve, normalise, relu
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import ModelSpec

WIDTHS = (16, 32, 64)
KERNEL = 5


class SeriesBlock(nn.Module):
    """Convolution over 5 places, normalisation, ReLU, and the larger of each two neighbours."""

    def __init__(self, incoming: int, outgoing: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv1d(incoming, outgoing, KERNEL, padding=KERNEL // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm1d(outgoing) if norm == "batch" else nn.GroupNorm(group_count(outgoing), outgoing)

    def forward(self, x_BCL: Tensor) -> Tensor:
        """[B, C, L] to [B, outgoing, L / 2]."""
        return F.max_pool1d(relu(normalise(self.norm, convolve(self.conv, x_BCL))), 2)


def _stages(shape: Shape, widths: tuple[int, int, int], norm: Norm, classes: int) -> list[Stage]:
    channels, length = shape
    a, b, c = widths
    return [
        Stage("conv1", lambda: SeriesBlock(channels, a, norm), (a, length // 2), a * length),
        Stage("conv2", lambda: SeriesBlock(a, b, norm), (b, length // 4), b * (length // 2)),
        Stage("conv3", lambda: SeriesBlock(b, c, norm), (c, length // 8), c * (length // 4)),
        Stage("classifier", lambda: Classifier(c * (length // 8), classes), (classes,)),
    ]


def series_cnn(spec: ModelSpec) -> SplitModel:
    """Input [6, 128] unless model.input_shape says otherwise; cut after conv1, conv2 (default) or conv3."""
    shape = spec.input_shape or (6, 128)
    if len(shape) != 2 or shape[1] < 8:
        raise ModelError(f"series_cnn needs model.input_shape [C, L] with L of 8 or more, got {list(shape)}")
    task = vector_task(spec)
    stages = _stages(shape, three_widths(spec, WIDTHS), spec.norm, task.output_shape[0])
    network = Network(stages, shape, task, per_sample=spec.norm == "group")
    return network.split(spec.cut or "conv2", spec.auxiliary, "series_cnn")
