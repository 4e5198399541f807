"""How much memory a run needs on the server: counted from settings and the model's facts, not measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heron_core.errors import ConfigError
from heron_core.process.memory import total_memory, whose_memory
from heron_core.spec.methods import method_of
from heron_core.spec.optimizer import OptimizerSpec
from heron_core.spec.run_spec import FederationSpec, MethodSpec, RunSpec
from heron_server.aggregation.rules import RULES
from heron_server.config import ServerSettings
from heron_server.planning.client_state import StateTensor, client_state, state_bytes
from heron_server.planning.facts import ModelFacts
from heron_server.planning.traffic import transfer_of
from heron_server.text.units import bytes_text
from heron_server.uploads.scheduler import fewest_slots

VERSIONS = 2
"""Of the client states: the last checkpoint's, and the one that is being evaluated."""
CHECKPOINT, HELD = "a checkpoint being written", "the last round, not yet saved"
COPIES = (CHECKPOINT, HELD)
CHECKPOINT_COPIES = 2
"""Of everything that it holds: the tensors, and the file's bytes."""
FEW_COPIES = 6
"""Of one tensor that any rule has in float64 while it computes."""


@dataclass(frozen=True)
class Item:
    """One thing that the server holds."""

    name: str
    size_bytes: int
    formula: str
    """Where the figure comes from, in words."""
    remedy: str = ""
    """What to lower."""
    saved_bytes: int = 0
    """Of it in a checkpoint."""


def server_memory(spec: RunSpec, slots: int, facts: ModelFacts, *, holds: bool = False) -> list[Item]:
    """Everything that grows with the run's settings, the largest first; without Python, torch and the test set.

    `slots`: whole uploads that it holds at once, 0 where nobody sends any. `holds`: is the last round held in memory
    where it is not saved?
    """
    method, optimizer, federation = spec.method, spec.server_optimizer, spec.federation
    items = [_backs(method, optimizer, federation, facts), *_client_states(method, optimizer, federation, facts)]
    items += [_averaged_back(facts)] if spec.averaged_back.decay else []
    items += _uploads(spec, slots, facts) if slots else []
    items.append(_work(method, facts))
    items += [_held(items)] if holds else []
    items.append(_checkpoint(items))
    return sorted((item for item in items if item.size_bytes), key=lambda item: -item.size_bytes)


def check_memory_limit(items: list[Item], memory_limit: int) -> None:
    """ConfigError with the figure and what to lower, where the run needs more than `memory_limit` bytes.

    0: the memory of this machine, or of its container.
    """
    needed, limit = sum(item.size_bytes for item in items), memory_limit or total_memory()
    if needed > limit:
        largest = max((item for item in items if item.name not in COPIES), key=lambda item: item.size_bytes)
        whose = "server.memory_limit" if memory_limit else f"{whose_memory()}'s memory"
        raise ConfigError(
            f"the run needs {bytes_text(needed)} ({needed:,} bytes) on the server, {whose} is {bytes_text(limit)}; "
            f"most of it is {largest.name}: {bytes_text(largest.size_bytes)}, {largest.formula}; "
            f"lower {largest.remedy or 'the model'}"
            f"{', or raise server.memory_limit' if memory_limit else ''}"
        )


def byte_budget_problems(spec: RunSpec, byte_budget: int, facts: ModelFacts) -> Iterator[str]:
    """Why the budget is too small for the uploads of a run that has some, if it is."""
    method, participants = spec.method, spec.federation.participants
    fewest = fewest_slots(participants, method.mixing)
    needed = fewest * transfer_of(spec, facts).upload
    if byte_budget >= needed:
        return
    if method.mixing:
        yield (
            f"method.mixing pools an upload of each of {participants} clients: server.byte_budget must hold {fewest} "
            f"whole uploads, {needed} bytes here, got {byte_budget}; raise it, lower method.batch_size or "
            "federation.clients_per_round, or remove method.mixing"
        )
    else:
        yield (
            f"server.byte_budget must hold two whole uploads, {needed} bytes here, got {byte_budget}; "
            "raise it or lower method.batch_size"
        )


