"""A forward pass in which every sample has its own parameters.

Shape suffixes: B samples of the micro-batch, P parameters of the front that move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from heron_core.errors import ModelError
from heron_core.models import lean
from heron_core.models.adapt.per_sample import AdapterMatrix, acts_per_sample, over_places


@dataclass(frozen=True)
class _Slot:
    """Where a layer's parameter lies in theta."""

    parameter: nn.Parameter
    start: int

    def of(self, theta_BP: Tensor) -> Tensor:
        """Its values for each sample, [B, *shape]."""
        values_BV = theta_BP[:, self.start : self.start + self.parameter.numel()]
        return values_BV.reshape(len(theta_BP), *self.parameter.shape)


class PerSample:
    """The front's trainable parameters, in theta's order, as something that each sample may have its own of.

    `names` such as `front.norm.weight`. ModelError for one that cannot act per sample.
    """

    def __init__(self, front: nn.Module, names: Iterable[str]) -> None:
        self._layers: dict[nn.Module, dict[str, _Slot]] = {}
        start = 0
        for name in names:
            path, _, parameter = name.removeprefix("front.").rpartition(".")
            layer = front.get_submodule(path)
            if not acts_per_sample(layer, parameter):
                raise ModelError(
                    f"{name} cannot differ from sample to sample; "
                    'take method.zo.scope = "batch" or "micro_batch", or model.trainable = "norm"'
                )
            slot = _Slot(layer.get_parameter(parameter), start)
            self._layers.setdefault(layer, {})[parameter] = slot
            start += slot.parameter.numel()

    @contextmanager
    def parameters(self, theta_BP: Tensor) -> Iterator[None]:
        """Inside, row b of a forward pass over B samples is computed with the parameters theta_BP[b].

        Each layer's own scale is 1 and its shift 0 meanwhile; what they were comes back after.
        """
        with ExitStack() as stack, lean.whole_batches():
            for layer, slots in self._layers.items():
                values = {name: slot.of(theta_BP) for name, slot in slots.items()}
                if isinstance(layer, AdapterMatrix):
                    stack.enter_context(_own_matrix(layer, values["weight"].contiguous()))
                    continue
                stack.enter_context(_output_mapped(layer, values.get("weight"), values.get("bias")))
            yield


@contextmanager
def _own_matrix(layer: AdapterMatrix, weight_B: Tensor) -> Iterator[None]:
    """`layer` gives x W^T with each sample's own W."""

    def hook(_layer: nn.Module, given: tuple[Tensor, ...], _out: Tensor) -> Tensor:
        return layer.inner(given[0]) @ weight_B.transpose(1, 2)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _output_mapped(layer: nn.Module, scale_B: Tensor | None, shift_B: Tensor | None) -> Iterator[None]:
    """`layer` gives out * scale_B + shift_B instead of its own scale (where scale_B is given) and shift."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor | None)
    saved = [(bias, bias.clone())] if bias is not None else []
    if scale_B is not None:
        saved.append((weight, weight.clone()))
    if shift_B is None and bias is not None:
        shift_B = bias.clone().unsqueeze(0)

    def hook(_layer: nn.Module, _inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if scale_B is not None:
            out.mul_(over_places(layer, scale_B, out))
        return out if shift_B is None else out.add_(over_places(layer, shift_B, out))

    handle = layer.register_forward_hook(hook)
    try:
        if scale_B is not None:
            weight.fill_(1.0)
        if bias is not None:
            bias.fill_(0.0)
        yield
    finally:
        handle.remove()
        for tensor, values in saved:
            tensor.copy_(values)
