"""What is trained: the model, its cut and its parts."""

from __future__ import annotations

from heron_core.spec.methods import Method, method_of
from heron_core.spec.run_spec import MethodSpec, ModelSpec
from heron_server.planning.facts import ModelFacts
from heron_server.text.figures import direction_text, name_text
from heron_server.text.tables import Section
from heron_server.text.units import bytes_text

FRONTS = {
    "zeroth_order": "losses of random probes, forward passes only",
    "auxiliary_loss": "backpropagation of the auxiliary head's loss",
    "cut_gradients": "backpropagation of the gradient that the server returns",
    "whole_model": "backpropagation through the whole model",
    "none": "nothing: the control",
}
ON_CUT_GRADIENTS = Method("zeroth_order", "none", "shared")
FROM_THE_CUT = "random probes along the gradient that the server returns, forward passes only"
HEADS = {
    "joint": "what the front learns by, together with it",
    "detached": "its own gradient, on detached activations",
    "server": "the server's steps on what it receives",
    "aligned": "the server, which aligns each client's to the back",
    "none": "nothing",
}
BACKS = {"shared": ", one for all", "per_client": ", one for each client, averaged each round", "none": ""}


def model_section(name: str, model: ModelSpec, method: MethodSpec, facts: ModelFacts) -> Section:
    """Of the run by this name."""
    rows, row = method.batch_size, method_of(method)
    front, head, back = (facts.parts[part] for part in ("front", "auxiliary", "back"))
    kind = facts.parts["auxiliary"].kind if ":" in model.name else model.auxiliary
    ratio = head.parameter_bytes / max(1, front.parameter_bytes)
    described = f"{head.parameter_count:,} parameters, {kind}: {ratio:.1f} times the front"
    beside = "averaged, and run whole on the clients" if row.front == "whole_model" else "on the server"
    judged = f"{name_text(facts.metric.name)}, {direction_text(facts.metric.higher_is_better)}"
    return Section(f"{name}: {method.name} on {model.name}", [
        ("task", f"{facts.task.replace('_', ' ')}, judged by {judged}"),
        ("label of a sample", str(facts.labels)),
        *(("" if i else "input", s.batch_text(rows)) for i, s in enumerate(facts.inputs)),
        ("cut", f"after {model.cut}" if model.cut else "the family's default"),
        *(("" if i else "crosses the cut", f"{s.name} {s.batch_text(rows)}") for i, s in enumerate(facts.activations)),
        ("front", f"{_size(model, facts)}, normalisation: {_normalisation(model, facts)}"),
        ("front learns by", FRONTS[row.front] if row != ON_CUT_GRADIENTS else FROM_THE_CUT),
        ("trainable", f"{model.trainable}: {_moving(facts):,} of the front's {_size(model, facts)}"),
        ("auxiliary head", described if "auxiliary" in row.client_parts else f"none with {_named(method)}"),
        *((("head learns by", HEADS[row.head]),) if "auxiliary" in row.client_parts else ()),
        ("back", f"{back.parameter_count:,} parameters, {beside}{BACKS[row.backs]}"),
    ])  # fmt: skip


def _size(model: ModelSpec, facts: ModelFacts) -> str:
    """Of the front. Rounded weights are not counted one by one: in 4 bits two of them are one number of a tensor."""
    front, weights = facts.parts["front"], model.language.front_weights
    if weights == "float32":
        return f"{front.parameter_count:,} parameters"
    return f"{bytes_text(front.parameter_bytes)}, frozen weights in {weights}"


def _named(method: MethodSpec) -> str:
    return f'objective = "{method.objective}"' if method.objective != "auxiliary" else method.name


def _normalisation(model: ModelSpec, facts: ModelFacts) -> str:
    """Of a built-in family as the table says; of a user's own model as it was found."""
    if ":" not in model.name:
        return model.norm
    found = facts.across_batch.get("front")
    return f"across the batch, in {found}" if found else "none across the batch"


def _moving(facts: ModelFacts) -> int:
    return sum(parameter.size for parameter in facts.parts["front"].trainable)
