"""The averaged back's settings."""

from __future__ import annotations

from heron_core.spec.kinds import Fraction, Settings


class AveragedBackSpec(Settings):
    """A moving average of the back over the server's steps, evaluated and saved beside the trained one."""

    decay: Fraction = 0.0
    """Share of itself that the average keeps at each step, 0.99 say; less in the first steps: after n of them at most
    (1 + n) / (10 + n). The run's accuracy is then the averaged back's, the trained one's stands beside it. 0: none."""
