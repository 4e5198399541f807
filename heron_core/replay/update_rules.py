"""The client's update rules on one flat vector, in NumPy: the same for every backend, and for whoever replays a step.

What decides their bits: vectors are float32, and each operation is rounded by itself, in the order that the class
states; a scalar is worked out in float64 and rounded to float32 where it meets a vector. Every operation is one that
IEEE 754 rounds correctly, so all machines agree. (torch.optim fuses some products with sums, and torch.sqrt may be an
ulp off: it ends close by.) No vector of theta's length is made besides the moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from heron_core.arrays import Array
from heron_core.replay.estimate import Vector
from heron_core.spec.optimizer import OptimizerSpec

BLOCK = 1 << 15
"""Elements that are stepped together: what a step reads and writes of them stays in a core's cache."""


class UpdateRule(Protocol):
    """One optimiser in one round."""

    lr: float
    """Learning rate of the next step."""

    def step(self, theta_D: Vector, gradient_D: Vector) -> None:
        """Moves `theta_D` in place; may overwrite `gradient_D`."""
        ...

    def state(self) -> dict[str, Array]:
        """A copy of the moments by their names in the client state; none before the first step, nor without any."""
        ...

    def load(self, state: Mapping[str, Array]) -> None:
        """Goes on from moments that `state` gave."""
        ...


class Sgd:
    """With momentum, v at zero first; without, v is g.  Eq. 6.

    v <- momentum * v + g
    theta <- theta - lr * v
    """

    def __init__(self, lr: float, momentum: float = 0.0) -> None:
        self.lr, self._momentum = lr, momentum
        self._velocity_D: Vector | None = None

    def step(self, theta_D: Vector, gradient_D: Vector) -> None:
        """Moves `theta_D` in place; overwrites `gradient_D`."""
        with _as_ieee():
            if self._momentum:
                if self._velocity_D is None:
                    self._velocity_D = np.zeros_like(theta_D)
                self._velocity_D *= self._momentum
                self._velocity_D += gradient_D
                np.multiply(self._velocity_D, self.lr, out=gradient_D)
            else:
                gradient_D *= self.lr
            theta_D -= gradient_D

    def state(self) -> dict[str, Array]:
        """`moments.velocity`, where there is momentum."""
        return {} if self._velocity_D is None else {"moments.velocity": self._velocity_D.copy()}

    def load(self, state: Mapping[str, Array]) -> None:
        """Goes on from a velocity [D]."""
        if self._momentum:
            self._velocity_D = np.array(state["moments.velocity"], dtype=np.float32)


class Adam:
    """Kingma and Ba, 2015, Algorithm 1; m and v at zero first, t counts steps from 1.

    m <- beta1 * m + (1 - beta1) * g
    v <- beta2 * v + (1 - beta2) * (g * g)
    theta <- theta - (m / (sqrt(v / (1 - beta2^t)) + eps)) * (lr / (1 - beta1^t))
    """

    def __init__(self, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.lr, self._beta1, self._beta2, self._eps = lr, beta1, beta2, eps
        self._steps = 0
        self._first_D: Vector | None = None
        self._second_D: Vector | None = None

    def step(self, theta_D: Vector, gradient_D: Vector) -> None:
        """Moves `theta_D` in place; leaves `gradient_D` as it is."""
        if self._first_D is None or self._second_D is None:
            self._first_D, self._second_D = np.zeros_like(theta_D), np.zeros_like(theta_D)
        self._steps += 1
        with _as_ieee():
            for part, scratch in _blocks(theta_D):
                self._step_block(theta_D[part], gradient_D[part], self._first_D[part], self._second_D[part], scratch)

    def _step_block(self, theta: Vector, g: Vector, m: Vector, v: Vector, scratch: Vector) -> None:
        np.multiply(g, 1 - self._beta1, out=scratch)
        m *= self._beta1
        m += scratch
        np.multiply(g, g, out=scratch)
        scratch *= 1 - self._beta2
        v *= self._beta2
        v += scratch
        np.divide(v, 1 - self._beta2**self._steps, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += self._eps
        np.divide(m, scratch, out=scratch)
        scratch *= self.lr / (1 - self._beta1**self._steps)
        theta -= scratch

    def state(self) -> dict[str, Array]:
        """`moments.first`, `moments.second` and the steps so far."""
        if self._first_D is None or self._second_D is None:
            return {}
        steps = np.array(self._steps, dtype=np.int64)
        return {
            "moments.first": self._first_D.copy(), "moments.second": self._second_D.copy(), "moments.steps": steps,
        }  # fmt: skip

    def load(self, state: Mapping[str, Array]) -> None:
        """Goes on from moments [D] and a number of steps."""
        self._first_D = np.array(state["moments.first"], dtype=np.float32)
        self._second_D = np.array(state["moments.second"], dtype=np.float32)
        self._steps = int(state["moments.steps"])


def make_update_rule(spec: OptimizerSpec) -> Sgd | Adam:
    """A fresh rule: its moments are zero."""
    if spec.name == "sgd":
        return Sgd(spec.lr, spec.momentum)
    return Adam(spec.lr, spec.beta1, spec.beta2, spec.eps)


def _blocks(theta_D: Vector) -> Iterator[tuple[slice, Vector]]:
    """Places of theta in turn, each with memory for as many elements."""
    scratch = np.empty(min(BLOCK, theta_D.size), dtype=theta_D.dtype)
    for start in range(0, theta_D.size, BLOCK):
        yield slice(start, start + BLOCK), scratch[: theta_D.size - start]


def _as_ieee() -> np.errstate:
    """Inside, NumPy warns of no infinity and no NaN: the next loss is not finite then, and says so."""
    return np.errstate(over="ignore", invalid="ignore")
