"""Steps from losses alone: probes along random directions, never a graph of the front.  arXiv 2601.09076, Eqs. 2 and 6.

An estimator is a generator over a `Probing`: which directions, for which samples and which parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from heron_client.compute.steps.batch import Batch, Steps
from heron_client.compute.steps.block_wise import each_block
from heron_client.compute.steps.moving import Moving
from heron_client.compute.steps.per_sample import each_sample
from heron_client.compute.steps.probing import Probing, Yields
from heron_client.compute.torch_backend import ClientCompute
from heron_client.compute.zo import add_slopes
from heron_core.arrays import Array
from heron_core.spec.run_spec import RunSpec, ZoSpec

Estimator = Callable[[Probing], Yields]


class ZerothOrderStepper:
    """Runs the estimator that the settings name, and one step of the optimiser on what it finds."""

    def __init__(self, spec: RunSpec, compute: ClientCompute) -> None:
        self._spec, self._compute = spec, compute
        self._estimator = estimator_of(spec.method.zo)
        self._moving = Moving(compute)
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        probing = Probing(self._spec, self._compute, self._moving.theta_D, batch)
        yield from self._estimator(probing)
        loss = probing.loss()
        self._moving.step(probing.gradient())
        self.forward_passes += probing.forward_rows / batch.rows
        return loss

    def moments(self) -> dict[str, Array]:
        return self._moving.moments()


def estimator_of(zo: ZoSpec) -> Estimator:
    """The one that the settings name."""
    if zo.block_wise:
        return each_block
    return {"batch": whole_batch, "micro_batch": each_micro_batch, "sample": each_sample}[zo.scope]


def whole_batch(probing: Probing) -> Yields:
    """q directions, each for all samples: the paper's."""
    zo, pieces = probing.zo, range(len(probing.batch.pieces))
    for piece in pieces:
        yield from probing.base(piece)
    probing.slopes += add_slopes(
        probing.gradient_P, probing.theta_P, probing.mean_loss_at(pieces), probing.loss(), probing.directions(),
        zo.num_directions, zo.mu, probing.scale(), zo.difference,
    )  # fmt: skip


def each_micro_batch(probing: Probing) -> Yields:
    """q directions for each micro-batch, which is done with before the next begins: the peak is one piece's."""
    zo, pieces = probing.zo, probing.batch.pieces
    for piece, (_, labels) in enumerate(pieces):
        losses_B = yield from probing.base(piece)
        loss = probing.batch.finite(float(losses_B.double().sum()) / len(labels))
        probing.slopes += add_slopes(
            probing.gradient_P, probing.theta_P, probing.mean_loss_at([piece]), loss,
            probing.directions("piece", piece), zo.num_directions * len(pieces), zo.mu, probing.scale(), zo.difference,
        )  # fmt: skip
        probing.compute.set_theta(probing.theta_P)