def pool_problems(method: MethodSpec, settings: ServerSettings, facts: ModelFacts) -> Iterator[str]:
    """Why no pool of mixed batches can be made of what these clients send, if none can."""
    backs = method_of(method).backs
    if backs != "shared":
        instead = "keeps one back for each" if backs == "per_client" else "has no uploads"
        yield f"method.mixing trains one back on all clients' uploads, and {method.name} {instead}; remove it"
    if settings.order != "canonical":
        yield (
            f"method.mixing pools one upload of each client in rank order, and server.order = \"{settings.order}\" "
            'takes them as they come; remove one of the two'
        )
    if facts.varying and not (facts.labels.variable and facts.labels.maskable):
        yield (
            f"method.mixing takes rows of several clients into one batch, {', '.join(facts.varying)} at the cut varies "
            f"in length, and labels {facts.labels} cannot say that a padded position does not count; remove it, or pad "
            "every sample to one length"
        )


# -- what it holds -----------------------------------------------------------------------------------------------


def _backs(method: MethodSpec, optimizer: OptimizerSpec, federation: FederationSpec, facts: ModelFacts) -> Item:
    clients, drawn, kind = federation.clients, federation.participants, method_of(method).backs
    back, slots = facts.parts["back"], _moments(optimizer)
    size, state, weights = back.size_bytes, back.saved_bytes, back.trainable_bytes
    moments = f"{slots} x {bytes_text(weights)} of {optimizer.name}'s moments"
    if kind == "none":
        return Item("the back", size, "filled from the client states, never trained", saved_bytes=state)
    if kind == "shared":
        whole = size + slots * weights
        return Item("the back", whole, f"{bytes_text(size)}, {moments}", "the model", state + slots * weights)
    return Item(
        "a back for each client", size + drawn * state + clients * slots * weights,
        f"{drawn} copies of {bytes_text(state)} and their average of {bytes_text(size)}, and for each of {clients} "
        f"clients {moments}",
        'federation.clients, or take method.name = "sflv2", which has one back for all',
        state + clients * slots * weights,
    )  # fmt: skip


def _averaged_back(facts: ModelFacts) -> Item:
    size, state = facts.parts["back"].size_bytes, facts.parts["back"].saved_bytes
    return Item("the averaged back", size, "as large as the back", "the model, or set averaged_back.decay = 0", state)


def _client_states(
    method: MethodSpec, optimizer: OptimizerSpec, federation: FederationSpec, facts: ModelFacts
) -> list[Item]:
    clients, drawn, parts = federation.clients, federation.participants, method_of(method).client_parts
    tensors = client_state(method, facts)
    modules = sum(facts.parts[part].size_bytes for part in parts)
    common = sum(t.size_bytes for t in tensors if t.place in ("averaged", "shared"))
    kept = sum(t.size_bytes for t in tensors if t.place == "kept")
    heads = sum(t.size_bytes for t in tensors if t.place == "own")
    up = state_bytes(tensors).up
    few = "federation.clients or the model"
    return [
        Item("the client's model", modules, " and ".join(parts), "the model"),
        Item("client state", VERSIONS * common, f"{VERSIONS} versions of {bytes_text(common)}", "the model", common),
        Item("updates", drawn * up, f"{drawn} clients x {bytes_text(up)}, until they are averaged", few),
        *_rule(federation, tensors),
        *_server_average(federation, sum(t.size_bytes for t in tensors if t.place == "averaged")),
        Item("kept moments", VERSIONS * clients * kept, f"{VERSIONS} x {clients} clients x {bytes_text(kept)}",
             'federation.clients, or set method.moments = "averaged" or "reset"', clients * kept),
        *_head_moments(method, optimizer, facts),
        Item("aligned heads", VERSIONS * clients * heads, f"{VERSIONS} x {clients} clients x {bytes_text(heads)}",
             "federation.clients or the head", clients * heads),
    ]  # fmt: skip


def _server_average(federation: FederationSpec, averaged: int) -> list[Item]:
    """The moments of the server's optimiser, at most one number of float32 for each that is averaged."""
    name = federation.server_average.name
    each = {"plain": 0, "fedavgm": 1}.get(name, 2)
    formula = f"{VERSIONS} versions of {each} x {bytes_text(averaged)}"
    whose = 'the model, or set federation.server_average.name = "plain"'
    return [Item(f"moments of {name}", VERSIONS * each * averaged, formula, whose, each * averaged)] if each else []


