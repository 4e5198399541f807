"""A plain multi-layer perceptron: flatten, then hidden1, hidden2, ... with ReLU, then a linear classifier."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from heron_core.models.families.outputs import vector_task
from heron_core.models.families.stages import Network, Stage
from heron_core.models.lean import relu
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import ModelSpec

DEFAULT_WIDTHS = (64, 64, 32)


class Hidden(nn.Module):
    """Flatten, linear, ReLU: [B, ...] of `incoming` elements to [B, width]."""

    def __init__(self, incoming: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(incoming, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] to [B, width]."""
        return relu(self.linear(x.flatten(1)))


def _stages(sizes: tuple[int, ...], classes: int) -> list[Stage]:
    hidden = [
        Stage(f"hidden{i}", lambda a=incoming, b=width: Hidden(a, b), (width,))  # type: ignore[misc]
        for i, (incoming, width) in enumerate(pairwise(sizes), start=1)
    ]
    return [*hidden, Stage("classifier", lambda: nn.Linear(sizes[-1], classes), (classes,))]


def mlp(spec: ModelSpec) -> SplitModel:
    """Any input shape, default [1, 8, 8]; cut after hidden1 (default), hidden2, ...; model.norm is unused."""
    input_shape = spec.input_shape or (1, 8, 8)
    task = vector_task(spec)
    sizes = (prod(input_shape), *(spec.widths or DEFAULT_WIDTHS))
    network = Network(_stages(sizes, task.output_shape[0]), input_shape, task)
    return network.split(spec.cut or "hidden1", spec.auxiliary, "mlp")
