"""A pass as a graph of torch operations, with the number of rows left open.

Shape letters: B samples of a batch, T the length of its sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from heron_core.errors import ModelError
from heron_core.own_code import said_by
from heron_core.process.console import printable
from heron_server.graphs.passes import Pass

Open = tuple[str, ...]
"""Of an input: the names of its first dimensions, such as ("B",) or ("B", "T"); "" of one that is not left open."""


@dataclass(frozen=True)
class Traced:
    """A graph of torch operations and its ends in order."""

    graph: fx.GraphModule
    inputs: dict[str, Tensor]
    """Examples of those that the graph uses."""
    opened: Mapping[str, Open]
    outputs: tuple[str, ...]


def trace(run: Pass, examples: Mapping[str, Tensor], opened: Mapping[str, Open]) -> Traced:
    """`run` as a graph of these inputs. ModelError: it cannot be one, because what it computes depends on values."""
    outputs: list[str] = []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = run(dict(zip(examples, tensors, strict=True)))
        outputs[:] = found
        return tuple(found.values())

    fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    with exporting(), torch.no_grad(), fake:
        graph = make_fx(flat)(*stand_ins(examples, opened, fake).values())
    _refuse_own_draws(graph)
    graph.graph.eliminate_dead_code()
    taken = _without_unused(graph, examples)
    graph.recompile()
    return Traced(graph, taken, opened, tuple(outputs))


def _without_unused(graph: fx.GraphModule, examples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes from the graph the inputs that it does not use, such as an unembedding that lies behind the cut."""
    taken = {}
    for (name, tensor), node in zip(examples.items(), graph.graph.find_nodes(op="placeholder"), strict=True):
        if node.users:
            taken[name] = tensor
        else:
            graph.graph.erase_node(node)
    return taken


def stand_ins(examples: Mapping[str, Tensor], opened: Mapping[str, Open], fake: FakeTensorMode) -> dict[str, Tensor]:
    """Tensors without values; dimensions that are left open and have the same size are the same unknown."""

    def stand_in(name: str, tensor: Tensor) -> Tensor:
        names = dict(enumerate(opened.get(name, ())))
        kinds = [DimDynamic.DUCK if names.get(i) else DimDynamic.STATIC for i in range(tensor.dim())]
        context: StatelessSymbolicContext[..., object] = StatelessSymbolicContext(
            kinds, constraint_sizes=[None] * tensor.dim()
        )
        return fake.from_tensor(tensor, symbolic_context=context, source=ConstantSource(name))

    return {name: stand_in(name, tensor) for name, tensor in examples.items()}


class exporting:  # noqa: N801
    """Around what torch does for an export: its errors become a ModelError that names the model's own line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ModelError):
            raise ModelError(
                f"the model cannot be exported for clients without torch: {_said(error)}; a pass must compute "
                "the same operations whatever the values are, of those that ONNX has; or give every client torch"
            ) from error


def _said(error: BaseException) -> str:
    """Of the exporter's chain of errors the first: the others say how to report it to torch's makers."""
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    return printable(said_by(error)[:1000])


def _refuse_own_draws(graph: fx.GraphModule) -> None:
    """What draws random numbers by itself would be a constant of the graph, or another number each time."""
    found = sorted({str(n.target) for n in graph.graph.nodes if _draws(n)})
    if found:
        raise ModelError(
            f"a training pass of the model draws random numbers by {', '.join(found)}, which a client without torch "
            "cannot repeat; use nn.Dropout, or give every client torch"
        )


def _draws(node: fx.Node) -> bool:
    tags: Sequence[object] = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags
