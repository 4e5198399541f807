"""How much room a run needs on the server's disk: counted from the settings, not measured."""

from __future__ import annotations

from collections.abc import Sequence

from heron_core.spec.methods import tolerates
from heron_core.spec.run_spec import RunSpec
from heron_server.metrics.records import MOST_FIGURES
from heron_server.planning.facts import ModelFacts
from heron_server.planning.memory import Item
from heron_server.planning.traffic import kept_bytes
from heron_server.text.tables import Section
from heron_server.text.units import bytes_text

BESIDE_THE_LAST = 2
"""Checkpoints: the best one, and the one that is being written."""
ROUND_BYTES, FIGURE_BYTES = 1000, 40
"""Of the facts in a checkpoint: a round's record, and what one client has measured in one round."""


def server_disk(spec: RunSpec, facts: ModelFacts, memory: Sequence[Item], keep_checkpoints: int) -> list[Item]:
    """What lies in the run directory at the highest. `memory`: what the server holds, and what of it is saved."""
    saved = sum(item.saved_bytes for item in memory)
    figures = min(MOST_FIGURES, spec.rounds * spec.federation.participants)
    noted = spec.rounds * ROUND_BYTES + figures * FIGURE_BYTES
    count, model = keep_checkpoints + BESIDE_THE_LAST, sum(part.saved_bytes for part in facts.parts.values())
    each = f"{bytes_text(saved)} and {bytes_text(noted)} of records"
    return [
        Item("checkpoints", count * (saved + noted),
             f"{keep_checkpoints} last, the best and one being written, each {each}", "server.keep_checkpoints"),
        Item("the model at the end", model, "front, head and back"),
    ]  # fmt: skip


def kept_samples(spec: RunSpec, facts: ModelFacts, budget: int, sizes: Sequence[int]) -> list[Item]:
    """What is used again of the clients' samples. `sizes`: by rank, none where they are not known."""
    if not spec.codec.reuse:
        return []
    size, name = kept_bytes(spec, facts, sizes), "samples that are used again"
    if not sizes:
        return [Item(name, budget, "at most, by server.reuse_budget", "server.reuse_budget")]
    each = "activations and labels" + (", of two rounds each" if tolerates(spec) else "")
    return [Item(name, size, f"{sum(sizes):,}, {each}", "codec.reuse")]


def disk_section(items: Sequence[Item]) -> Section:
    """What the run directory takes."""
    rows = [(item.name, bytes_text(item.size_bytes), item.formula) for item in items]
    total = ("all", bytes_text(sum(item.size_bytes for item in items)), "")
    return Section("Run directory, counted", [*rows, total])
