"""What slopes can say of the client state, so that both sides come to the same bits.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator

from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_server.planning.client_state import perturbed
from heron_server.planning.facts import ModelFacts
from heron_server.planning.traffic import state_traffic

ASKED = 'codec.client_state = "seeds"'
INSTEAD = 'or client_state = "weights"'


def client_state(spec: RunSpec, facts: ModelFacts) -> Iterator[str]:
    """Of runs whose clients send slopes in the place of weights."""
    if spec.codec.client_state != "seeds":
        return
    if method_of(spec.method).front != "zeroth_order":
        yield f"{ASKED} is for clients that learn by slopes, with {spec.method.name} none does; remove it"
        return
    yield from _steps(spec.method)
    yield from _moments(spec.method)
    yield from _average(spec)
    odd = [p.name for p in perturbed(spec.method, facts) if p.size_bytes != 4 * p.size]
    if odd:
        yield f"{ASKED} replays float32, and {odd[0]} is none; cast it, {INSTEAD}"
    elif sum(state_traffic(spec, facts)) >= sum(_as_weights(spec, facts)):
        yield f"{ASKED} would send more bytes than the weights, for the client state is small; remove it"


def _as_weights(spec: RunSpec, facts: ModelFacts) -> tuple[int, int]:
    codec = spec.codec.model_copy(update={"client_state": "weights"})
    return state_traffic(spec.model_copy(update={"codec": codec}), facts)


def _steps(method: MethodSpec) -> Iterator[str]:
    zo, pull = method.zo, method.optimizer.lr * method.proximal
    if zo.distribution != "rademacher":
        yield (
            f'{ASKED} draws everybody\'s directions again, and those of distribution = "{zo.distribution}" are not the '
            f'same bits on every machine; set method.zo.distribution = "rademacher", {INSTEAD}'
        )
    if zo.scope == "sample" or zo.block_wise:
        asked = "method.zo.block_wise" if zo.block_wise else 'method.zo.scope = "sample"'
        yield f'{ASKED} replays the scopes "batch" and "micro_batch", not {asked}; take one of them, {INSTEAD}'
    if zo.exact_stages:
        yield (
            f"{ASKED} replays what is perturbed, and method.zo.exact_stages = {zo.exact_stages} gives stages of the "
            f"front their exact gradient; set it to 0, {INSTEAD}"
        )
    if pull > 1:
        yield (
            f"{ASKED} bounds what slopes can lead to, and method.proximal times method.optimizer.lr is {pull:g}, at "
            "which a step overshoots its start; lower one of them to a product of 1 or less"
        )


def _moments(method: MethodSpec) -> Iterator[str]:
    if method.moments == "kept":
        yield (
            f'{ASKED} lets each client replay the others, whose moments it has not with method.moments = "kept"; set '
            f'"averaged" or "reset", {INSTEAD}'
        )
    if method.moments == "averaged" and method_of(method).head == "detached":
        yield (
            f'{ASKED} replays moments of what is perturbed, and with auxiliary_update = "first_order" they are the '
            f'head\'s too; set method.moments = "reset", or auxiliary_update = "zo" or "server", {INSTEAD}'
        )


def _average(spec: RunSpec) -> Iterator[str]:
    rule, after = spec.federation.aggregation, spec.federation.server_average.name
    if rule not in ("uniform", "samples"):
        yield (
            f'{ASKED} lets each client average what it replays, with federation.aggregation = "uniform" or "samples", '
            f'not "{rule}"; take one of them, {INSTEAD}'
        )
    if after != "plain":
        yield (
            f'{ASKED} lets each client average what it replays, and federation.server_average.name = "{after}" steps '
            f'on; set "plain", {INSTEAD}'
        )
