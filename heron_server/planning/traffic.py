"""Payload of a round, as Heron charges it: counted from shapes, not run."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.spec.methods import method_of, uploads_per_round
from heron_core.spec.run_spec import MethodSpec
from heron_server.planning.client_state import client_state, state_bytes
from heron_server.planning.facts import ModelFacts


@dataclass(frozen=True)
class Traffic:
    """Payload bytes of one round with all its participants."""

    activations_up: int
    labels_up: int
    cut_gradients_down: int
    client_state_up: int
    client_state_down: int

    @property
    def total(self) -> int:
        """All payload that crosses the wire."""
        return sum(
            (self.activations_up, self.labels_up, self.cut_gradients_down, self.client_state_up, self.client_state_down)
        )


def round_traffic(method: MethodSpec, facts: ModelFacts, participants: int) -> Traffic:
    """Of one round in which all participants take every step."""
    state = state_bytes(client_state(method, facts))
    rows = participants * uploads_per_round(method) * method.batch_size
    return Traffic(
        activations_up=rows * facts.activation_bytes,
        labels_up=rows * facts.label_bytes,
        cut_gradients_down=rows * facts.gradient_bytes if method_of(method).returns_cut_gradients else 0,
        client_state_up=participants * state.up,
        client_state_down=participants * state.down,
    )
