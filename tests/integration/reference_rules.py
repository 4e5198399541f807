"""The client's update rules, Eq. 6, as a few lines of plain torch.

Their bits: vectors are float32, every operation is rounded by itself, in the order as written; scalars are worked out
in float64 and rounded where they meet a vector. (torch.optim fuses some products with sums: an ulp away.)
"""

from __future__ import annotations

import math

import numpy as np
import torch


def root(x):
    """Correctly rounded, as IEEE 754 has it; torch.sqrt is not, on every machine."""
    return torch.from_numpy(np.sqrt(x.numpy()))


def rate(spec, t, steps):
    """Step t, from 0, of so many: up to lr in the warm-up, then down to `final` of it."""
    if spec.schedule == "constant":
        return spec.lr
    if t < spec.warm_up:
        return spec.lr * (t + 1) / (spec.warm_up + 1)
    p = (t - spec.warm_up) / (steps - spec.warm_up)
    if spec.schedule == "linear":
        return spec.lr * (1 - (1 - spec.final) * p)
    return spec.lr * (spec.final + (1 - spec.final) * (1 + math.cos(math.pi * p)) / 2)


class Rule:
    """SGD with momentum, or Adam (Kingma and Ba, 2015, Algorithm 1); the moments begin at zero."""

    def __init__(self, spec, size):
        self.spec, self.t = spec, 0
        self.m, self.v = torch.zeros(size), torch.zeros(size)

    def step(self, theta, g, lr=None):
        """The new theta; `lr`: of this step, where a schedule gives it."""
        lr, b1, b2 = lr or self.spec.lr, self.spec.beta1, self.spec.beta2
        if self.spec.name == "sgd":
            self.m = self.spec.momentum * self.m + g
            return theta - lr * self.m
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * (g * g)
        v_hat = self.v / (1 - b2**self.t)
        return theta - (self.m / (root(v_hat) + self.spec.eps)) * (lr / (1 - b1**self.t))

    def moments(self):
        """What outlives a round, where anything does."""
        return {"m": self.m.clone(), "v": self.v.clone(), "t": torch.tensor(self.t)}

    def load(self, moments):
        self.m, self.v, self.t = moments["m"].clone(), moments["v"].clone(), int(moments["t"])
