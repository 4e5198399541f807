"""Any nn.Module, cut after one of its submodules.

Only the modules around the cut are traced with torch.fx; everything else stays the call it is. So control flow
may depend on data anywhere but in the forward of a module that contains the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.heads.auxiliary import auxiliary_factory
from heron_core.models.lint.fresh import NewEachTime
from heron_core.models.names import nearest
from heron_core.models.split_model import SplitModel, probe_shapes
from heron_core.models.tasks.classification import Classification
from heron_core.models.tasks.task import Task
from heron_core.models.tracing import trace_around
from heron_core.own_code import said_by
from heron_core.streams import seeded_torch


@dataclass(frozen=True)
class CutModule:
    """A user's whole network and the submodule to cut after: a factory may return it for a SplitModel."""

    module_factory: Callable[[], nn.Module]
    """Builds the whole network, mapping an input [B, *input_shape] to the task's outputs, as logits [B, classes]."""
    cut: str
    """Name of a submodule as in `named_modules()`. The run file's model.cut, if set, takes its place."""
    input_shape: tuple[int, ...]
    """Of one sample, without the batch."""
    classes: int = 0
    """Of a classification, where no task is given."""
    auxiliary: str | None = None
    """The head on the cut: gap_linear, flatten_linear, conv_gap_linear. None: model.auxiliary's."""
    task: Task | None = None
    """None: to classify into `classes`."""
    input_dtype: str = "float32"


def split_cut_module(made: CutModule, *, cut: str = "", auxiliary: str = "gap_linear") -> tuple[SplitModel, nn.Module]:
    """The SplitModel of `made`, and the front that was built to check the cut and learn the activations' shape.

    Each part builds the whole network under its own seed and keeps its half. ModelError: no such submodule,
    more than its one output crosses the cut, or a forward that cannot be traced.
    """
    place, task, whole = cut or made.cut, _task(made), _Whole(made)
    inputs = (TensorSpec("input", tuple(made.input_shape), made.input_dtype),)
    with seeded_torch(0, "init", "probe"):
        front = split_module(whole(), place)[0].eval()
        activations = probe_shapes(front, inputs, f"the model up to {place}")
    if len(activations) != 1:
        raise ModelError(
            f"{place} gives {len(activations)} tensors, one may cross the cut; cut elsewhere or return a SplitModel"
        )
    if activations[0].is_floating and activations[0].dtype != "float32":
        raise ModelError(
            f"the model up to {place} gives {activations[0].dtype}, what crosses the cut must be float32 for the head; "
            "end what is before the cut with .float(), or return a SplitModel with a head of its own"
        )
    model = SplitModel(
        front=lambda: split_module(whole(), place)[0],
        auxiliary=auxiliary_factory(made.auxiliary or auxiliary, activations[0].shape, task.output_shape),
        back=lambda: split_module(whole(), place)[1],
        inputs=inputs,
        activations=activations,
        task=task,
        whole=whole,
    )
    return model, front


def _task(made: CutModule) -> Task:
    if made.task is None and made.classes < 2:
        raise ModelError(
            f"a CutModule without task is for a classification and needs two classes or more, got classes = "
            f"{made.classes}; say classes, or the task: for one real number as target task=Regression() "
            "(from heron_core.models.tasks.regression import Regression)"
        )
    return made.task or Classification(made.classes)


class _Whole:
    """A CutModule's network, a new one at each call."""

    def __init__(self, made: CutModule) -> None:
        self._factory = NewEachTime(made.module_factory, "CutModule.module_factory")

    def __call__(self) -> nn.Module:
        """Raises ModelError for what the user's factory does wrong."""
        if isinstance(self._factory.factory, nn.Module):
            raise ModelError(
                f"CutModule.module_factory must be a function that builds the network, it is a "
                f"{type(self._factory.factory).__name__}; give a function, such as lambda: Net()"
            )
        try:
            module = self._factory()
        except ModelError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"CutModule.module_factory must build the network without arguments, it raised {said_by(error)}; "
                "give a function, such as lambda: Net()"
            ) from error
        if not isinstance(module, nn.Module):
            raise ModelError(f"CutModule.module_factory must return an nn.Module, it returned {type(module).__name__}")
        return module


