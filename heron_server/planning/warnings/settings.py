"""What is allowed but probably not meant: the warnings of `heron-server validate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heron_core.errors import ConfigError
from heron_core.spec.data import DataSpec
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, ModelSpec
from heron_server.certs.choice import choose_guard
from heron_server.config import ServerSettings
from heron_server.planning.facts import ModelFacts
from heron_server.planning.perturbation import Perturbation
from heron_server.text.units import number_text, percent_text

MOST_ROUNDING = 0.1
"""Share of a loss difference that may be rounding."""
LONGEST_CHANGE = 0.5
"""Of mu * u. At 0.86 the forward difference was off by 49 % on the paper's model."""


def method_warnings(method: MethodSpec, rounds: int, facts: ModelFacts, change: Perturbation) -> Iterator[str]:
    """About the local steps of a run of so many rounds, on this model."""
    rest = method.local_steps % method.upload_period
    if rest:
        yield (
            f"method.upload_period = {method.upload_period} does not divide method.local_steps = "
            f"{method.local_steps}: nothing is uploaded from the last {_steps(rest)} of each round, which only "
            "train the client"
        )
    if method.name == "frozen" and method.running_statistics == "keep" and not facts.parts["front"].buffers:
        yield 'method.running_statistics = "keep" has no effect: the front has no running statistics'
    if method_of(method).front in ("zeroth_order", "auxiliary_loss") and not facts.parts["front"].trainable:
        yield (
            f"no parameter of the front moves, so that {method.name} trains the head alone; cut later, or let "
            "parameters of the front move (requires_grad)"
        )
    if method.name == "heron" and method.zo.scope != "batch" and method.moments == "reset":
        yield (
            f'method.zo.scope = "{method.zo.scope}" with moments = "reset": many noisy directions want moments that '
            'persist; try moments = "averaged" or "kept"'
        )
    if method_of(method).head == "aligned" and method.alignment.every_rounds > rounds:
        yield (
            f"method.alignment.every_rounds = {method.alignment.every_rounds} is more than rounds = {rounds}: no "
            "head is ever aligned; lower it"
        )
    if method.name != "heron":
        return
    if change.rounding > MOST_ROUNDING and not method_of(method).returns_cut_gradients:
        yield (
            f"method.zo.mu = {method.zo.mu:g} changes each weight by {number_text(change.rms, 3)} (RMS): float32 "
            f"rounding is about {percent_text(change.rounding)} of the loss difference for a gradient of norm 1; "
            "raise mu"
        )
    if change.length > LONGEST_CHANGE:
        yield (
            f"method.zo.mu = {method.zo.mu:g} with {method.zo.distribution} directions moves the parameters by "
            f"{number_text(change.length, 3)} in all: curvature may outweigh the slope; lower mu, or take the sphere"
        )


def model_warnings(model: ModelSpec, facts: ModelFacts) -> Iterator[str]:
    """About the model table, and the model itself."""
    yield from facts.warnings
    front = facts.parts["front"]
    if model.weights and not model.weights_sha256 and len(front.trainable) < len(front.parameters):
        yield (
            f"model.weights = {model.weights!r} without weights_sha256: a client that has other weights there would "
            "train another model unnoticed; copy state_sha256 from its model.json"
        )


def file_warnings(chosen: DataSpec) -> Iterator[str]:
    """About the data table's file."""
    if chosen.file and not chosen.file_sha256:
        yield (
            f"data.file = {chosen.file!r} without file_sha256: a side that has another file there would learn from, or "
            "evaluate on, other samples unnoticed; set it to what `sha256sum` says of the file"
        )


def share_warnings(method: MethodSpec, sizes: Sequence[int]) -> Iterator[str]:
    """About the clients' data, samples by rank."""
    smallest, needed = min(sizes), method.local_steps * method.batch_size
    if smallest < needed:
        few = sum(size < needed for size in sizes)
        yield (
            f"local_steps x batch_size = {needed:,} samples a round, more than the share of {few} of {len(sizes)} "
            f"clients (smallest {smallest:,}): they pass over their data more than once a round"
        )


def server_warnings(settings: ServerSettings, evaluated: bool) -> Iterator[str]:
    """About the [server] table."""
    if not evaluated:
        yield (
            "nobody evaluates: accuracy and loss will be unknown; set server.test_data, or data.holdout with "
            'data.source = "client"'
        )
    try:
        choose_guard(settings, insecure=False)
    except ConfigError as error:
        yield f"the run is refused as it stands: {error}"
    if settings.order == "arrival":
        yield 'server.order = "arrival": two runs of this file will not end with the same bits'


def _steps(count: int) -> str:
    return "local step" if count == 1 else f"{count} local steps"
