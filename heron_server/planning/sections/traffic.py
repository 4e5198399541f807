"""What crosses the wire, as Heron and as the paper charge it."""

from __future__ import annotations

from collections.abc import Sequence

from heron_core.spec.run_spec import MethodSpec
from heron_server.planning.client_state import StateTensor, client_state, state_bytes
from heron_server.planning.facts import ModelFacts
from heron_server.planning.paper import paper_round_bytes
from heron_server.planning.traffic import round_traffic
from heron_server.text.tables import Section
from heron_server.text.units import bytes_text

PLACES = {
    "averaged": "up, and down as the mean",
    "kept": "up, and down to the same client",
    "shared": "down only, the same for all",
    "own": "down only, another for each client",
}
PAPER_CHARGE = (
    "The paper charges activations, cut gradients, and the front's weights both ways; no head, buffers, labels or "
    "moments.",
    "The paper has no fedavg; charged as it would: the whole model's weights both ways.",
)
VARYING = "Sequences vary in length: activations and labels are counted at the full length, the most that can come."


def traffic_section(method: MethodSpec, participants: int, rounds: int, facts: ModelFacts) -> Section:
    """One transfer, each round and the whole run."""
    activations, labels = method.batch_size * facts.activation_bytes, method.batch_size * facts.label_bytes
    tensors = client_state(method, facts)
    state, a_round = state_bytes(tensors), round_traffic(method, facts, participants)

    def row(name: str, once: int | None, per_round: int) -> tuple[str, ...]:
        return name, bytes_text(once), bytes_text(per_round), bytes_text(per_round * rounds)

    rows = [
        row("activations up", activations, a_round.activations_up),
        row("labels up", labels, a_round.labels_up),
        row("cut gradients down", method.batch_size * facts.gradient_bytes, a_round.cut_gradients_down),
        row("client state up", state.up, a_round.client_state_up),
        row("client state down", state.down, a_round.client_state_down),
        row("all, as Heron charges", None, a_round.total),
        row("as the paper charges", None, paper_round_bytes(method, facts, participants)),
    ]
    return Section(
        f"Payload between the server and the {participants} clients of a round",
        [cells for cells in rows if cells[2] != bytes_text(0)],
        ("", "one transfer", "each round", "whole run"),
        [*([VARYING] if any(s.variable for s in facts.activations) else []),
         f"The client state: {_places(tensors)}.", PAPER_CHARGE[method.name == "fedavg"],
         "Heron's ledger adds framing, heartbeats and calls as control, and evaluation by clients."],
    )  # fmt: skip


def _places(tensors: Sequence[StateTensor]) -> str:
    """`3.05 MiB averaged (up, and down as the mean), ...`."""
    held = {place: sum(t.size_bytes for t in tensors if t.place == place) for place in PLACES}
    return ", ".join(f"{bytes_text(held[p])} {p} ({meaning})" for p, meaning in PLACES.items() if held[p])
