"""The client's update rules on one flat vector. (torch.optim imports some 75 MiB on its first use.)

Each follows the operations of torch.optim's single-tensor form one by one, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from heron_client.compute.backend import Vector
from heron_core.arrays import Array
from heron_core.spec.run_spec import OptimizerSpec


class UpdateRule(Protocol):
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
    """theta <- theta - lr * m with m <- momentum * m + g; plain SGD with momentum 0.  Eq. 6."""

    def __init__(self, lr: float, momentum: float = 0.0) -> None:
        self._lr, self._momentum = lr, momentum
        self._velocity_D: Tensor | None = None

    def step(self, theta_D: Vector, gradient_D: Vector) -> None:
        theta, gradient = torch.from_numpy(theta_D), torch.from_numpy(gradient_D)
        if self._momentum:
            if self._velocity_D is None:
                self._velocity_D = gradient.clone()
            else:
                self._velocity_D.mul_(self._momentum).add_(gradient)
            gradient = self._velocity_D
        theta.add_(gradient, alpha=-self._lr)

    def state(self) -> dict[str, Array]:
        return {} if self._velocity_D is None else {"moments.velocity": _array(self._velocity_D)}

    def load(self, state: Mapping[str, Array]) -> None:
        if self._momentum:
            self._velocity_D = _tensor(state["moments.velocity"])


class Adam:
    """Adam (Kingma and Ba, 2015, Algorithm 1) with bias correction; moments start at zero."""

    def __init__(self, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self._lr, self._beta1, self._beta2, self._eps = lr, beta1, beta2, eps
        self._steps = 0
        self._first_D: Tensor | None = None
        self._second_D: Tensor | None = None

    def step(self, theta_D: Vector, gradient_D: Vector) -> None:
        theta, gradient = torch.from_numpy(theta_D), torch.from_numpy(gradient_D)
        if self._first_D is None or self._second_D is None:
            self._first_D, self._second_D = torch.zeros_like(theta), torch.zeros_like(theta)
        self._steps += 1
        self._first_D.lerp_(gradient, 1 - self._beta1)
        self._second_D.mul_(self._beta2).addcmul_(gradient, gradient, value=1 - self._beta2)
        step_size = self._lr / (1 - self._beta1**self._steps)
        root = (1 - self._beta2**self._steps) ** 0.5  # math.sqrt may round differently
        denominator_D = torch.sqrt(self._second_D, out=gradient).div_(root).add_(self._eps)
        theta.addcdiv_(self._first_D, denominator_D, value=-step_size)

    def state(self) -> dict[str, Array]:
        if self._first_D is None or self._second_D is None:
            return {}
        steps = np.array(self._steps, dtype=np.int64)
        return {
            "moments.first": _array(self._first_D), "moments.second": _array(self._second_D), "moments.steps": steps,
        }  # fmt: skip

    def load(self, state: Mapping[str, Array]) -> None:
        self._first_D = _tensor(state["moments.first"])
        self._second_D = _tensor(state["moments.second"])
        self._steps = int(state["moments.steps"])


def make_update_rule(spec: OptimizerSpec) -> Sgd | Adam:
    """A fresh rule: its moments are zero."""
    if spec.name == "sgd":
        return Sgd(spec.lr, spec.momentum)
    return Adam(spec.lr, spec.beta1, spec.beta2, spec.eps)


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.to("cpu", copy=True).numpy()
    return array


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(array).clone()
