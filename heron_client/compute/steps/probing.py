"""One step's base forwards and probes, and the gradient that they add up to.

Shape suffixes: B samples of a micro-batch, P perturbed parameters, H the head's where it has its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from heron_client.compute.backend import Backend, Vector
from heron_client.compute.batch import Batch
from heron_client.compute.steps.moving import added
from heron_client.compute.zo import sum_of
from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array
from heron_core.replay.estimate import divide_by_spread, gradient_scale
from heron_core.spec.run_spec import ZoSpec
from heron_core.streams import Part, direction, generator

Yields = Generator[list[Array], CutGradients | None, None]


class Probing:
    """What an estimator works with: it runs `base` for each micro-batch and adds the shares of its directions.

    `theta_P` is what is perturbed: the leading part of the vector that the optimiser moves, or all of it.
    """

    def __init__(
        self, zo: ZoSpec, seed: int, backend: Backend, theta_P: Vector, batch: Batch, *, exact_head: bool
    ) -> None:
        """`theta_P`: the parameters that are perturbed. `exact_head`: the base forward also gives the exact gradient
        of those after them, which end with the head's."""
        self.zo, self.backend, self.batch = zo, backend, batch
        self.theta_P = theta_P
        self.gradient_P = np.zeros_like(theta_P)
        self.slopes: list[float] = []
        self.forward_rows = 0.0
        """Samples that went forward; through a suffix of the model, counted by its share of the stages."""
        self._seed, self._exact_head = seed, exact_head
        self._gradient_H: Vector | None = None
        self._loss_sum = 0.0

    def base(self, number: int) -> Generator[list[Array], CutGradients | None, Vector]:
        """Losses [B] of that micro-batch at the base point; its activations leave at once."""
        micro_batch, sends = self.batch.micro_batches[number], self.batch.sends
        if self._exact_head:
            (losses_B, activations), share_H = self.backend.head_gradient(
                micro_batch, self.batch.rows, keep_activations=sends
            )
            self._gradient_H = added(self._gradient_H, share_H)
        else:
            losses_B, activations = self.backend.forward(micro_batch, keep_activations=sends)
        self.forward_rows += micro_batch.rows
        self._loss_sum += sum_of(losses_B)
        if sends:
            yield activations
        return losses_B

    def base_at_cut(self, number: int) -> Generator[list[Array], CutGradients | None, list[Array]]:
        """The floating-point tensors [B, ...] at the cut of that micro-batch at the base point; all leave at once."""
        activations = self.cut_activations(number)
        kept = floating_of(activations)
        yield activations
        return kept

    def cut_activations(self, number: int) -> list[Array]:
        """The cut's tensors [B, ...] of that micro-batch as the backend is, under the base forward's dropout masks."""
        micro_batch = self.batch.micro_batches[number]
        self.forward_rows += micro_batch.rows
        return self.backend.cut_activations(micro_batch)

    def mean_loss_at(self, numbers: Sequence[int]) -> Callable[[Vector], float]:
        """The mean loss over these micro-batches as a function of the perturbed parameters [P].

        Each call leaves the buffers as they are now, for only base forwards move them; its parameters stay set.
        """
        saved = self.backend.buffers()
        rows = sum(self.batch.micro_batches[number].rows for number in numbers)

        def loss_at(probe_P: Vector) -> float:
            with self.probe(saved):
                self.backend.set_theta(probe_P)
                total = 0.0
                for number in numbers:
                    total += sum_of(self.losses(number))
                return self.batch.finite(total / rows)

        return loss_at

    @contextmanager
    def probe(self, buffers: Mapping[str, Array]) -> Iterator[None]:
        """Around one probe: `buffers` come back after it, and where it raises the unperturbed parameters too."""
        try:
            yield
        except BaseException:
            self.backend.set_theta(self.theta_P)
            raise
        finally:
            self.backend.restore_buffers(buffers)

    def losses(self, number: int) -> Vector:
        """Losses [B] of that micro-batch as the backend is, under the base forward's dropout masks."""
        micro_batch = self.batch.micro_batches[number]
        self.forward_rows += micro_batch.rows
        return self.backend.forward(micro_batch, keep_activations=False).losses_B

    def direction(self, j: int, *path: Part, size: int | None = None) -> Vector:
        """Direction j of the step, from the stream direction/j/path: float32 [P], or [size]."""
        size = self.theta_P.size if size is None else size
        return direction(self.zo.distribution, size, self.generator(j, *path))

    def directions(self, *path: Part) -> Iterator[Vector]:
        """The step's q directions [P], one at a time."""
        return (self.direction(j, *path) for j in range(self.zo.num_directions))

    def generator(self, j: int, *path: Part) -> np.random.Generator:
        """Of direction j's stream."""
        return generator(self._seed, *self.batch.path, "direction", j, *path)

    def scale(self, size: int | None = None) -> float:
        """E[u u^T] = I / scale, for directions in all the perturbed parameters or in `size` of them."""
        return gradient_scale(self.zo.distribution, self.theta_P.size if size is None else size)

    def loss(self) -> float:
        """Mean loss at the base point over the whole batch; DataError where it is not finite."""
        return self.batch.finite(self._loss_sum / self.batch.rows)

    def gradient(self) -> Vector:
        """[D]: that of the probes, then the head's own where it has one."""
        if self.zo.normalise:
            divide_by_spread(self.gradient_P, self.slopes)
        return self.gradient_P if self._gradient_H is None else np.concatenate([self.gradient_P, self._gradient_H])


def floating_of(arrays: Sequence[Array]) -> list[Array]:
    """Those of the cut's tensors for which a gradient comes back."""
    return [array for array in arrays if array.dtype.kind == "f"]
