"""One direction for each sample: a forward pass in which every sample has its own parameters.

Legend: B samples of the piece, D trainable parameters of the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from heron_client.compute.steps.probing import Probing, Yields
from heron_client.compute.zo import add_slopes_per_sample
from heron_core.errors import ModelError
from heron_core.models import lean
from heron_core.models.adapt.per_sample import acts_per_sample, over_places
from heron_core.streams import directions


@dataclass(frozen=True)
class _Slot:
    """Where a layer's parameter lies in theta."""

    parameter: nn.Parameter
    start: int

    def of(self, theta_BD: Tensor) -> Tensor:
        """Its values for each sample, [B, *shape]."""
        values_BP = theta_BD[:, self.start : self.start + self.parameter.numel()]
        return values_BP.reshape(len(theta_BD), *self.parameter.shape)


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
    def parameters(self, theta_BD: Tensor) -> Iterator[None]:
        """Inside, row b of a forward pass over B samples is computed with the parameters theta_BD[b].

        Each layer's own scale is 1 and its shift 0 meanwhile; what they were comes back after.
        """
        with ExitStack() as stack, lean.whole_batches():
            for layer, slots in self._layers.items():
                values = {name: slot.of(theta_BD) for name, slot in slots.items()}
                stack.enter_context(_output_mapped(layer, values.get("weight"), values.get("bias")))
            yield


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


def each_sample(probing: Probing) -> Yields:
    """q directions for each sample, evaluated together: as many forward passes as with one for the whole batch."""
    zo, compute, batch = probing.zo, probing.compute, probing.batch
    per_sample = PerSample(compute.front, [name for name, _ in compute.moved if name.startswith("front.")])
    for piece, (_, labels) in enumerate(batch.pieces):
        losses_B = yield from probing.base(piece)
        batch.finite(float(losses_B.double().sum()))
        probing.slopes += add_slopes_per_sample(
            probing.gradient_P, probing.theta_P, _losses_at(probing, per_sample, piece), losses_B,
            _directions(probing, piece, len(labels)), zo.num_directions * batch.rows, zo.mu, probing.scale(),
            zo.difference,
        )  # fmt: skip


def _losses_at(probing: Probing, per_sample: PerSample, piece: int) -> Callable[[Tensor], Tensor]:
    """The piece's losses [B] at each sample's own parameters [B, D]; the buffers end as they are now."""
    saved = probing.compute.buffers()

    def losses_at(theta_BD: Tensor) -> Tensor:
        with probing.probe(saved), per_sample.parameters(theta_BD):
            losses_B = probing.losses(piece)
        probing.batch.finite(float(losses_B.double().sum()))
        return losses_B

    return losses_at


def _directions(probing: Probing, piece: int, rows: int) -> Iterator[Tensor]:
    """q times one direction for each of the piece's samples, float32 [B, D]."""
    for j in range(probing.zo.num_directions):
        rng = probing.generator(j, "piece", piece)
        yield probing.compute.to_device(directions(probing.zo.distribution, rows, probing.theta_P.numel(), rng))
