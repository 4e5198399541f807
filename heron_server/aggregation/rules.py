"""The aggregation rules by their names in `federation.aggregation`."""

from __future__ import annotations

from collections.abc import Mapping

from heron_server.aggregation.aggregator import Aggregator
from heron_server.aggregation.mean import Mean, by_samples, uniform

RULES: Mapping[str, Aggregator] = {"uniform": Mean(uniform), "samples": Mean(by_samples)}