def split_module(module: nn.Module, cut: str) -> tuple[nn.Module, nn.Module]:
    """Front and back of `module` around submodule `cut`, each with its own submodules, named as before."""
    names = [name for name, _ in module.named_modules() if name]
    if cut not in names:
        raise ModelError(f"{type(module).__name__} has no submodule {cut!r} to cut after{nearest(cut, names)}")
    graph = trace_around(module, cut)
    at = _call_of(graph, cut)
    after = _dependants(graph, at)
    _check_only_the_cut_crosses(graph, at, after)
    front, back = _front(module, graph, at), _back(module, graph, at, after)
    _check_nothing_is_shared(front, back, cut)
    return front, back


def _call_of(graph: fx.Graph, cut: str) -> fx.Node:
    calls: list[fx.Node] = [node for node in graph.nodes if node.op == "call_module" and node.target == cut]
    if len(calls) != 1:
        raise ModelError(f"the forward calls {cut!r} {len(calls)} times, a cut needs exactly one; cut elsewhere")
    return calls[0]


def _dependants(graph: fx.Graph, source: fx.Node) -> set[fx.Node]:
    found = {source}
    for node in graph.nodes:
        if any(argument in found for argument in node.all_input_nodes):
            found.add(node)
    return found - {source}


def _sources(nodes: Iterable[fx.Node], stop: fx.Node | None = None) -> set[fx.Node]:
    """`nodes` and all they are computed from, not looking behind `stop`."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [] if node is stop else node.all_input_nodes
    return found


def _check_only_the_cut_crosses(graph: fx.Graph, at: fx.Node, after: set[fx.Node]) -> None:
    if not any(node.op == "output" for node in after):
        raise ModelError(f"the model's output does not depend on {at.target!r}; cut elsewhere")
    inputs = {node for node in graph.nodes if node.op == "placeholder"}
    crossing = [
        node
        for node in graph.nodes
        if node is not at and node not in after and after.intersection(node.users) and inputs & _sources([node])
    ]
    if crossing:
        raise ModelError(
            f"only the output of {at.target!r} may cross the cut, but what follows also uses "
            f"{', '.join(map(_describe, crossing))}; "
            "cut where no skip connection passes, or return a SplitModel"
        )


def _describe(node: fx.Node) -> str:
    if node.op == "call_module":
        return f"the output of {node.target!r}"
    return f"the input {node.target!r}" if node.op == "placeholder" else f"the value {node.name!r}"


def _front(module: nn.Module, graph: fx.Graph, at: fx.Node) -> nn.Module:
    needed = _sources([at])
    copy, values = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node in needed:
            values[node] = copy.node_copy(node, values.__getitem__)
    copy.output(values[at])
    return fx.GraphModule(module, copy, "Front")


def _back(module: nn.Module, graph: fx.Graph, at: fx.Node, after: set[fx.Node]) -> nn.Module:
    needed = _sources([node for node in after if node.op == "output"], stop=at)
    copy = fx.Graph()
    values = {at: copy.placeholder("activations")}
    for node in graph.nodes:
        if node in needed and node is not at:
            values[node] = copy.node_copy(node, values.__getitem__)
    return fx.GraphModule(module, copy, "Back")


def _check_nothing_is_shared(front: nn.Module, back: nn.Module, cut: str) -> None:
    ours: dict[torch.Tensor, str] = {value: name for name, value in front.named_parameters()}
    both = [ours[value] for _, value in back.named_parameters() if value in ours]
    if both:
        raise ModelError(
            f"the weights {', '.join(both)} are used before and after {cut!r}; cut elsewhere or untie them"
        )
    if not any(True for _ in back.parameters()):
        raise ModelError(f"no weights follow {cut!r}, so the server would have nothing to train; cut earlier")
