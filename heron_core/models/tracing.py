"""Tracing a module's forward with torch.fx, no deeper than a cut needs."""

from __future__ import annotations

import inspect
from typing import Any

from torch import fx, nn

from heron_core.errors import ModelError
from heron_core.own_code import said_by


class _AroundCut(fx.Tracer):
    """Looks inside the modules that contain the cut; every other module stays one call."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self.cut = cut

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.cut.startswith(f"{module_qualified_name}.")


def trace_around(module: nn.Module, cut: str) -> fx.Graph:
    """The graph of `module.forward`, one for train and eval mode. ModelError: untraceable, or they differ."""
    was_training = module.training
    graphs = {mode: _trace(module.train(mode), cut) for mode in (False, True)}
    module.train(was_training)
    if str(graphs[True]) != str(graphs[False]):
        raise ModelError(
            f"the forward around {cut!r} asks self.training (as F.dropout(x, training=self.training) does), "
            "which a cut would freeze; use a module such as nn.Dropout, or return a SplitModel"
        )
    return graphs[True]


def _trace(module: nn.Module, cut: str) -> fx.Graph:
    tracer = _AroundCut(cut)
    try:
        return tracer.trace(module, concrete_args=_defaults(module))
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"cannot cut {type(module).__name__} after {cut!r}: its forward cannot be traced "
            f"({said_by(error)}). Control flow that depends on data cannot be cut by name: "
            "move it into a submodule, or let the factory return a SplitModel"
        ) from error


def _defaults(module: nn.Module) -> dict[str, Any]:
    """Values of the forward's optional arguments; ModelError unless exactly one has no default."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in named if p.default is p.empty]
    if len(required) != 1:
        raise ModelError(
            f"the forward of {type(module).__name__} must take one tensor, it takes {required or 'none'}; let the "
            "factory return a SplitModel, whose front may take several"
        )
    return {p.name: p.default for p in named if p.default is not p.empty}
