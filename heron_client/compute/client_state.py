"""What a client fetches and gives back: its backend's tensors, and its optimiser's moments where those travel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heron_client.compute.backend import Backend
from heron_core.arrays import Array
from heron_core.replay.seeds import SLOPES, Replay
from heron_core.replay.update_rules import UpdateRule, make_update_rule
from heron_core.spec.methods import goes_up, moment_tensors, place_of
from heron_core.spec.run_spec import MethodSpec


class ClientState:
    """The client state of one run, over the backend that holds its parameters and buffers."""

    def __init__(self, backend: Backend, method: MethodSpec, replay: Replay | None = None) -> None:
        """`replay`: where slopes go up in the place of what they say."""
        self.backend, self._method, self.replay = backend, method, replay
        self._moments: dict[str, Array] = {}
        self.slopes: list[list[float]] = []
        """Of each local step since the last fresh update rule; none where it has another gradient."""

    @property
    def proximal(self) -> float:
        """How strongly a step is drawn to where the round began; 0: not."""
        return self._method.proximal

    @property
    def expected(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, dtype, shape) of what is fetched: trainable parameters, then buffers, then moments that travel."""
        return [(t.name, t.dtype, t.shape) for t in self.backend.state_tensors] + self._expected_moments()

    def _expected_moments(self) -> list[tuple[str, str, tuple[int, ...]]]:
        return moment_tensors(self._method, self.backend.moved)

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Copies a fetched client state into the backend; its moments are for the next update rule."""
        self.backend.load_state(arrays)
        self._moments = {name: arrays[name] for name, _, _ in self._expected_moments() if name in arrays}

    def update(self, moments: Mapping[str, Array]) -> dict[str, Array]:
        """A copy of what goes up, in the client state's order; `moments` are the update rule's at the round's end.
        Slopes stand before what they do not say."""
        keeps = {name: moments[name] for name, _, _ in self._expected_moments()}
        buffers = {tensor.name for tensor in self.backend.state_tensors if tensor.is_buffer}
        up = {
            name: array
            for name, array in {**self.backend.state(), **keeps}.items()
            if goes_up(place_of(self._method, name, buffer=name in buffers))
        }
        if self.replay is None:
            return up
        slopes = np.array(self.slopes, np.float64).reshape(self.replay.slopes_shape)
        return {SLOPES: slopes, **{name: array for name, array in up.items() if name not in self.replay.names}}

    def update_rule(self) -> UpdateRule:
        """A fresh rule for theta: with the moments fetched since the last one, or zero where none were."""
        rule, fetched = make_update_rule(self._method.optimizer), self._moments
        if fetched:
            rule.load(fetched)
        self._moments, self.slopes = {}, []  # the rule has its copy
        return rule
