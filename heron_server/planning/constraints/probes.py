"""What zeroth-order probes need of model, batch and head.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator

from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, ZoSpec
from heron_server.planning.client_state import perturbed
from heron_server.planning.facts import ModelFacts
from heron_server.planning.macs import probed_stages


def of_probes(method: MethodSpec, model_name: str, facts: ModelFacts) -> Iterator[str]:
    """Of directions, their scope and their normalisation."""
    zo, micro_batches = method.zo, method.batch_size // method.micro_batch_rows
    if method_of(method).returns_cut_gradients:
        yield from _on_cut_gradients(zo)
    if zo.block_wise:
        yield from _block_wise(method, model_name, facts)
    if zo.exact_stages:
        yield from _exact_stages(method, model_name, facts)
    if zo.scope == "micro_batch" and micro_batches == 1:
        yield (
            'method.zo.scope = "micro_batch" with one micro-batch a step is scope = "batch"; set method.micro_batch '
            f"to a smaller divisor of batch_size = {method.batch_size}, or remove the scope"
        )
    if zo.scope == "sample":
        yield from _per_sample(method, facts)
    slopes = _slopes(method, facts)
    if zo.normalise and slopes < 2:
        yield (
            f"method.zo.normalise divides by the spread of a step's slopes and needs two or more, here there is "
            f'{slopes}; raise num_directions, take scope = "micro_batch" or "sample", or remove it'
        )


def _on_cut_gradients(zo: ZoSpec) -> Iterator[str]:
    asked, what = 'method.objective = "cut_gradient"', "compares whole passes of the front with the returned gradient"
    if zo.block_wise:
        yield f"{asked} {what}, method.zo.block_wise takes passes that begin inside it; remove one of the two"
    if zo.scope == "sample":
        yield (
            f"{asked} {what}, at one set of parameters for each micro-batch; method.zo.scope = \"sample\" has one for "
            'each sample: set scope = "micro_batch" with a small method.micro_batch, or "batch"'
        )


def _block_wise(method: MethodSpec, model_name: str, facts: ModelFacts) -> Iterator[str]:
    if method.zo.scope != "batch":
        yield (
            f'method.zo.block_wise takes one direction for the whole batch, not scope = "{method.zo.scope}"; '
            "remove one of the two"
        )
    front = facts.parts["front"]
    if not front.stages:
        yield (
            f"method.zo.block_wise needs a front made of stages, as the built-in families have, that of "
            f"{model_name} is a {front.kind}; remove it"
        )


def _exact_stages(method: MethodSpec, model_name: str, facts: ModelFacts) -> Iterator[str]:
    exact, front = method.zo.exact_stages, facts.parts["front"]
    if method_of(method).head != "detached":
        lacking = f'auxiliary_update = "{method.auxiliary_update}" does not have; set it to "first_order"'
        if method_of(method).returns_cut_gradients:
            lacking = 'objective = "cut_gradient" does not have, for it has no head; remove the objective'
        yield f"method.zo.exact_stages needs the head's exact gradient, which {lacking}, or set exact_stages to 0"
    if not front.stages:
        yield (
            "method.zo.exact_stages needs a front made of stages, as the built-in families have, that of "
            f"{model_name} is a {front.kind}; set it to 0"
        )
    elif not perturbed(method, facts):
        yield (
            f"method.zo.exact_stages = {exact} leaves nothing to perturb: of the front's {len(front.stages)} stages "
            'none below has a trainable parameter; lower it, or take method.name = "cse_fsl", which backpropagates'
        )


def _per_sample(method: MethodSpec, facts: ModelFacts) -> Iterator[str]:
    if method_of(method).head == "joint":
        yield (
            'method.zo.scope = "sample" perturbs the front alone, but auxiliary_update = "zo" perturbs the head with '
            'it; set auxiliary_update = "first_order", "server" or "aligned"'
        )
    if facts.per_sample_obstacle is not None:
        yield (
            f'method.zo.scope = "sample" gives each sample its own parameters, which {facts.per_sample_obstacle} '
            "cannot have: only scale and shift of a normalisation and biases of convolutions and linear layers act on "
            'each sample by itself; set model.trainable = "norm", or scope = "micro_batch" or "batch"'
        )


def _slopes(method: MethodSpec, facts: ModelFacts) -> int:
    """Loss differences of one local step."""
    if method.zo.block_wise:
        return method.zo.num_directions * len(probed_stages(method, facts))
    rows = method.batch_size
    return method.zo.num_directions * {"batch": 1, "micro_batch": rows // method.micro_batch_rows, "sample": rows}[
        method.zo.scope
    ]
