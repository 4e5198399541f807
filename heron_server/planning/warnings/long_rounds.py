"""Long rounds where the clients' classes differ: how far apart they are, and what to set instead.

Within a round each client learns what its own samples say. The longer it does so alone, the less the mean of such
clients is worth. Shape letters: N clients, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import pi

import numpy as np

from heron_core.config import apply_overrides
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.spec.unused import unused_settings

LONG = 10
"""Local steps. A mean after every 4 or 5 was as good as one after each; 20 a round cost 3 points, and 40 cost more."""
SHORT = 4
FAR = 0.2
"""Beyond chance. Digits and CIFAR-10 in 2 to 100 parts: IID -0.03 to 0.02, Dirichlet with alpha 3: 0.22 at most, with
1.0: 0.04 to 0.35, with 0.4 and 0.3: 0.15 to 0.51; the low ends are of 100 clients with 14 samples each."""


@dataclass(frozen=True)
class LongRounds:
    """A run whose rounds are too long if its clients' classes differ."""

    local_steps: int
    advice: Sequence[str]
    """Settings for this run, as `--set` takes them."""
    counts: Sequence[Sequence[int]] = field(default_factory=list)
    """[N, C] samples of each class, as far as they are known before anybody joins; else empty."""

    def warning(self, counts: Sequence[Sequence[int]]) -> str:
        """Of clients with so many samples of each class, [N, C]; empty where they are alike enough."""
        far, chance = class_distance(counts)
        if far - chance < FAR:
            return ""
        return (
            f"the clients' classes differ: their class shares are {far:.2f} from those of all together (mean total "
            f"variation; {chance:.2f} if dealt at random; said from {FAR:.2f} more), and method.local_steps = "
            f"{self.local_steps}, more than {LONG}, lets clients drift apart within a round; set "
            f"{', '.join(self.advice)}, which is as many local steps in short rounds"
        )


def class_distance(counts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The mean total variation between a client's class shares and those of all, and as much of it as is chance.

    mean_k 1/2 sum_c |p_kc - p_c|; by chance, for n_k samples: mean_k 1/2 sum_c sqrt(2 p_c (1 - p_c) / (pi n_k)).
    `counts`: [N, C] samples; a client without any is left out. (0, 0) for fewer than two clients.
    """
    by_class = np.array([each for each in counts if sum(each)], dtype=np.float64)
    if len(by_class) < 2:
        return 0.0, 0.0
    sizes, shares = by_class.sum(axis=1), by_class.sum(axis=0) / by_class.sum()
    far = np.abs(by_class / sizes[:, None] - shares).sum(axis=1).mean() / 2
    chance = np.sqrt(2 * shares * (1 - shares) / (pi * sizes[:, None])).sum(axis=1).mean() / 2
    return float(far), float(chance)


def long_rounds(spec: RunSpec, accepts: Callable[[RunSpec], bool]) -> LongRounds | None:
    """None where rounds are short, or nobody learns in them. `accepts`: would such a run be let start?"""
    method = spec.method
    if method.local_steps <= LONG or not method_of(method).client_learns:
        return None
    advice: list[str] = []
    for more in _candidates(spec):
        tried = [*advice, *more]
        changed = changed_by(spec, tried)
        if not any(unused_settings(changed, apply_overrides({}, tried))) and accepts(changed):
            advice = tried
    return LongRounds(method.local_steps, advice)


def changed_by(spec: RunSpec, advice: Sequence[str]) -> RunSpec:
    """The run with these settings."""
    return RunSpec.model_validate(apply_overrides(spec.model_dump(), advice))


def _candidates(spec: RunSpec) -> Iterator[list[str]]:
    """What has helped, the most helpful first."""
    method = spec.method
    yield list(_short_rounds(method, spec.rounds))
    if method.moments == "reset" and (method.optimizer.name == "adam" or method.optimizer.momentum):
        yield ['method.moments = "averaged"']
    if not method.mixing:
        yield ["method.mixing = true"]
    if not spec.averaged_back.decay:
        yield ["averaged_back.decay = 0.99"]
    if method.optimizer.schedule == "constant":
        yield ['method.optimizer.schedule = "linear"']


def _short_rounds(method: MethodSpec, rounds: int) -> Iterator[str]:
    """At least as many local steps in all, and alignments as often."""
    period = min(method.upload_period, SHORT)
    steps = SHORT // period * period
    yield f"method.local_steps = {steps}"
    yield f"rounds = {-(-rounds * method.local_steps // steps)}"
    if period < method.upload_period:
        yield f"method.upload_period = {period}"
    if method_of(method).head == "aligned":
        yield f"method.alignment.every_rounds = {method.alignment.every_rounds * method.local_steps // steps}"
