"""Which runs a client without torch cannot take part in, by their settings alone."""

from __future__ import annotations

from heron_core.errors import ConfigError
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec


def refuse_what_graphs_lack(spec: RunSpec) -> None:
    """ConfigError where a client of this run needs more than forward passes over whole batches, which takes torch."""
    method, other = spec.method, "or give every client torch, and set server.graphs to false"
    if method_of(method).front not in ("zeroth_order", "none"):
        raise ConfigError(
            f'method.name = "{method.name}" needs the gradient of the front, which a client without torch cannot '
            f'compute; take method.name = "heron", {other}'
        )
    if method_of(method).front == "none":
        return
    if method_of(method).head == "detached" and spec.model.name == "causal_lm":
        raise ConfigError(
            'method.auxiliary_update = "first_order" needs the gradient of a language model\'s head, which a client '
            'without torch cannot compute; take auxiliary_update = "server" or "zo", or '
            f'objective = "cut_gradient", {other}'
        )
    if method.zo.exact_stages:
        raise ConfigError(
            f"method.zo.exact_stages = {method.zo.exact_stages} needs the gradient of the front's last stages, which a "
            f"client without torch cannot compute; set it to 0, {other}"
        )
    if method.zo.scope == "sample":
        raise ConfigError(
            'method.zo.scope = "sample" gives each sample its own parameters, which a client without torch cannot do; '
            f'take "batch" or "micro_batch", {other}'
        )
    if method.zo.block_wise:
        raise ConfigError(
            "method.zo.block_wise begins forward passes inside the front, which a client without torch cannot do; set "
            f"it to false, {other}"
        )
