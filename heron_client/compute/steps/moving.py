"""What every client that learns has: the vector that its optimiser moves."""

from __future__ import annotations

from collections.abc import Sequence

from heron_client.compute.backend import Vector
from heron_client.compute.client_state import ClientState
from heron_core.arrays import Array
from heron_core.replay.estimate import add_pull


class Moving:
    """theta [D] and its update rule, kept in step with the backend's parameters; the moments begin as fetched."""

    def __init__(self, state: ClientState) -> None:
        self._state, self._backend, self._rule = state, state.backend, state.update_rule()
        self.theta_D: Vector = state.backend.theta()
        self._proximal, self._start_D = state.proximal, self.theta_D.copy() if state.proximal else None

    def step(self, gradient_D: Vector, lr: float, slopes: Sequence[float] = ()) -> None:
        """One update at this learning rate; may overwrite `gradient_D`. `slopes`: what it was made of.  Eq. 6.

        method.proximal adds proximal * (theta - theta_start): FedProx's term, exact for zeroth order too.
        """
        if self._start_D is not None:
            add_pull(gradient_D, self.theta_D, self._start_D, self._proximal)
        self._state.slopes.append(list(slopes))
        self._rule.lr = lr
        self._rule.step(self.theta_D, gradient_D)
        self._backend.set_theta(self.theta_D)

    def moments(self) -> dict[str, Array]:
        """The optimiser's state by its name in the client state."""
        return self._rule.state()


def added(total_D: Vector | None, share_D: Vector) -> Vector:
    """The sum of a gradient's shares so far, in the first one's memory."""
    if total_D is None:
        return share_D
    total_D += share_D
    return total_D
