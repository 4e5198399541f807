"""Steps from losses alone: probes along random directions, never a graph of the front.  arXiv 2601.09076, Eqs. 2 and 6.

An estimator is a generator over a `Probing`: which directions, for which samples and which parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from heron_client.compute.backend import Backend, StagedBackend, lacks
from heron_client.compute.batch import Batch
from heron_client.compute.steps.block_wise import each_block
from heron_client.compute.steps.moving import Moving
from heron_client.compute.steps.per_sample import each_sample
from heron_client.compute.steps.probing import Probing, Yields
from heron_client.compute.steps.stepper import Steps
from heron_client.compute.zo import add_slopes, sum_of
from heron_core.arrays import Array
from heron_core.spec.methods import Head
from heron_core.spec.run_spec import ZoSpec

Estimator = Callable[[Probing], Yields]


class ZerothOrderStepper:
    """Runs the estimator that the settings name, and one step of the optimiser on what it finds."""

    def __init__(self, zo: ZoSpec, head: Head, seed: int, backend: Backend, moving: Moving) -> None:
        self._zo, self._head, self._seed = zo, head, seed
        self._backend, self._moving = backend, moving
        self._estimator = estimator_of(zo)
        self._perturbed = sum(size for name, size in backend.moved if self._perturbs(name))
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        """Base forwards, probes, and one update.  Eq. 6."""
        probing = self.probing(batch)
        yield from self._estimator(probing)
        loss = probing.loss()
        self._moving.step(probing.gradient(), batch.lr, probing.slopes)
        self.forward_passes += probing.forward_rows / batch.rows
        return loss

    def probing(self, batch: Batch) -> Probing:
        """The step's, at theta as it is now; what is perturbed comes first in it."""
        theta_P = self._moving.theta_D[: self._perturbed]
        return Probing(self._zo, self._seed, self._backend, theta_P, batch, exact_head=self._head == "detached")

    def _perturbs(self, name: str) -> bool:
        """The head's where it moves jointly; the front's, but for those of its last stages with an exact gradient."""
        if not name.startswith("front."):
            return self._head == "joint"
        backend, exact = self._backend, self._zo.exact_stages
        if not exact:
            return True
        if not isinstance(backend, StagedBackend):
            raise lacks(backend, "backpropagate through its last stages", f"method.zo.exact_stages = {exact}")
        return backend.stage_of(name) < backend.num_stages() - exact

    def moments(self) -> dict[str, Array]:
        """The optimiser's."""
        return self._moving.moments()


def estimator_of(zo: ZoSpec) -> Estimator:
    """The one that the settings name."""
    if zo.block_wise:
        return each_block
    return {"batch": whole_batch, "micro_batch": each_micro_batch, "sample": each_sample}[zo.scope]


def whole_batch(probing: Probing) -> Yields:
    """q directions, each for all samples: the paper's."""
    zo, numbers = probing.zo, range(len(probing.batch.micro_batches))
    for number in numbers:
        yield from probing.base(number)
    probing.slopes += add_slopes(
        probing.gradient_P, probing.theta_P, probing.mean_loss_at(numbers), probing.loss(), probing.directions(),
        zo.num_directions, zo.mu, probing.scale(), zo.difference,
    )  # fmt: skip


def each_micro_batch(probing: Probing) -> Yields:
    """q directions for each micro-batch, which is done with before the next begins: the peak is one micro-batch's."""
    zo, micro_batches = probing.zo, probing.batch.micro_batches
    for number, micro_batch in enumerate(micro_batches):
        losses_B = yield from probing.base(number)
        loss = probing.batch.finite(sum_of(losses_B) / micro_batch.rows)
        probing.slopes += add_slopes(
            probing.gradient_P, probing.theta_P, probing.mean_loss_at([number]), loss,
            probing.directions("piece", number), zo.num_directions * len(micro_batches), zo.mu, probing.scale(),
            zo.difference,
        )  # fmt: skip
        probing.backend.set_theta(probing.theta_P)
