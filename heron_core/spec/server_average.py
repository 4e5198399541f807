"""The Fed-Server's optimiser on the averaged change of the client state, as a run file says it."""

from __future__ import annotations

from typing import Literal

from heron_core.spec.kinds import Fraction, NonNegative, PositiveFloat, Settings


class ServerAverageSpec(Settings):
    name: Literal["plain", "fedavgm", "fedadam", "fedyogi"] = "plain"
    """What follows the aggregation rule. plain: its result is the new client state. fedavgm, fedadam, fedyogi: a step
    by its change of the weights, with moments over the rounds. A study on skewed clients found no gain from them."""
    lr: NonNegative = 0.0
    """The server's learning rate on that change. 0: 1 with fedavgm, 0.01 with fedadam and fedyogi."""
    momentum: Fraction = 0.9
    """fedavgm: v = momentum v + change; weights + lr v."""
    beta1: Fraction = 0.9
    """fedadam, fedyogi: decay of the first moment of the change."""
    beta2: Fraction = 0.99
    """fedadam, fedyogi: decay of the second moment of the change."""
    tau: PositiveFloat = 1e-3
    """fedadam, fedyogi: added to the root of the second moment, which begins at tau squared."""

    @property
    def rate(self) -> float:
        """The learning rate, or the rule's own."""
        return self.lr or (1.0 if self.name == "fedavgm" else 0.01)
