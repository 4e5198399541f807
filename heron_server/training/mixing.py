"""Steps on batches mixed of a pool, one upload of each client: as many as one upload after the other would make.

What a client is measured by comes from its own rows: its loss, and where a guard asks, the norm of its gradient before
anything is mixed. What cannot be used is left out of the pool and costs its client the round, nobody else. Uploads of
sequences may differ in length: a batch is as long as its longest row, and behind a shorter one there are zeros at the
cut and no label that counts.

Shape suffixes: P rows of the pool, client after client in rank order; B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import TensorError
from heron_core.labels import IGNORED
from heron_core.models.split_model import SplitModel
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import Part, generator, seeded_torch
from heron_server.training import guards
from heron_server.training.backs import AveragedBack
from heron_server.training.commands import Pooled
from heron_server.training.decoding import Intake, moved
from heron_server.training.guards import Batch, Trainee
from heron_server.training.heads import TrainedHead
from heron_server.training.outliers import RecentLosses
from heron_server.uploads.assembly import Upload

Streams = Callable[..., AbstractContextManager[None]]
"""Extends a path, and has torch draw from the stream of that name."""


@dataclass(frozen=True)
class Own:
    """One client's upload, where it is to be computed."""

    rank: int
    upload: Upload
    """Decoded. Its number is the same for all of a pool."""
    batch: Batch


@dataclass(frozen=True)
class Outcome:
    """What one client's rows came to."""

    upload: Upload
    """Decoded."""
    loss: Tensor
    """Mean [] of its own rows, each before the step of its batch."""
    gradients: Sequence[Tensor]
    """Of the floating-point tensors of the cut [B, ...], where they are wanted: of the mean loss of the row's batch."""
    outlier: bool = False
    """Nothing was trained on these rows. Loss and gradients are of its own upload before the pool."""


@dataclass(frozen=True)
class _Measured:
    """A client's own upload at the trainees as they are."""

    loss: Tensor
    gradients: Sequence[Tensor]
    norms: Sequence[float]
    """Of the gradient of each trainee."""


