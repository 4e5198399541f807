"""The aggregation rules by their names in `federation.aggregation`, and how many clients each needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heron_core.spec.run_spec import FederationSpec
from heron_server.aggregation.aggregator import Aggregator
from heron_server.aggregation.bulyan import Bulyan
from heron_server.aggregation.coordinate_wise import CoordinateMedian, TrimmedMean
from heron_server.aggregation.geometric_median import GeometricMedian, NearestMixing
from heron_server.aggregation.krum import Krum, MultiKrum
from heron_server.aggregation.mean import Mean, by_samples, uniform
from heron_server.aggregation.norm_clipping import NormClipping


@dataclass(frozen=True)
class Rule:
    """One line of the table."""

    make: Callable[[FederationSpec], Aggregator]
    clients_each: int
    """Of n >= clients_each * f + clients_more, its condition on n clients of which f may be hostile."""
    clients_more: int
    copies: int = 0
    """Of one tensor of every client that it holds at once in float64, at most, beside a few of one client."""

    def fewest(self, hostile: int) -> int:
        """n: clients that a round needs, where so many of them may be hostile."""
        return self.clients_each * hostile + self.clients_more


RULES: Mapping[str, Rule] = {
    "uniform": Rule(lambda _: Mean(uniform), 0, 1),
    "samples": Rule(lambda spec: Mean(by_samples, spec.most_samples), 0, 1),
    "median": Rule(lambda _: CoordinateMedian(), 2, 1, copies=3),
    "trimmed_mean": Rule(lambda spec: TrimmedMean(spec.hostile), 2, 1, copies=3),
    "krum": Rule(lambda spec: Krum(spec.hostile), 2, 3, copies=3),
    "multi_krum": Rule(lambda spec: MultiKrum(spec.hostile), 2, 3, copies=3),
    "geometric_median": Rule(lambda _: GeometricMedian(), 2, 1, copies=4),
    "nearest_mixing": Rule(lambda spec: NearestMixing(spec.hostile), 2, 1, copies=4),
    "norm_clipping": Rule(lambda spec: NormClipping(spec.clip_norm), 2, 1),
    "bulyan": Rule(lambda spec: Bulyan(spec.hostile), 4, 3, copies=3),
}
