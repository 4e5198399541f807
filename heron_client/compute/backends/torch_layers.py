"""What each layer of a torch module gives in one forward pass."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from heron_core.arrays import Array


def layer_outputs(module: nn.Module, forward: Callable[[], object], rows: int) -> dict[str, Array]:
    """By name such as `front.norm`, in the order of their calls, the first output of each module without modules of its
    own; those are left out that are not a tensor with so many rows."""
    found: dict[str, Array] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _given: object, output: object) -> None:
            if isinstance(output, Tensor) and output.shape[:1] == (rows,):
                found.setdefault(name, output.to("cpu", copy=True).numpy())

        return hook

    named = ((f"front.{name}", layer) for name, layer in module.named_modules())
    layers = [(name, layer) for name, layer in named if not any(True for _ in layer.children())]
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return found