class MixedSteps:
    """Trains the back, and the head that the server trains if there is one, on batches mixed of a pool."""

    def __init__(
        self, spec: RunSpec, intake: Intake, model: SplitModel, device: torch.device, back: Trainee,
        averaged: AveragedBack | None, head: TrainedHead | None, losses: RecentLosses,
    ) -> None:  # fmt: skip
        self._averaged, self._intake = averaged, intake
        self._seed, self._guard, self._wanted = spec.seed, spec.guard, method_of(spec.method).returns_cut_gradients
        self._model, self._device, self._back, self._head, self._losses = model, device, back, head, losses
        self.trainees = [back, *([head.trainee] if head is not None else [])]

    def train(self, round_number: int, pool: Sequence[Pooled]) -> list[Outcome | TensorError]:
        """For each upload, in rank order. They are of one number, and each has the rows of a whole batch."""
        uploads, found = self._sound(pool)
        measured, left_out = self._measure_all(round_number, uploads)
        found |= left_out
        left = [own for own in uploads if own.rank not in found]
        if left:
            weights = [self._weights(i, measured) for i in range(len(self.trainees))]
            found |= self._train_pool(round_number, _Pool(left, weights))
        return [found[each.rank] for each in pool]

    def _sound(self, pool: Sequence[Pooled]) -> tuple[list[Own], dict[int, Outcome | TensorError]]:
        """Those that are finite and in range, and why others are not."""
        uploads: list[Own] = []
        refused: dict[int, Outcome | TensorError] = {}
        for each in pool:
            try:
                upload = self._intake.checked(each.client, each.rank, each.upload)
            except TensorError as error:
                refused[each.rank] = error
                continue
            cut, labels_B = moved(upload, self._device)
            uploads.append(Own(each.rank, upload, Batch(guards.leaves(cut, self._wanted), labels_B, each.whose)))
        return uploads, refused

    def _train_pool(self, round_number: int, pool: _Pool) -> dict[int, Outcome | TensorError]:
        failed: dict[int, Outcome | TensorError] = {}
        upload = pool.uploads[0].upload.number
        order = pool.permuted(self._seed, "mixing", "round", round_number, "step", upload)
        step = 0
        while len(order):
            rows_B = order[: pool.batch_rows]
            streams = partial(seeded_torch, self._seed, "server", "round", round_number, "mixed", upload, "batch", step)
            try:
                self._step(pool, rows_B, streams)
            except TensorError as error:
                failed |= self._blame(round_number, pool.owners(rows_B), error)
                order = order[[pool.owner(row) not in failed for row in order.tolist()]]
                continue
            order, step = order[pool.batch_rows :], step + 1
        return failed | {u.rank: pool.outcome(i) for i, u in enumerate(pool.uploads) if u.rank not in failed}

    def _step(self, pool: _Pool, rows_B: Tensor, streams: Streams) -> None:
        """On these rows. TensorError: they would spoil a model, and nothing has changed."""
        batches = [pool.batch(rows_B, i) for i in range(len(self.trainees))]
        with torch.enable_grad(), guards.untouched_on_error(*self.trainees):
            losses_B, gradients = self._backward(batches, streams)
            norms = self._norms(batches)
            guards.step(self._model, self.trainees, batches[0], norms)
            if self._averaged is not None:
                self._averaged.follow()
        pool.keep(rows_B, losses_B, gradients)

    def _backward(self, batches: Sequence[Batch], streams: Streams) -> tuple[Tensor, list[Tensor]]:
        """Per-sample losses [B] and the gradients at the cut; each trainee has its parameters' gradients."""
        if self._head is not None:
            with streams("auxiliary"):
                self._head.backward(replace(batches[1], activations=tuple(t.detach() for t in batches[1].activations)))
        with streams():
            losses_B = guards.finite_losses(self._model, self._back.module, batches[0])
            self._descend(losses_B, batches[0])
        return losses_B.detach(), guards.cut_gradients(batches[0])

    def _descend(self, losses_B: Tensor, batch: Batch) -> None:
        """Gradients of the parameters, and at the cut: there of the plain mean, whatever the rows weigh."""
        loss, wanted = losses_B.mean(), [t for t in batch.activations if t.requires_grad]
        if batch.weights_B is None or not wanted:
            loss = guards.mean(losses_B, batch)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            return
        loss.backward(inputs=wanted, retain_graph=True)  # type: ignore[no-untyped-call]
        if moved := [p for p in self._back.parameters if p.requires_grad]:
            guards.mean(losses_B, batch).backward(inputs=moved)  # type: ignore[no-untyped-call]

    def _norms(self, batches: Sequence[Batch]) -> list[float]:
        return [guards.gradient_norm(self._model, t, b) for t, b in zip(self.trainees, batches, strict=True)]

    # -- each client by itself -----------------------------------------------------------------------------------

    def _measure_all(
        self, round_number: int, uploads: Sequence[Own]
    ) -> tuple[Mapping[int, _Measured], dict[int, Outcome | TensorError]]:
        """By rank, where a guard asks: what was measured, and who is left out of the pool."""
        measured: dict[int, _Measured] = {}
        out: dict[int, Outcome | TensorError] = {}
        if not (self._guard.clip_gradient or self._guard.loss_outlier):
            return measured, out
        for upload in uploads:
            try:
                own = measured[upload.rank] = self._measure(round_number, upload)
            except TensorError as error:
                out[upload.rank] = error
                continue
            if self._losses.is_outlier(upload.rank, own.loss):
                out[upload.rank] = Outcome(upload.upload, own.loss, own.gradients, outlier=True)
            self._losses.remember(upload.rank, own.loss)
        return measured, out

    def _measure(self, round_number: int, upload: Own) -> _Measured:
        """One client's own upload; nothing is changed. Raises TensorError where it alone cannot be used."""
        path = ("server", "round", round_number, "client", upload.rank, "step", upload.upload.number)
        cut = tuple(t.detach().requires_grad_(t.requires_grad) for t in upload.batch.activations)
        batches = [replace(upload.batch, activations=cut)] * len(self.trainees)
        with torch.enable_grad(), guards.untouched_on_error(*self.trainees) as undo:
            losses_B, gradients = self._backward(batches, partial(seeded_torch, self._seed, *path))
            found = _Measured(losses_B.mean(), gradients, self._norms(batches))
            undo()
        return found

    def _weights(self, trainee: int, measured: Mapping[int, _Measured]) -> Mapping[int, float] | None:
        """By rank: so much of a client's gradient counts that its own is no longer than the bound. None: no bound."""
        bound = self._guard.clip_gradient
        if not bound:
            return None
        return {rank: bound / max(own.norms[trainee], bound) for rank, own in measured.items()}

    def _blame(self, round_number: int, suspects: Iterable[Own], error: TensorError) -> dict[int, TensorError]:
        """Who made a batch unusable: whose own upload is, or whose gradient is large; else whose is the largest."""
        blamed: dict[int, TensorError] = {}
        norms: dict[int, float] = {}
        for upload in suspects:
            try:
                norms[upload.rank] = max(self._measure(round_number, upload).norms)
            except TensorError as own:
                blamed[upload.rank] = own
        named = {upload.rank: upload.batch.whose for upload in suspects}
        guilty = [rank for rank, norm in norms.items() if norm > guards.LARGE_GRADIENT]
        if not guilty and not blamed:
            guilty = [max(norms, key=norms.__getitem__)]
        return blamed | {rank: TensorError(f"{named[rank]}: {error}") for rank in guilty}


