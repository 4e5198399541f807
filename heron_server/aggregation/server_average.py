"""The Fed-Server's optimiser: a step by the averaged change of the weights instead of the average itself.

Hsu, Qi and Brown, arXiv 1909.06335 (FedAvgM); Reddi et al., Adaptive Federated Optimization, ICLR 2021, arXiv
2003.00295, Algorithm 2 (FedAdam, FedYogi). Buffers and the clients' own moments are what the aggregation rule made of
them. Every number is worked out in float64 and rounded once, to the tensor's dtype; moments are float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.spec.server_average import ServerAverageSpec

Arrays = dict[str, Array]
Doubles = NDArray[np.float64]


class ServerAverage:
    """Steps the weights of a client state; its moments are given and returned, so that it depends on nothing else."""

    def __init__(self, spec: ServerAverageSpec, buffers: Collection[str]) -> None:
        self._spec, self._buffers = spec, buffers

    def start(self, state: Mapping[str, Array]) -> Arrays:
        """The moments before the first round, `first.<name>` and `second.<name>`; none where the rule has none."""
        spec, weights = self._spec, self._weights(state)
        kinds = {"plain": {}, "fedavgm": {"first": 0.0}}.get(spec.name, {"first": 0.0, "second": spec.tau**2})
        return {
            f"{kind}.{name}": np.full(state[name].shape, value, np.float32)
            for kind, value in kinds.items()
            for name in weights
        }

    def step(
        self, before: Mapping[str, Array], averaged: Mapping[str, Array], moments: Mapping[str, Array]
    ) -> tuple[Arrays, Arrays]:
        """The new client state and moments.

        `before`: as the round began. `averaged`: what the aggregation rule made of it.
        """
        state, kept = dict(averaged), dict(moments)
        if self._spec.name == "plain":
            return state, kept
        with np.errstate(over="ignore", invalid="ignore"):  # the next loss is not finite then, and says so
            for name in self._weights(averaged):
                start = before[name].astype(np.float64)
                change = averaged[name].astype(np.float64) - start
                step = self._momentum if self._spec.name == "fedavgm" else self._adaptive
                state[name] = np.asarray(start + step(name, change, kept)).astype(averaged[name].dtype)
        return state, kept

    def _momentum(self, name: str, change: Doubles, moments: Arrays) -> Doubles:
        first = self._spec.momentum * _double(moments[f"first.{name}"]) + change
        moments[f"first.{name}"] = first.astype(np.float32)
        return self._spec.rate * first

    def _adaptive(self, name: str, change: Doubles, moments: Arrays) -> Doubles:
        spec, squared = self._spec, change * change
        first = spec.beta1 * _double(moments[f"first.{name}"]) + (1 - spec.beta1) * change
        second = _double(moments[f"second.{name}"])
        if spec.name == "fedyogi":
            second = second - (1 - spec.beta2) * squared * np.sign(second - squared)
        else:
            second = spec.beta2 * second + (1 - spec.beta2) * squared
        moments[f"first.{name}"], moments[f"second.{name}"] = first.astype(np.float32), second.astype(np.float32)
        moved: Doubles = spec.rate * first / (np.sqrt(second) + spec.tau)
        return moved

    def _weights(self, state: Mapping[str, Array]) -> list[str]:
        return [n for n in state if n not in self._buffers and not n.startswith("moments.")]


def _double(tensor: Array) -> Doubles:
    return tensor.astype(np.float64)
