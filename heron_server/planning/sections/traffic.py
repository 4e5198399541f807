"""What crosses the wire, as Heron and as the paper charge it."""

from __future__ import annotations

from collections.abc import Sequence

from heron_core.spec.methods import tolerates
from heron_core.spec.run_spec import RunSpec
from heron_server.planning.client_state import StateTensor, client_state, state_bytes
from heron_server.planning.facts import ModelFacts
from heron_server.planning.paper import paper_round_bytes
from heron_server.planning.traffic import reused_traffic, round_traffic, sketch_bytes, state_traffic, transfer_of
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
WHOLE = (
    "Slopes go in the place of what they lead to, also those of rounds that a client sat out; who comes new fetches "
    "{}."
)

MOVING = (
    "A sample's activations and label travel again once they have moved by more than {:g} of their norm: a round is "
    "counted as if all had. To tell, a client's memory holds {} of each of its samples{}."
)
REUSED = "Each sample's activations and label travel once, then its number: a round is counted as if all were new."


def traffic_section(spec: RunSpec, facts: ModelFacts, sizes: Sequence[int] = ()) -> Section:
    """One transfer, each round and the whole run. `sizes`: samples by rank, none where they are not known."""
    method, once = spec.method, transfer_of(spec, facts)
    tensors = client_state(method, facts)
    (up, down), a_round = state_traffic(spec, facts), round_traffic(spec, facts)
    travels = "" if spec.codec.client_state == "weights" else ", seeds"

    def row(name: str, one: int | None, per_round: int, whole: int | None = None) -> tuple[str, ...]:
        whole = per_round * spec.rounds if whole is None else whole
        return name, bytes_text(one), bytes_text(per_round), bytes_text(whole)

    activations, labels = a_round.activations_up * spec.rounds, a_round.labels_up * spec.rounds
    if spec.codec.reuse and sizes and not tolerates(spec):
        activations, labels = reused_traffic(spec, facts, sizes)
    rest = a_round.total - a_round.activations_up - a_round.labels_up

    rows = [
        row(f"activations up{_by(spec.codec.uploads)}", once.activations, a_round.activations_up, activations),
        row("labels up", once.labels, a_round.labels_up, labels),
        row(f"cut gradients down{_by(spec.codec.cut_gradients)}", once.cut_gradients, a_round.cut_gradients_down),
        row(f"client state up{travels}", up, a_round.client_state_up),
        row(f"client state down{travels}", down, a_round.client_state_down),
        row("all, as Heron charges", None, a_round.total, activations + labels + rest * spec.rounds),
        row("as the paper charges", None, paper_round_bytes(spec, facts)),
    ]
    return Section(
        f"Payload between the server and the {spec.federation.participants} clients of a round",
        [cells for cells in rows if cells[2] != bytes_text(0)],
        ("", "one transfer", "each round", "whole run"),
        [*_reused(spec, facts, sizes),
         *([VARYING] if any(s.variable for s in facts.activations) else []),
         f"The client state: {_places(tensors)}.",
         *([WHOLE.format(bytes_text(state_bytes(tensors).down))] if travels else []),
         PAPER_CHARGE[method.name == "fedavg"],
         "Heron's ledger adds framing, heartbeats and calls as control, and evaluation by clients."],
    )  # fmt: skip


def _reused(spec: RunSpec, facts: ModelFacts, sizes: Sequence[int]) -> list[str]:
    if not tolerates(spec):
        return [REUSED] if spec.codec.reuse else []
    each = sketch_bytes(facts)
    most = f", {bytes_text(each * max(sizes))} of {max(sizes):,}" if sizes else ""
    return [MOVING.format(spec.codec.tolerance, bytes_text(each), most)]


def _by(codec: str) -> str:
    return "" if codec == "raw" else f", {codec}"


def _places(tensors: Sequence[StateTensor]) -> str:
    """`3.05 MiB averaged (up, and down as the mean), ...`."""
    held = {place: sum(t.size_bytes for t in tensors if t.place == place) for place in PLACES}
    return ", ".join(f"{bytes_text(held[p])} {p} ({meaning})" for p, meaning in PLACES.items() if held[p])
