"""The graphs of a run, exported and compared.

Shape letters: B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heron_core.errors import ModelError
from heron_core.graphs.graph_set import CONSTANTS, EVALUATION, TRAINING, GraphSet, constants_of, stored_files
from heron_core.graphs.manifest import Manifest, Mask, made_for
from heron_core.models.split_model import SplitModel
from heron_core.spec.role import role_of
from heron_core.spec.run_spec import RunSpec
from heron_server.graphs.compare import compare
from heron_server.graphs.examples import TRACED_ROWS, inputs_of, labels_of, masks_of, moved_away, opened_of, prior_of
from heron_server.graphs.passes import ClientPasses, Named
from heron_server.graphs.refusals import refuse_what_graphs_lack
from heron_server.graphs.rewriting import Draw
from heron_server.graphs.to_onnx import OPSET, onnx_of
from heron_server.graphs.tracing import exporting, trace


def export_graphs(spec: RunSpec, model: SplitModel) -> GraphSet:
    """What a client of this run needs besides its data; it takes seconds.

    ConfigError: the method needs more than forward passes, or a library is missing here. ModelError: the model cannot
    be exported, or its graph is not what torch computes.
    """
    refuse_what_graphs_lack(spec)
    passes = ClientPasses(model, role_of(spec), adjusts_logits=spec.method.logit_adjustment > 0)
    masks, changing = _looked_at(passes)
    training = _training(passes, masks, changing, spec.method.micro_batch_rows)
    evaluation = _evaluation(passes, spec.method.batch_size)
    tensors = passes.tensors(changing)
    constants = constants_of({t.name: passes.held[t.name].detach().numpy() for t in tensors if not t.travels})
    manifest = Manifest(
        made_for=made_for(spec), opset=OPSET, inputs=model.inputs, labels=model.task.labels,
        activations=model.activations, tensors=tensors, masks=masks, prior=passes.prior, gradients=passes.gradients,
        files=stored_files({TRAINING: training, EVALUATION: evaluation, CONSTANTS: constants.data}),
    )  # fmt: skip
    return GraphSet(manifest, training, evaluation, constants)


def _looked_at(passes: ClientPasses) -> tuple[tuple[Mask, ...], list[str]]:
    """Where a training pass drops out, and which buffers it moves."""
    drawn: list[Mask] = []

    def draw(shape: tuple[int, ...], p: float) -> Tensor:
        drawn.append(_mask(shape, p, passes.model))
        return torch.ones(shape, dtype=torch.bool)

    examples = {**passes.held, **_batch(passes, TRACED_ROWS)}
    with exporting(), torch.no_grad():
        found = passes.training(lambda _: draw, passes.buffers(), exact_formulas=False)(examples)
    changing = [name for name in passes.buffers() if not torch.equal(found[f"buffers.{name}"], passes.held[name])]
    return tuple(drawn), changing


def _mask(shape: tuple[int, ...], p: float, model: SplitModel) -> Mask:
    times, over = divmod(shape[0], TRACED_ROWS)
    if over or not times or any(spec.variable for spec in model.inputs):
        raise ModelError(
            f"a dropout of the model acts on {list(shape)} for {TRACED_ROWS} samples: its first size must be a "
            "multiple of the samples, and their lengths must not vary; take it out, or give every client torch"
        )
    return Mask(times=times, shape=shape[1:], drops=p)


def _training(passes: ClientPasses, masks: Sequence[Mask], changing: Sequence[str], rows: int) -> bytes:
    def examples(rows: int) -> dict[str, Tensor]:
        return {**moved_away(passes.held), **masks_of(masks, rows), **_batch(passes, rows)}

    def draw(named: Named) -> Draw:
        left = iter([named[f"masks.{i}"] for i in range(len(masks))])
        return lambda shape, p: next(left)

    opened = {**opened_of(passes.model), **{f"masks.{i}": ("B",) for i in range(len(masks))}}
    traced = trace(passes.training(draw, changing, exact_formulas=True), examples(TRACED_ROWS), opened)
    graph = onnx_of(traced)
    compare(TRAINING, graph, passes.training(draw, changing, exact_formulas=False), examples(rows))
    return graph


def _batch(passes: ClientPasses, rows: int) -> dict[str, Tensor]:
    inputs = inputs_of(passes.model, rows)
    return {**inputs, **labels_of(passes.model, rows), **prior_of(passes.prior)} if passes.has_loss else inputs


def _evaluation(passes: ClientPasses, rows: int) -> bytes:
    def examples(rows: int) -> dict[str, Tensor]:
        held = {name: passes.held[name] for name in passes.evaluation_tensors()}
        return {**moved_away(held), **inputs_of(passes.model, rows)}

    graph = onnx_of(trace(passes.evaluation(), examples(TRACED_ROWS), opened_of(passes.model)))
    compare(EVALUATION, graph, passes.evaluation(), examples(rows))
    return graph
