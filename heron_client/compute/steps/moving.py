"""What every client that learns has: the vector that its optimiser moves."""

from __future__ import annotations

from torch import Tensor

from heron_client.compute.torch_backend import ClientCompute
from heron_core.arrays import Array


class Moving:
    """theta [D] and its update rule, kept in step with the modules' own parameters; the moments begin as fetched."""

    def __init__(self, compute: ClientCompute) -> None:
        self._compute, self._rule = compute, compute.update_rule()
        self.theta_D: Tensor = compute.theta()

    def step(self, gradient_D: Tensor) -> None:
        """One update; may overwrite `gradient_D`.  Eq. 6."""
        self._rule.step(self.theta_D, gradient_D)
        self._compute.set_theta(self.theta_D)

    def moments(self) -> dict[str, Array]:
        """The optimiser's state by its name in the client state."""
        return self._rule.state()
