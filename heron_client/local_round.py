"""A client's local round: h local steps, one upload every k-th.  arXiv 2601.09076, Eqs. 2 and 6.

A pure function of (run spec, client rank, round, fetched state, data), told piece by piece: a generator that yields
each micro-batch's activations as soon as they exist, so that whoever drives it can send while the next is computed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from heron_client.compute import ClientCompute
from heron_client.optimizers import make_update_rule
from heron_client.upload import Upload
from heron_client.zo import gradient_scale, zeroth_order_gradient
from heron_core.data.batches import BatchOrder
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.run_spec import RunSpec
from heron_core.streams import direction, generator

Array = NDArray[Any]


@dataclass
class Figures:
    """What a local round measured about itself."""

    losses: list[float] = field(default_factory=list)
    """Auxiliary loss at each local step's base point."""
    step_seconds: list[float] = field(default_factory=list)
    """Compute seconds of each local step, without the time the driver held the generator."""
    forward_passes: int = 0
    """Forward passes over whole batches."""

    @property
    def step_seconds_median(self) -> float:
        return median(self.step_seconds) if self.step_seconds else 0.0


class LocalRound:
    """One round's work. Iterate `uploads()` to the end, then read `compute.state()` and `figures`."""

    def __init__(
        self, spec: RunSpec, compute: ClientCompute, source: Source, order: BatchOrder, names: list[str],
        round_number: int, rank: int,
    ) -> None:  # fmt: skip
        self._spec, self._compute, self._source, self._order = spec, compute, source, order
        self._names, self._round, self._rank = names, round_number, rank
        self._clock = _Stopwatch()
        self.steps_done = 0
        self.figures = Figures()

    def uploads(self) -> Iterator[Upload]:
        """Runs the local steps; raises DataError when a loss is not finite."""
        method = self._spec.method
        rule = make_update_rule(method.optimizer)
        theta_D = self._compute.theta()
        sequence = 0
        for step in range(method.local_steps):
            self._clock.restart()
            position = (self._round - 1) * method.local_steps + step
            pieces = self._pieces(self._order.at(position))
            sending = (step + 1) % method.upload_period == 0
            loss_sum = 0.0
            for piece, (x, labels) in enumerate(pieces):
                piece_sum, activations = self._compute.forward(
                    x, labels, self._mask_path(step, piece), keep_activations=sending
                )
                loss_sum += piece_sum
                if sending:
                    tensors = dict(zip(self._names, [*activations, labels], strict=True))
                    del activations
                    upload = Upload(
                        sequence, step // method.upload_period, piece * method.micro_batch_rows,
                        method.batch_size, tensors,
                    )  # fmt: skip
                    sequence += 1
                    self._clock.stop()
                    del tensors
                    yield upload
                    del upload
                    self._clock.start()
            self.figures.forward_passes += 1
            loss_base = self._finite(loss_sum / method.batch_size, step)
            if method.name == "heron":
                gradient_D = self._gradient(theta_D, pieces, loss_base, step)
                rule.step(theta_D, gradient_D)
                self._compute.set_theta(theta_D)
            self.figures.losses.append(loss_base)
            self.figures.step_seconds.append(self._clock.stop())
            self.steps_done = step + 1

    def _pieces(self, indices: NDArray[np.int64]) -> list[tuple[Array, Array]]:
        rows = self._spec.method.micro_batch_rows
        x, labels = self._source.batch(indices)
        return [(x[i : i + rows], labels[i : i + rows]) for i in range(0, len(indices), rows)]

    def _gradient(self, theta_D: Tensor, pieces: list[tuple[Array, Array]], loss_base: float, step: int) -> Tensor:
        """The step's ZO gradient [D]. Probes see the base point's buffers: only the base forward moves them."""
        zo = self._spec.method.zo
        saved = self._compute.buffers()

        def loss_at(probe_D: Tensor) -> float:
            self._compute.set_theta(probe_D)
            self._compute.restore_buffers(saved)
            self.figures.forward_passes += 1
            total = 0.0
            for piece, (x, labels) in enumerate(pieces):
                piece_sum, _ = self._compute.forward(x, labels, self._mask_path(step, piece), keep_activations=False)
                total += piece_sum
            return self._finite(total / self._spec.method.batch_size, step)

        gradient_D = zeroth_order_gradient(
            theta_D, loss_at, loss_base, self._directions(theta_D.numel(), step), zo.num_directions, zo.mu,
            gradient_scale(zo.distribution, theta_D.numel()), zo.difference,
        )  # fmt: skip
        self._compute.restore_buffers(saved)
        return gradient_D

    def _directions(self, size: int, step: int) -> Iterator[Tensor]:
        zo = self._spec.method.zo
        for j in range(zo.num_directions):
            rng = generator(self._spec.seed, *self._step_path(step), "direction", j)
            yield self._compute.to_device(direction(zo.distribution, size, rng))

    def _step_path(self, step: int) -> tuple[int | str, ...]:
        return ("round", self._round, "client", self._rank, "step", step)

    def _mask_path(self, step: int, piece: int) -> tuple[int | str, ...]:
        return (*self._step_path(step), "masks", piece)

    def _finite(self, loss: float, step: int) -> float:
        if not np.isfinite(loss):
            raise DataError(
                f"round {self._round}, step {step}: the auxiliary loss must be finite, got {loss}; "
                "lower method.optimizer.lr, or look for NaN in this client's data"
            )
        return loss


class _Stopwatch:
    """Seconds of one step, pausable."""

    def __init__(self) -> None:
        self._total, self._since = 0.0, 0.0

    def restart(self) -> None:
        self._total, self._since = 0.0, time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> float:
        self._total += time.perf_counter() - self._since
        return self._total
