"""One direction for each sample: all of them are evaluated in common forward passes.

Shape suffixes: B samples of a micro-batch, P perturbed parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from heron_client.compute.backend import Matrix, MicroBatch, PerSampleBackend, Vector, lacks
from heron_client.compute.steps.probing import Probing, Yields
from heron_client.compute.zo import add_slopes_per_sample, sum_of
from heron_core.streams import directions


def each_sample(probing: Probing) -> Yields:
    """q directions for each sample, evaluated together: as many forward passes as with one for the whole batch."""
    zo, batch = probing.zo, probing.batch
    if not isinstance(probing.backend, PerSampleBackend):
        raise lacks(probing.backend, "give each sample its own parameters", 'method.zo.scope = "sample"')
    losses_of = probing.backend.per_sample_losses()
    for number, micro_batch in enumerate(batch.micro_batches):
        losses_B = yield from probing.base(number)
        batch.finite(sum_of(losses_B))
        probing.slopes += add_slopes_per_sample(
            probing.gradient_P, probing.theta_P, _losses_at(probing, losses_of, micro_batch), losses_B,
            _directions(probing, number, micro_batch.rows), zo.num_directions * batch.rows, zo.mu, probing.scale(),
            zo.difference,
        )  # fmt: skip


def _losses_at(
    probing: Probing, losses_of: Callable[[MicroBatch, Matrix], Vector], micro_batch: MicroBatch
) -> Callable[[Matrix], Vector]:
    """The losses [B] at each sample's own parameters [B, P]; the buffers end as they are now."""
    saved = probing.backend.buffers()

    def losses_at(theta_BP: Matrix) -> Vector:
        with probing.probe(saved):
            losses_B = losses_of(micro_batch, theta_BP)
        probing.forward_rows += micro_batch.rows
        probing.batch.finite(sum_of(losses_B))
        return losses_B

    return losses_at


def _directions(probing: Probing, number: int, rows: int) -> Iterator[Matrix]:
    """q times one direction for each of the micro-batch's samples, float32 [B, P]."""
    for j in range(probing.zo.num_directions):
        rng = probing.generator(j, "piece", number)
        yield directions(probing.zo.distribution, rows, probing.theta_P.size, rng)
