"""What the server does with averages, as a run file says it: the Fed-Server's optimiser, and the averaged back."""

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


class AveragedBackSpec(Settings):
    """A moving average of the back over the server's steps, evaluated and saved beside the trained one."""

    decay: Fraction = 0.0
    """Share of itself that the average keeps at each step, 0.99 say; less in the first steps: after n of them at most
    (1 + n) / (10 + n). The run's accuracy is then the averaged back's, the trained one's stands beside it. 0: none."""
