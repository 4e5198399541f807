"""What a client computes in one local step, and how it perturbs its parameters."""

from __future__ import annotations

from math import prod

from heron_core.spec.methods import method_of
from heron_core.spec.optimizer import schedule_text
from heron_core.spec.run_spec import MethodSpec
from heron_core.wire.activation_codec import floating
from heron_server.planning import macs
from heron_server.planning.facts import ModelFacts
from heron_server.planning.perturbation import Perturbation
from heron_server.text.tables import Section
from heron_server.text.units import bytes_text, macs_text, number_text, percent_text


def local_step_section(method: MethodSpec, rounds: int, facts: ModelFacts, change: Perturbation) -> Section:
    """Of a run of so many rounds."""
    parts, step = macs.forward_macs(method, facts), macs.step_macs(method, facts)
    passes = number_text(macs.forward_passes(method, facts))
    rows = [
        ("one forward pass", " + ".join(f"{part} {macs_text(count)}" for part, count in parts.items()) + " MACs"),
        ("forward passes", f"{passes}{_passes_formula(method, facts)}"),
        ("one local step", f"{macs_text(step.exact)} MACs, of needed gradients only"),
        ("as the paper counts", f"{macs_text(step.paper)} MACs"),
        ("whole run, each client", f"{macs_text(step.exact * method.local_steps * rounds)} MACs"),
    ]
    if method_of(method).client_learns:
        rows.append(("learning rate", schedule_text(method.optimizer, "local steps")))
    if method.logit_adjustment:
        rows += [("loss", f"of the logits + {method.logit_adjustment:g} x log of the client's class shares")]
    if method.name == "heron":
        backward = f"{macs_text(3 * sum(parts.values()))} MACs, backward counted as two forward passes"
        rows += [("with backpropagation", backward), ("one direction for", _scope(method))]
        rows += _kept(method, facts) if method_of(method).returns_cut_gradients else []
        rows += _exact(method, facts) + _perturbed(method, change)
    return Section(f"Local step of {method.batch_size} samples", rows)


def _passes_formula(method: MethodSpec, facts: ModelFacts) -> str:
    row, zo = method_of(method), method.zo
    if row.front != "zeroth_order":
        return " and a backward pass" if row.client_learns else " (clients never update)"
    central = zo.difference == "central"
    if zo.block_wise:
        return (
            f" (1 whole, and {'2q' if central else 'q'} from each of {len(macs.probed_stages(method, facts))} stages "
            f"on, counted as shares of {macs.client_stages(facts)} stages; q = {zo.num_directions})"
        )
    return f" ({'2q + 1' if central else 'q + 1'}, q = {zo.num_directions})"


def _scope(method: MethodSpec) -> str:
    if method.zo.block_wise:
        return "each stage of the front in turn, over the whole batch"
    rows = method.micro_batch_rows
    scopes = {"batch": "the whole batch", "micro_batch": f"each micro-batch of {rows}", "sample": "each sample"}
    return scopes[method.zo.scope]


def _kept(method: MethodSpec, facts: ModelFacts) -> list[tuple[str, str]]:
    """Of the probes, while the client waits for the gradient at the cut."""
    each = method.batch_size * sum(4 * prod(spec.shape) for spec in floating(facts.activations))
    q = method.zo.num_directions
    return [("kept until the answer", f"{bytes_text(q * each)}: how each of {q} directions moves the activations")]


def _exact(method: MethodSpec, facts: ModelFacts) -> list[tuple[str, str]]:
    """Whose gradient needs no probe."""
    if method_of(method).head != "detached":
        return []
    stages = facts.parts["front"].stages[len(facts.parts["front"].stages) - method.zo.exact_stages :]
    return [("exact gradient", ", ".join([*stages, "the head"]))] if stages else []


def _perturbed(method: MethodSpec, change: Perturbation) -> list[tuple[str, str]]:
    zo, on_losses = method.zo, not method_of(method).returns_cut_gradients
    rounding = f"about {percent_text(change.rounding)} of a loss difference (gradient of norm 1)"
    return [
        ("perturbed parameters", f"d = {change.size:,}"),
        ("perturbation", f"mu = {zo.mu:g} on {zo.distribution}: length {number_text(change.length, 3)}"),
        ("RMS change per weight", number_text(change.rms, 3)),
        *([("float32 rounding", rounding)] if on_losses else []),
    ]
