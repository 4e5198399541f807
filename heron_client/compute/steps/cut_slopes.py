"""Slopes of the server's loss: forward passes of the front, and the cut gradient that comes back.  arXiv 2603.14773.

The probes are done before that gradient is needed: what is kept of a probe is how far it moves the activations.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from heron_client.compute.backend import Backend, Vector
from heron_client.compute.batch import Batch
from heron_client.compute.steps.moving import Moving
from heron_client.compute.steps.probing import Probing, floating_of
from heron_client.compute.steps.stepper import Steps
from heron_client.compute.zo import along_cut, cut_difference, shifted
from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array
from heron_core.replay.estimate import add_multiple
from heron_core.spec.run_spec import ZoSpec
from heron_core.streams import Part

Difference = list[list[Array]]
"""How far one direction moves the cut's floating-point tensors: float32 [rows, ...] each, for each micro-batch."""


@dataclass(frozen=True)
class Group:
    """The micro-batches that share their directions."""

    numbers: range
    path: tuple[Part, ...]
    """Ends the names of their directions' streams."""


class CutSlopeStepper:
    """While it waits for the server it holds q differences [B, cut], and no activations."""

    def __init__(self, zo: ZoSpec, seed: int, backend: Backend, moving: Moving) -> None:
        self._zo, self._seed, self._backend, self._moving = zo, seed, backend, moving
        self._length = zo.mu * (2.0 if zo.difference == "central" else 1.0)
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        """Base forwards, probes, and one update by their slopes on the server's answer; returns the server's loss."""
        assert batch.sends, "upload_period is 1 where the cut gradients come back"
        probing = Probing(self._zo, self._seed, self._backend, self._moving.theta_D, batch, exact_head=False)
        count = len(batch.micro_batches)
        one_by_one = [Group(range(number, number + 1), ("piece", number)) for number in range(count)]
        groups = [Group(range(count), ())] if self._zo.scope == "batch" else one_by_one
        differences = []
        for group in groups:
            differences.append((yield from _differences(probing, group)))
        self.forward_passes += probing.forward_rows / batch.rows
        answer = yield []
        assert answer is not None, "whoever drives a step answers it with its cut gradients"
        loss, gradients = answer
        for group, found in zip(groups, differences, strict=True):
            self._add_slopes(probing, group, found, gradients, len(groups))
        del answer, differences, found
        gradients.clear()
        self._moving.step(probing.gradient(), batch.lr, probing.slopes)
        return loss

    def moments(self) -> dict[str, Array]:
        """The optimiser's."""
        return self._moving.moments()

    def _add_slopes(
        self, probing: Probing, group: Group, differences: list[Difference], gradients: list[Array], groups: int
    ) -> None:
        """Adds scale * slope_j * u_j / (q * groups) of each direction, with slope_j = groups * <g_z, dz_j> / mu: the
        server's loss is a mean over the whole batch."""
        starts = list(accumulate((each.rows for each in probing.batch.micro_batches), initial=0))
        scratch_P: Vector = np.empty_like(probing.theta_P)
        for u_P, found in zip(probing.directions(*group.path), differences, strict=True):
            change = 0.0
            for number, difference in zip(group.numbers, found, strict=True):
                change += along_cut([g[starts[number] : starts[number + 1]] for g in gradients], difference)
            slope = probing.batch.finite(groups * change / self._length, "the slope on the cut gradient")
            coefficient = probing.scale() * slope / (self._zo.num_directions * groups)
            add_multiple(probing.gradient_P, u_P, coefficient, scratch_P)
            probing.slopes.append(slope)
            del u_P


def _differences(
    probing: Probing, group: Group
) -> Generator[list[Array], CutGradients | None, list[Difference]]:
    """Of each of the group's directions; its micro-batches leave before they are probed."""
    base: Difference = []
    for number in group.numbers:
        base.append((yield from probing.base_at_cut(number)))
    buffers = probing.backend.buffers()
    found = [_difference(probing, group, u_P, base, buffers) for u_P in probing.directions(*group.path)]
    probing.backend.set_theta(probing.theta_P)
    return found


def _difference(
    probing: Probing, group: Group, u_P: Vector, base: Difference, buffers: Mapping[str, Array]
) -> Difference:
    """z(theta + mu u) - z(theta), with central differences - z(theta - mu u). The buffers end as they were."""
    zo, probe_P = probing.zo, np.empty_like(probing.theta_P)

    def moved(length: float) -> Iterator[list[Array]]:
        """The cut's tensors at theta + length * u, one micro-batch after the other."""
        with probing.probe(buffers):
            probing.backend.set_theta(shifted(probing.theta_P, u_P, length, probe_P))
            for number in group.numbers:
                yield floating_of(probing.cut_activations(number))

    other = list(moved(-zo.mu)) if zo.difference == "central" else base
    return [cut_difference(z, z_other) for z, z_other in zip(moved(zo.mu), other, strict=True)]
