"""One step's base forwards and probes, and the gradient that they add up to.

Shape suffixes: B samples of a piece, P perturbed parameters, H the head's where it has its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from heron_client.compute.backprop import head_gradient
from heron_client.compute.steps.batch import Batch
from heron_client.compute.torch_backend import ClientCompute
from heron_client.compute.zo import divide_by_spread, gradient_scale
from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import Part, direction, generator

Yields = Generator[list[Array], CutGradients | None, None]


class Probing:
    """What an estimator works with. It runs `base` for each piece and adds its directions' shares to `gradient_P`.

    `theta_P` is the leading part of the vector that the optimiser moves: all of it, or the front's.
    """

    def __init__(self, spec: RunSpec, compute: ClientCompute, theta_D: Tensor, batch: Batch) -> None:
        head = method_of(spec.method).head
        self.zo, self.compute, self.batch = spec.method.zo, compute, batch
        self.theta_P = theta_D if head == "joint" else theta_D[: compute.front_size]
        self.gradient_P = torch.zeros_like(self.theta_P)
        self.slopes: list[float] = []
        self.forward_rows = 0.0
        """Samples that went forward; through a suffix of the model, counted by its share of the stages."""
        self._seed, self._detached = spec.seed, head == "detached"
        self._gradient_H: Tensor | None = None
        self._loss_sum = 0.0

    def base(self, piece: int) -> Generator[list[Array], CutGradients | None, Tensor]:
        """The piece's losses [B] at the base point; its activations leave at once."""
        x, labels = self.batch.pieces[piece]
        path, sends = self.batch.mask_path(piece), self.batch.sends
        if self._detached:
            losses_B, activations, share_H = head_gradient(
                self.compute, x, labels, path, self.batch.rows, keep_activations=sends
            )
            self._gradient_H = share_H if self._gradient_H is None else self._gradient_H.add_(share_H)
        else:
            losses_B, activations = self.compute.losses(x, labels, path, keep_activations=sends)
        self.forward_rows += len(labels)
        self._loss_sum += float(losses_B.double().sum())
        if sends:
            yield activations
        return losses_B

    def mean_loss_at(self, pieces: Sequence[int]) -> Callable[[Tensor], float]:
        """The mean loss over these pieces as a function of the perturbed parameters [P].

        Each call leaves the buffers as they are now, for only base forwards move them; the modules keep its parameters.
        """
        saved = self.compute.buffers()
        rows = sum(len(self.batch.pieces[piece][1]) for piece in pieces)

        def loss_at(probe_P: Tensor) -> float:
            with self.probe(saved):
                self.compute.set_theta(probe_P)
                total = 0.0
                for piece in pieces:
                    total += float(self.losses(piece).double().sum())
                return self.batch.finite(total / rows)

        return loss_at

    @contextmanager
    def probe(self, buffers: Mapping[str, Tensor]) -> Iterator[None]:
        """Around one probe: `buffers` come back after it, and where it raises the unperturbed parameters too."""
        try:
            yield
        except BaseException:
            self.compute.set_theta(self.theta_P)
            raise
        finally:
            self.compute.restore_buffers(buffers)

    def losses(self, piece: int) -> Tensor:
        """The piece's losses [B] as the modules are, under the base forward's dropout masks."""
        x, labels = self.batch.pieces[piece]
        self.forward_rows += len(labels)
        return self.compute.losses(x, labels, self.batch.mask_path(piece), keep_activations=False)[0]

    def direction(self, j: int, *path: Part, size: int | None = None) -> Tensor:
        """Direction j of the step, from the stream direction/j/path: float32 [P], or [size]."""
        size = self.theta_P.numel() if size is None else size
        return self.compute.to_device(direction(self.zo.distribution, size, self.generator(j, *path)))

    def directions(self, *path: Part) -> Iterator[Tensor]:
        """The step's q directions [P], one at a time."""
        return (self.direction(j, *path) for j in range(self.zo.num_directions))

    def generator(self, j: int, *path: Part) -> np.random.Generator:
        return generator(self._seed, *self.batch.path, "direction", j, *path)

    def scale(self, size: int | None = None) -> float:
        """E[u u^T] = I / scale, for directions in all the perturbed parameters or in `size` of them."""
        return gradient_scale(self.zo.distribution, self.theta_P.numel() if size is None else size)

    def loss(self) -> float:
        """Mean loss at the base point over the whole batch; DataError where it is not finite."""
        return self.batch.finite(self._loss_sum / self.batch.rows)

    def gradient(self) -> Tensor:
        """[D]: that of the probes, then the head's own where it has one."""
        if self.zo.normalise:
            divide_by_spread(self.gradient_P, self.slopes)
        return self.gradient_P if self._gradient_H is None else torch.cat([self.gradient_P, self._gradient_H])
