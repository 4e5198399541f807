"""The graphs of a run, exported and compared.

Shape letters: B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from heron_core.errors import ModelError
from heron_core.graphs.graph_set import CONSTANTS, EVALUATION, TRAINING, GraphSet, constants_of, stored_files
from heron_core.graphs.manifest import Manifest, Mask, made_for
from heron_core.models.split_model import SplitModel
from heron_core.spec.role import role_of
from heron_core.spec.run_spec import RunSpec
from heron_server.graphs.compare import compare
from heron_server.graphs.examples import (
    inputs_of,
    labels_of,
    lengths_of,
    masks_of,
    moved_away,
    opened_masks,
    opened_of,
    prior_of,
    traced_rows,
)
from heron_server.graphs.passes import ClientPasses, Named, Pass
from heron_server.graphs.refusals import refuse_what_graphs_lack
from heron_server.graphs.rewriting import Draw
from heron_server.graphs.to_onnx import OPSET, onnx_of
from heron_server.graphs.tracing import Open, exporting, trace


def export_graphs(spec: RunSpec, model: SplitModel) -> GraphSet:
    """What a client of this run needs besides its data; it takes seconds.

    ConfigError: the method needs more than forward passes, or a library is missing here. ModelError: the model cannot
    be exported, or its graph is not what torch computes.
    """
    refuse_what_graphs_lack(spec)
    passes = ClientPasses(model, role_of(spec), adjusts_logits=spec.method.logit_adjustment > 0)
    masks, changing = _looked_at(passes)
    training = _training(passes, masks, changing, spec.method.micro_batch_rows)
    evaluation = _evaluation(passes, training, spec.method.batch_size, as_in_training=not masks and not changing)
    tensors = [t for t in passes.tensors(changing) if t.travels or t.name in {*training.takes, *evaluation.takes}]
    constants = constants_of({t.name: passes.held[t.name].detach().numpy() for t in tensors if not t.travels})
    files = stored_files({TRAINING: training.graph, EVALUATION: evaluation.graph, CONSTANTS: constants.data})
    manifest = Manifest(
        made_for=made_for(spec), opset=OPSET, inputs=model.inputs, labels=model.task.labels,
        activations=model.activations, tensors=tuple(tensors), masks=masks, prior=passes.prior,
        gradients=passes.gradients, files=files,
    )  # fmt: skip
    return GraphSet(manifest, training.graph, evaluation.graph, constants)


@dataclass(frozen=True)
class _Exported:
    graph: bytes
    """ONNX."""
    takes: Collection[str]
    """Its inputs."""


def _looked_at(passes: ClientPasses) -> tuple[tuple[Mask, ...], list[str]]:
    """Where a training pass drops out, and which buffers it moves."""
    drawn: list[list[tuple[tuple[int, ...], float]]] = []
    lengths = lengths_of(passes.model)

    def draw(shape: tuple[int, ...], p: float) -> Tensor:
        drawn[-1].append((shape, p))
        return torch.ones(shape, dtype=torch.bool)

    def looked_at(length: int) -> dict[str, Tensor]:
        drawn.append([])
        examples = {**passes.held, **_batch(passes, traced_rows(passes.model), length)}
        with exporting(), torch.no_grad():
            return passes.training(lambda _: draw, passes.buffers(), exact_formulas=False)(examples)

    found, *_ = [looked_at(length) for length in lengths]
    changing = [name for name in passes.buffers() if not torch.equal(found[f"buffers.{name}"], passes.held[name])]
    masks = [
        _mask([shape for shape, _ in place], place[0][1], lengths, passes.model) for place in zip(*drawn, strict=True)
    ]
    return tuple(masks), changing


def _mask(shapes: Sequence[tuple[int, ...]], p: float, lengths: Sequence[int], model: SplitModel) -> Mask:
    """Of a place that drops out of `shapes` where sequences have these lengths."""
    first, rows = shapes[0], traced_rows(model)
    times, over = divmod(first[0], rows)
    mask = Mask(
        times=max(1, times), drops=p,
        shape=tuple(0 if sizes == tuple(lengths) and len({*sizes}) > 1 else sizes[0]
                    for sizes in zip(*(shape[1:] for shape in shapes), strict=True)),
    )  # fmt: skip
    fits = [mask.sized(rows, length) == shape for length, shape in zip(lengths, shapes, strict=True)]
    if over or not times or not all(fits):
        raise ModelError(
            f"a dropout of the model acts on {list(first)} for {rows} samples: its first size must be a multiple of "
            "the samples, and each other size fixed or the length of the sequences; set its probability to 0 (of a "
            "language model in its config.json, on the server), or give every client torch"
        )
    return mask


def _training(passes: ClientPasses, masks: Sequence[Mask], changing: Sequence[str], rows: int) -> _Exported:
    held = moved_away(passes.held, passes.frozen)

    def examples(rows: int, length: int = 0) -> dict[str, Tensor]:
        return {**held, **masks_of(masks, rows, length or lengths_of(passes.model)[0]), **_batch(passes, rows, length)}

    def draw(named: Named) -> Draw:
        left = iter([named[f"masks.{i}"] for i in range(len(masks))])
        return lambda shape, p: next(left)

    opened = {**opened_of(passes.model), **opened_masks(masks)}
    given = examples(traced_rows(passes.model, rows))
    exported = _exported(passes.training(draw, changing, exact_formulas=True), given, opened)
    for length in lengths_of(passes.model):
        compare(
            TRAINING, exported.graph, passes.training(draw, changing, exact_formulas=False), examples(rows, length)
        )
    return exported


def _batch(passes: ClientPasses, rows: int, length: int = 0) -> dict[str, Tensor]:
    inputs = inputs_of(passes.model, rows, length)
    if not passes.has_loss:
        return inputs
    return {**inputs, **labels_of(passes.model, rows, length), **prior_of(passes.prior)}


def _evaluation(passes: ClientPasses, training: _Exported, rows: int, *, as_in_training: bool) -> _Exported:
    """`as_in_training`: no pass of a training drops out or moves buffers. Then the front's training graph may do, and a
    client holds it once."""
    held = moved_away({name: passes.held[name] for name in passes.evaluation_tensors()}, passes.frozen)

    def examples(rows: int, length: int = 0) -> dict[str, Tensor]:
        return {**held, **inputs_of(passes.model, rows, length)}

    def compared(exported: _Exported) -> _Exported:
        for length in lengths_of(passes.model):
            compare(EVALUATION, exported.graph, passes.evaluation(exact_formulas=False), examples(rows, length))
        return exported

    if as_in_training and not passes.has_loss:
        with suppress(ModelError):
            return compared(training)
    given = examples(traced_rows(passes.model, rows))
    return compared(_exported(passes.evaluation(exact_formulas=True), given, opened_of(passes.model)))


def _exported(run: Pass, examples: Mapping[str, Tensor], opened: Mapping[str, Open]) -> _Exported:
    traced = trace(run, examples, opened)
    return _Exported(onnx_of(traced), list(traced.inputs))