class _Pool:
    """The rows of several uploads, and what came of each."""

    def __init__(self, uploads: Sequence[Own], weights: Sequence[Mapping[int, float] | None]) -> None:
        """`weights`: for each trainee, of the rows of each rank."""
        self.uploads = uploads
        self.batch_rows = len(uploads[0].batch.labels_B)
        batches = [upload.batch for upload in uploads]
        cuts = [batch.activations for batch in batches]
        self._cut_P = tuple(_together([t.detach() for t in parts]) for parts in zip(*cuts, strict=True))
        self._wanted = tuple(t.requires_grad for t in batches[0].activations)
        self._labels_P = _together([b.labels_B for b in batches], IGNORED)
        self._lengths = [b.labels_B.shape[1] if b.labels_B.dim() > 1 else 0 for b in batches]
        self._varying = len(set(self._lengths)) > 1
        self._losses_P = torch.zeros(len(self._labels_P), device=self._labels_P.device)
        self._gradients_P = [torch.zeros_like(t) for t, w in zip(self._cut_P, self._wanted, strict=True) if w]
        self._weights_P = [None if each is None else self._of_rows(each) for each in weights]

    def _of_rows(self, by_rank: Mapping[int, float]) -> Tensor:
        each = torch.tensor([by_rank[u.rank] for u in self.uploads], device=self._labels_P.device)
        return each.repeat_interleave(self.batch_rows)

    def permuted(self, seed: int, *path: Part) -> Tensor:
        """All rows, in the order of this stream."""
        return torch.from_numpy(generator(seed, *path).permutation(len(self._labels_P)))

    def owner(self, row: int) -> int:
        """The rank whose row it is."""
        return self.uploads[row // self.batch_rows].rank

    def owners(self, rows_B: Tensor) -> list[Own]:
        """Whose rows are among these, in rank order."""
        return [self.uploads[i] for i in sorted({row // self.batch_rows for row in rows_B.tolist()})]

    def batch(self, rows_B: Tensor, trainee: int) -> Batch:
        """These rows, with the weights that they have for a trainee."""
        rows_B, weights_P = rows_B.to(self._labels_P.device), self._weights_P[trainee]
        longest, whose = self._longest(rows_B), f"a batch mixed of {len(self.uploads)} clients"
        *cut, labels_B = (_first(t[rows_B], longest) for t in (*self._cut_P, self._labels_P))
        leaves = tuple(t.requires_grad_(wanted) for t, wanted in zip(cut, self._wanted, strict=True))
        return Batch(leaves, labels_B, whose, None if weights_P is None else weights_P[rows_B])

    def _longest(self, rows_B: Tensor) -> int | None:
        """Of these rows; None where all uploads have one length, or none."""
        return max(self._lengths[row // self.batch_rows] for row in rows_B.tolist()) if self._varying else None

    def keep(self, rows_B: Tensor, losses_B: Tensor, gradients: Sequence[Tensor]) -> None:
        """What came of these rows."""
        rows_B = rows_B.to(self._labels_P.device)
        self._losses_P[rows_B] = losses_B.to(self._losses_P.dtype)
        for pooled, gradient in zip(self._gradients_P, gradients, strict=True):
            _first(pooled, self._longest(rows_B), view=True)[rows_B] = gradient

    def outcome(self, index: int) -> Outcome:
        """Of one upload, all of whose rows have trained."""
        rows = slice(index * self.batch_rows, (index + 1) * self.batch_rows)
        upload, own = self.uploads[index].upload, self._lengths[index] if self._varying else None
        return Outcome(upload, self._losses_P[rows].mean(), [_first(g[rows], own) for g in self._gradients_P])


def _together(tensors: Sequence[Tensor], filled: int = 0) -> Tensor:
    """[P, ...] of several [B, ...], or of [B, T, ...] of which T differs, as long as the longest."""
    if len({t.shape[1:] for t in tensors}) == 1:
        return torch.cat(list(tensors))
    longest = max(t.shape[1] for t in tensors)
    behind = [(0, 0) * (t.dim() - 2) + (0, longest - t.shape[1]) for t in tensors]
    return torch.cat([F.pad(t, pad, value=filled) for t, pad in zip(tensors, behind, strict=True)])


def _first(tensor: Tensor, length: int | None, *, view: bool = False) -> Tensor:
    """So many positions of [B, T, ...]; None: all."""
    if length is None:
        return tensor
    return tensor[:, :length] if view else tensor[:, :length].contiguous()
