"""Settings that contradict each other or the model: refused before any client joins, with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from heron_core.errors import ConfigError
from heron_core.models.adapt.per_sample import per_sample_obstacle
from heron_core.models.families.stages import Trunk
from heron_core.models.split_model import SplitModel
from heron_core.spec.methods import Method, method_of
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.plan import clients_evaluate, upload_bytes


def check_constraints(spec: RunSpec, settings: ServerSettings, model: SplitModel) -> None:
    """ConfigError for the first that is found."""
    method = method_of(spec.method)
    for reason in (
        *_uploads(spec, settings, model, method),
        *_cut_gradients(spec, model, method),
        *(_probes(spec, model, method) if method.front == "zeroth_order" else ()),
        *_evaluation(spec, settings),
    ):
        raise ConfigError(reason)


def _uploads(spec: RunSpec, settings: ServerSettings, model: SplitModel, method: Method) -> Iterator[str]:
    if method.uploads and spec.method.upload_period > spec.method.local_steps:
        yield (
            f"method.upload_period = {spec.method.upload_period} is more than method.local_steps = "
            f"{spec.method.local_steps}: no round would upload anything, and the server would never train; lower it"
        )
    needed = 2 * upload_bytes(spec, model)
    if settings.byte_budget < needed and (method.uploads or clients_evaluate(spec, settings.names_test_set)):
        yield (
            f"server.byte_budget must hold two whole steps, {needed} bytes here, got {settings.byte_budget}; "
            "raise it or lower method.batch_size"
        )


def _cut_gradients(spec: RunSpec, model: SplitModel, method: Method) -> Iterator[str]:
    chosen, name = spec.method, spec.method.name
    if method.returns_cut_gradients and chosen.micro_batch_rows < chosen.batch_size:
        yield (
            f"method.micro_batch = {chosen.micro_batch} cannot be used with {name}: the client waits for the gradient "
            "of the whole batch; remove it, or set 0"
        )
    if method.returns_cut_gradients and chosen.upload_period > 1:
        yield (
            f"method.upload_period = {chosen.upload_period} cannot be used with {name}: a step without an upload gets "
            "no gradient back; remove it, or set 1"
        )
    floating = any(np.dtype(s.dtype).kind == "f" for s in model.activations)
    if not floating and (method.returns_cut_gradients or method.head == "aligned"):
        yield (
            f"{name} needs gradients at the cut, and nothing is floating point there "
            f"({', '.join(f'{s.name} {s.dtype}' for s in model.activations)}); cut elsewhere, or take a method that "
            "returns none, such as heron"
        )


def _probes(spec: RunSpec, model: SplitModel, method: Method) -> Iterator[str]:
    zo, pieces = spec.method.zo, spec.method.batch_size // spec.method.micro_batch_rows
    if zo.block_wise:
        yield from _block_wise(spec, model)
    if zo.scope == "micro_batch" and pieces == 1:
        yield (
            'method.zo.scope = "micro_batch" with one micro-batch a step is scope = "batch"; set method.micro_batch '
            f"to a smaller divisor of batch_size = {spec.method.batch_size}, or remove the scope"
        )
    if zo.scope == "sample":
        yield from _per_sample(spec, model, method)
    slopes = _slopes(spec, model, method)
    if zo.normalise and slopes < 2:
        yield (
            f"method.zo.normalise divides by the spread of a step's slopes and needs two or more, here there is "
            f'{slopes}; raise num_directions, take scope = "micro_batch" or "sample", or remove it'
        )


def _block_wise(spec: RunSpec, model: SplitModel) -> Iterator[str]:
    if spec.method.zo.scope != "batch":
        yield (
            f'method.zo.block_wise takes one direction for the whole batch, not scope = "{spec.method.zo.scope}"; '
            "remove one of the two"
        )
    front = model.build("front", spec.seed)
    if not isinstance(front, Trunk):
        yield (
            f"method.zo.block_wise needs a front made of stages, as the built-in families have, that of "
            f"{spec.model.name} is a {type(front).__name__}; remove it"
        )


def _per_sample(spec: RunSpec, model: SplitModel, method: Method) -> Iterator[str]:
    if method.head == "joint":
        yield (
            'method.zo.scope = "sample" perturbs the front alone, but auxiliary_update = "zo" perturbs the head with '
            'it; set auxiliary_update = "first_order", "server" or "aligned"'
        )
    obstacle = per_sample_obstacle(model, spec.seed)
    if obstacle is not None:
        yield (
            f'method.zo.scope = "sample" gives each sample its own parameters, which {obstacle} cannot have: only '
            "scale and shift of a normalisation and biases of convolutions and linear layers act on each sample by "
            'itself; set model.trainable = "norm", or scope = "micro_batch" or "batch"'
        )


def _slopes(spec: RunSpec, model: SplitModel, method: Method) -> int:
    """Loss differences of one local step."""
    zo, rows = spec.method.zo, spec.method.batch_size
    if zo.block_wise:
        front = model.build("front", spec.seed)
        names = [n for n, _ in front.named_parameters() if model.trainable(f"front.{n}")]
        stages = front.stages if isinstance(front, Trunk) else ()
        blocks = sum(any(name.startswith(f"{stage}.") for name in names) for stage in stages)
        return zo.num_directions * (blocks + (method.head == "joint"))
    return zo.num_directions * {"batch": 1, "micro_batch": rows // spec.method.micro_batch_rows, "sample": rows}[
        zo.scope
    ]


def _evaluation(spec: RunSpec, settings: ServerSettings) -> Iterator[str]:
    if spec.data.validation and settings.names_test_set:
        yield (
            f"data.validation = {spec.data.validation:g} sets training samples apart for evaluation, but "
            f'server.test_data = "{settings.test_data}" names another test set; remove one of the two'
        )
