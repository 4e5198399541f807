"""Zeroth-order estimators of lower variance: one local step of all clients, at the same multiply-accumulates.

A study of its own in plain torch, not Heron's client: all clients and all directions go forward together as groups of
one convolution. estimator_runs.py asks how good the gradients are and what accuracy runs with them reach. Every local
step may cost what the plain estimator's costs: base forward, the head's exact gradient, one probe for each micro-batch
of 4. One that costs more a direction has fewer directions: the rest of the batch is not probed.
docs/results/estimators.md has the formulas and what came out.

Shape suffixes: K clients, B a batch, N directions of each client, R samples that share a direction, G groups = K or
K N, D the front's parameters, P those that are estimated (coefficients of a basis in `span`), H the head's, Z the cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

CLIENTS, BATCH, ALPHA, MU = 5, 32, 0.4, 1e-2
CLASSES, CUT = 10, 16
HEAD = CUT * CLASSES + CLASSES
PLAIN, FROZEN = "plain", "frozen"


@dataclass(frozen=True)
class Block:
    """3x3 convolution without bias, GroupNorm, ReLU, and a 2x2 max-pool if `pool`."""

    incoming: int
    outgoing: int
    side: int
    pool: bool

    @property
    def weights(self) -> int:
        """Of the convolution."""
        return 9 * self.incoming * self.outgoing

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a sample's forward pass; the normalisation's are not counted."""
        return self.side**2 * self.weights

    def __call__(self, theta_GD: Tensor, x: Tensor) -> Tensor:
        """[R, G incoming, side, side] to [R, G outgoing, ...], each group by its own parameters."""
        groups, channels = len(theta_GD), self.outgoing
        weight, scale, shift = theta_GD.split([self.weights, channels, channels], 1)
        x = F.conv2d(x, weight.reshape(-1, self.incoming, 3, 3), padding=1, groups=groups)
        x = F.relu(F.group_norm(x, groups * channels // 2, scale.reshape(-1), shift.reshape(-1)))
        if not self.pool:
            return x
        x = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
        return torch.maximum(x[..., ::2], x[..., 1::2])


FRONTS = {
    "1-8-16-4": (Block(1, 8, 8, False), Block(8, 16, 8, True), Block(16, 4, 4, True)),
    "1-32-64-4": (Block(1, 32, 8, True), Block(32, 64, 4, False), Block(64, 4, 4, True)),
}
Front = tuple[Block, ...]


def sizes(front: Front) -> list[int]:
    """Parameters of each block."""
    return [block.weights + 2 * block.outgoing for block in front]


def forward(front: Front, theta_GD: Tensor, x: Tensor) -> list[Tensor]:
    """What each block is given, the first of them x [R, G, 8, 8], then the cut [R, G 4, 2, 2]."""
    found = [x]
    for block, part in zip(front, theta_GD.split(sizes(front), 1), strict=True):
        found.append(block(part, found[-1]))
    return found


def losses(z: Tensor, head_GH: Tensor, y_GR: Tensor) -> Tensor:
    """Cross-entropy [G, R] of a linear head of each group's own at the cut [R, G 4, 2, 2]."""
    z_GRZ = z.view(len(z), len(head_GH), CUT).transpose(0, 1)
    weight, bias = head_GH.split([CUT * CLASSES, CLASSES], 1)
    logits = torch.baddbmm(bias[:, None], z_GRZ, weight.view(-1, CUT, CLASSES))
    return F.cross_entropy(logits.flatten(0, 1), y_GR.flatten(), reduction="none").view(y_GR.shape)


# -- what an estimator is, and what it costs ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One estimator, with the rule that uses it."""

    rows: int = 4
    """Samples that share a direction."""
    central: bool = False
    """(l(theta + mu u) - l(theta - mu u)) / 2 mu: two probes a direction."""
    flipout: bool = False
    """A sample's direction is r_o U_oi s_i for the micro-batch's U and its own signs r and s: convolved twice."""
    span: float = 0.0
    """W = W_0 + A V^T, A estimated and trained: V spans this share of the energy of the layer's first inputs."""
    exact: int = 0
    """So many of the last blocks have the exact gradient; only those below them are perturbed."""
    fixed: bool = False
    """The blocks below the exact ones stay as they were."""
    second: str = "adam"
    """What the step is divided by the root of: each coordinate's g^2, `momentum` its m^2, `scalar` the mean g^2."""


KINDS = {
    PLAIN: Kind(),
    "a direction a sample": Kind(rows=1),
    "Flipout signs": Kind(rows=1, flipout=True),
    "central": Kind(central=True),
    "span 0.9": Kind(span=0.9),
    "span 0.99": Kind(span=0.99),
    "exact last block": Kind(exact=1),
    "exact last block, the rest fixed": Kind(exact=1, fixed=True),
    "exact last two, the rest fixed": Kind(exact=2, fixed=True),
    "scalar second moment": Kind(second="scalar"),
    "second moment from m^2": Kind(second="momentum"),
    "first order": Kind(exact=3, fixed=True),
    FROZEN: Kind(),
}


class Basis:
    """theta_D = origin + A V^T in each convolution, with V orthonormal; the identity where the kind has no span."""

    def __init__(self, front: Front, kind: Kind, theta_D: Tensor, x_BHW: Tensor) -> None:
        """V: leading eigenvectors of the mean of (patch patch^T) over these samples' inputs of each block."""
        self.bases: list[Tensor] = []
        self.front, self.origin_D = front, theta_D
        x = x_BHW[:, None]
        for block, part in zip(front, theta_D.split(sizes(front)), strict=True):
            if kind.span:
                patches = F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)
                values, vectors = torch.linalg.eigh(patches.T @ patches)
                energy = values.flip(0).cumsum(0) / values.sum()
                self.bases.append(vectors.flip(1)[:, : int((energy < kind.span).sum()) + 1])
            x = block(part[None], x)

    @property
    def parts(self) -> list[int]:
        """Coefficients of each block."""
        if not self.bases:
            return sizes(self.front)
        return [b.outgoing * (v.shape[1] + 2) for b, v in zip(self.front, self.bases, strict=True)]

    @property
    def macs(self) -> int:
        """Of one A V^T."""
        return sum(b.outgoing * v.numel() for b, v in zip(self.front, self.bases, strict=False))

    def start(self) -> Tensor:
        """The coefficients [P] at which `full` gives the origin."""
        return torch.zeros(sum(self.parts)) if self.bases else self.origin_D.clone()

    def full(self, theta_GP: Tensor) -> Tensor:
        """[G, D]."""
        return self.origin_D + self.across(theta_GP) if self.bases else theta_GP

    def across(self, a_GP: Tensor) -> Tensor:
        """A V^T [G, D]: the linear part."""
        if not self.bases:
            return a_GP
        found = []
        for block, v, part in zip(self.front, self.bases, a_GP.split(self.parts, 1), strict=True):
            a, rest = part.split([block.outgoing * v.shape[1], 2 * block.outgoing], 1)
            found += [(a.view(len(a), -1, v.shape[1]) @ v.T).flatten(1), rest]
        return torch.cat(found, 1)


def costs(front: Front, kind: Kind, basis: Basis) -> tuple[int, int]:
    """(multiply-accumulates of a local step without its probes, of one direction's probes)."""
    passes, head = sum(block.macs for block in front), CUT * CLASSES
    base = BATCH * (passes + 2 * head)
    if kind.exact:  # the weights' gradient of each exact block; its input's but for the lowest; the head's input's
        exact = front[-kind.exact :]
        base += BATCH * (head + sum(b.macs for b in exact) + sum(b.macs for b in exact[1:]))
    probe = kind.rows * ((1 + kind.flipout) * passes + head) + basis.macs
    return base + basis.macs, (1 + kind.central) * probe


def directions(front: Front, kind: Kind, basis: Basis) -> int:
    """How many of a client's groups of `rows` samples are probed: as many as the plain step's price pays for."""
    passes, head = sum(block.macs for block in front), CUT * CLASSES
    base, probe = costs(front, kind, basis)
    return 0 if kind.fixed else min(BATCH // kind.rows, (BATCH * (2 * passes + 3 * head) - base) // probe)


# -- one step's gradient -----------------------------------------------------------------------------------------------


def signs(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Rademacher, float32."""
    bits = np.unpackbits(np.frombuffer(rng.bytes((prod(shape) + 7) // 8), dtype=np.uint8), count=prod(shape))
    return torch.from_numpy(bits).float().mul_(2).sub_(1).view(shape)


def flipped(front: Front, clients: int, count: int, rng: np.random.Generator) -> Tensor:
    """[K, count, D]: for each four samples one U, and for each sample signs of its outputs and of its inputs."""
    parts = []
    for b in front:
        shared = signs((clients, -(-count // 4), 1, b.outgoing, b.incoming, 9), rng).expand(-1, -1, 4, -1, -1, -1)
        shared = shared.flatten(1, 2)[:, :count]
        r, s = signs((clients, count, b.outgoing, 1, 1), rng), signs((clients, count, 1, b.incoming, 1), rng)
        parts += [(shared * r * s).flatten(2), signs((clients, count, 2 * b.outgoing), rng)]
    return torch.cat(parts, 2)


@torch.enable_grad()
def exact_gradient(front: Front, theta_KD: Tensor, head_KH: Tensor, x: Tensor, y_KB: Tensor) -> Tensor:
    """[K, D + H] of each client's mean loss, by backpropagation through these blocks, whose first is given x."""
    moved = [theta_KD.clone().requires_grad_(), head_KH.clone().requires_grad_()]
    loss = losses(forward(front, moved[0], x)[-1], moved[1], y_KB).mean(1).sum()
    return torch.cat(torch.autograd.grad(loss, moved, materialize_grads=True), 1)


@torch.no_grad()
def estimate(
    front: Front, kind: Kind, basis: Basis, theta_KP: Tensor, head_KH: Tensor, x: Tensor, y_KB: Tensor,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradient [K, P + H] of each client's loss, the head's exact, and the cut at the base point [B, K 4, 2, 2]."""
    clients, theta_KD = len(theta_KP), basis.full(theta_KP)
    below = len(front) - kind.exact
    given = forward(front, theta_KD, x)
    base_KB, z = losses(given[-1], head_KH, y_KB), given[-1]
    exact = exact_gradient(front[below:], theta_KD[:, sum(sizes(front)[:below]) :], head_KH, given[below], y_KB)
    count, rows, perturbed = directions(front, kind, basis), kind.rows, sum(basis.parts[:below])
    if not count:
        return F.pad(exact, (perturbed, 0)), z
    used = count * rows
    x_G = x[:used].view(count, rows, clients, 8, 8).permute(1, 2, 0, 3, 4).reshape(rows, clients * count, 8, 8)
    y_GR = y_KB[:, :used].reshape(clients * count, rows)
    u_KNP = torch.zeros(clients, count, theta_KP.shape[1])
    u_KNP[..., :perturbed] = (
        flipped(front, clients, count, rng) if kind.flipout else signs((clients, count, perturbed), rng)
    )
    head_GH = head_KH.repeat_interleave(count, 0)

    def mean_losses(length: float) -> Tensor:
        theta_GD = basis.full((theta_KP[:, None] + length * u_KNP).flatten(0, 1))
        return losses(forward(front, theta_GD, x_G)[-1], head_GH, y_GR).mean(1).view(clients, count)

    if kind.central:
        slopes_KN = (mean_losses(MU) - mean_losses(-MU)) / (2 * MU)
    else:
        slopes_KN = (mean_losses(MU) - base_KB[:, :used].view(clients, count, rows).mean(2)) / MU
    gradient = torch.einsum("kn,knp->kp", slopes_KN, u_KNP[..., :perturbed]) / count
    return torch.cat([gradient, exact], 1), z


# -- the clients' data ------------------------------------------------------------------------------------------------


class World:
    """Digits of one seed: 1,000 for the clients by Dirichlet shares of each class, 297 to tune on, 500 to test."""

    def __init__(self, seed: int) -> None:
        self.seed, rng = seed, np.random.default_rng([seed, 0])
        images, labels = load_digits(return_X_y=True)
        order = rng.permutation(len(labels))
        self.x = torch.from_numpy(images[order] / 16).float().view(-1, 8, 8)
        self.y = torch.from_numpy(labels[order])
        self.parts = {"tune": slice(1000, 1297), "test": slice(1297, 1797)}
        self.owned: list[np.ndarray] = []
        while min(map(len, self.owned), default=0) < 20:
            owner = np.empty(1000, dtype=int)
            for c in range(CLASSES):
                mine = np.flatnonzero(self.y[:1000].numpy() == c)
                owner[mine] = rng.choice(CLIENTS, len(mine), p=rng.dirichlet([ALPHA] * CLIENTS))
            self.owned = [np.flatnonzero(owner == k) for k in range(CLIENTS)]

    def sample(self) -> Tensor:
        """What a basis is made from: 32 images of each client."""
        return self.batch(-1)[0].transpose(0, 1).flatten(0, 1)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The clients' inputs [B, K, 8, 8] and labels [K, B] at that step."""
        rng = np.random.default_rng([self.seed, 1, step + 1])
        rows_KB = torch.from_numpy(np.stack([own[rng.integers(len(own), size=BATCH)] for own in self.owned]))
        return self.x[rows_KB.T], self.y[rows_KB]

    def start(self, front: Front) -> tuple[Tensor, Tensor, Tensor]:
        """theta [D], He-initialised, the head [H] and the back [H], as torch initialises a linear layer."""
        rng = torch.Generator().manual_seed(self.seed)
        parts = []
        for b in front:
            weight = torch.randn(b.weights, generator=rng) * sqrt(2 / (9 * b.outgoing))
            parts += [weight, torch.ones(b.outgoing), torch.zeros(b.outgoing)]
        linear = [(torch.rand(HEAD, generator=rng) * 2 - 1) / sqrt(CUT) for _ in range(2)]
        return torch.cat(parts), linear[0], linear[1]