def _rule(federation: FederationSpec, tensors: list[StateTensor]) -> list[Item]:
    """What an aggregation rule makes of the updates while it looks at the largest tensor; little for a mean."""
    largest = max((8 * t.size for t in tensors if t.place == "averaged"), default=0)
    each, drawn, rule = RULES[federation.aggregation].copies, federation.participants, federation.aggregation
    if not each:
        return []
    formula = f"{each} x {drawn} clients + {FEW_COPIES}, of their largest tensor in float64, {bytes_text(largest)}"
    return [Item(f"work of {rule}", (each * drawn + FEW_COPIES) * largest, formula, "federation.clients_per_round")]


def _head_moments(method: MethodSpec, optimizer: OptimizerSpec, facts: ModelFacts) -> list[Item]:
    """Of the head that the server trains; its weights are the client's model's."""
    if method_of(method).head != "server":
        return []
    weights = sum(p.size_bytes for p in facts.parts["auxiliary"].trainable)
    slots = _moments(optimizer)
    formula = f"{slots} x {bytes_text(weights)} of {optimizer.name}'s moments"
    return [Item("the head's moments", slots * weights, formula, "the head", slots * weights)]


def _uploads(spec: RunSpec, slots: int, facts: ModelFacts) -> list[Item]:
    method, row, transfer = spec.method, method_of(spec.method), transfer_of(spec, facts)
    clients, drawn = spec.federation.clients, spec.federation.participants
    purpose = "" if row.uploads else ", for evaluation by the clients"
    whose = f"{slots} of {bytes_text(transfer.upload)}, by server.byte_budget and the clients{purpose}"
    items = [Item("uploads", slots * transfer.upload, whose, "server.byte_budget or method.batch_size")]
    upload = method.batch_size * (facts.activation_bytes + facts.label_bytes)
    gradients = method.batch_size * facts.gradient_bytes
    if spec.codec.reuse or min(transfer.activations, transfer.evaluated) < method.batch_size * facts.activation_bytes:
        items.append(Item("a decoded upload", upload, "as it is trained on or evaluated", "method.batch_size"))
    if row.returns_cut_gradients:
        down = transfer.cut_gradients
        items.append(Item("cut gradients", drawn * down, f"{drawn} clients x {bytes_text(down)}, until "
                          "their next upload", "federation.clients or method.batch_size"))  # fmt: skip
    if method.mixing:
        pool = (drawn + 1) * (upload + gradients * row.returns_cut_gradients)
        formula = f"an upload of each of {drawn} clients joined, and a batch of their rows"
        items.append(Item("the pool of mixed batches", pool, formula, "federation.clients_per_round or the batch size"))
    if row.head == "aligned":
        held = max(1, method.alignment.buffer_samples // method.batch_size)
        formula = f"{clients} clients x {held} uploads of {bytes_text(upload)}"
        whole = clients * held * upload
        items.append(Item("alignment buffers", whole, formula, "method.alignment.buffer_samples", whole))
    return items


def _work(method: MethodSpec, facts: ModelFacts) -> Item:
    """The larger of a training step's graph and gradients, and an evaluation batch's maps."""
    front, back, rows = facts.parts["front"], facts.parts["back"], method.batch_size
    evaluation = Item(
        "one evaluation batch",
        facts.evaluation_rows * (max(front.widest_bytes, back.widest_bytes) + facts.input_bytes),
        f"{facts.evaluation_rows} samples, input and widest layer", "the model",
    )  # fmt: skip
    if not method_of(method).uploads:
        return evaluation
    step = Item(
        "one step on the back", rows * back.map_bytes + back.trainable_bytes,
        f"{rows} samples x {bytes_text(back.map_bytes)} of maps, and the gradient", "method.batch_size",
    )  # fmt: skip
    return max(step, evaluation, key=lambda item: item.size_bytes)


def _held(items: list[Item]) -> Item:
    """What an abandoned round goes back to, where no checkpoint has it."""
    size = sum(item.saved_bytes for item in items)
    return Item(HELD, size, "what a checkpoint would hold of it")


def _checkpoint(items: list[Item]) -> Item:
    """One on its way to the disk."""
    size, largest = sum(item.saved_bytes for item in items), max(items, key=lambda item: item.saved_bytes)
    formula = f"{CHECKPOINT_COPIES} x {bytes_text(size)}, most of it {largest.name}"
    return Item(CHECKPOINT, CHECKPOINT_COPIES * size, formula)


def _moments(optimizer: OptimizerSpec) -> int:
    """Vectors as large as the weights that the optimiser keeps."""
    return 2 if optimizer.name == "adam" else int(optimizer.momentum > 0)
