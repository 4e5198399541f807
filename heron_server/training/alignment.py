"""One auxiliary head for each client, aligned by the server to its back (FSL-SAGE).

Alignment: least squares between the cut gradients that a head gives and those of the back, over a small buffer of
the client's newest uploads. The client then descends on what the server would have told it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import ModelError
from heron_core.models.split_model import SplitModel, movable
from heron_core.spec.run_spec import AlignmentSpec, MethodSpec
from heron_core.streams import Part, seeded_torch
from heron_core.wire.codec import expected_of, mismatches
from heron_server.training.heads import check_head
from heron_server.training.optimizers import to_arrays
from heron_server.uploads.assembly import Upload

log = logging.getLogger("heron.server")
Cut = tuple[Tensor, ...]
"""The cut's tensors [B, ...]."""
Streams = Callable[..., AbstractContextManager[None]]


class UploadBuffers:
    """Each client's newest whole uploads, on the CPU, in order of arrival."""

    def __init__(self, uploaded: Sequence[TensorSpec], rows: int, buffer_samples: int) -> None:
        """`rows` of each upload; a client's buffer holds no more than `buffer_samples`, but at least one upload."""
        self._expected = [(s.name, s.dtype, (rows, *s.shape)) for s in uploaded]
        self._names = [name for name, _, _ in self._expected]
        self._uploads = max(1, buffer_samples // rows)
        self._by_rank: dict[int, deque[list[Tensor]]] = {}

    def keep(self, rank: int, upload: Upload) -> None:
        """A copy: the upload's own memory is used again."""
        newest = self._by_rank.setdefault(rank, deque(maxlen=self._uploads))
        newest.append([t.clone() for t in (*upload.activations, upload.labels_B)])

    def ranks(self) -> list[int]:
        """Who has uploaded, in rank order."""
        return sorted(self._by_rank)

    def of(self, rank: int) -> list[tuple[Cut, Tensor]]:
        """(activations, labels) of each upload."""
        return [(tuple(upload[:-1]), upload[-1]) for upload in self._by_rank[rank]]

    def tensors(self) -> dict[str, Tensor]:
        """`buffers.<rank>.<n>.<tensor name>`, n from the oldest."""
        return {
            f"buffers.{rank}.{n}.{name}": tensor
            for rank in self.ranks()
            for n, upload in enumerate(self._by_rank[rank])
            for name, tensor in zip(self._names, upload, strict=True)
        }

    def mismatches(self, tensors: Mapping[str, Array]) -> list[str]:
        """Names of buffered tensors that are not of whole uploads at this cut."""
        found = [e for e in expected_of(tensors) if e[0].startswith("buffers.")]
        uploads = {".".join(name.split(".")[:3]) for name, _, _ in found}
        wanted = [(f"{u}.{name}", dtype, shape) for u in uploads for name, dtype, shape in self._expected]
        return mismatches(found, wanted)

    def load(self, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`."""
        found = sorted({(int(p[1]), int(p[2])) for n in tensors if (p := n.split("."))[0] == "buffers"})
        self._by_rank = {}
        for rank, n in found:
            upload = [torch.from_numpy(tensors[f"buffers.{rank}.{n}.{name}"].copy()) for name in self._names]
            self._by_rank.setdefault(rank, deque(maxlen=self._uploads)).append(upload)


def cut_gradients(model: SplitModel, module: nn.Module, cut: Cut, labels_B: Tensor, *, graph: bool = False) -> Cut:
    """d (sum of the per-sample losses) / d activations through `module`, for each floating-point tensor of the cut."""
    leaves = tuple(t.detach().requires_grad_() if t.is_floating_point() else t for t in cut)
    with torch.enable_grad():
        losses_B = model.task.losses(module(*leaves), labels_B)
        wanted = [t for t in leaves if t.requires_grad]
        return torch.autograd.grad(losses_B.sum(), wanted, create_graph=graph, materialize_grads=True)


def squared_distance(estimated: Cut, targets: Cut) -> Tensor:
    """Mean over the samples of |estimated - target|^2, the cut's tensors together."""
    per_sample = [((e - t) ** 2).flatten(1).sum(1) for e, t in zip(estimated, targets, strict=True)]
    return torch.stack(per_sample).sum(0).mean() if len(per_sample) > 1 else per_sample[0].mean()


def align(
    model: SplitModel, head: nn.Module, back: nn.Module, uploads: list[tuple[Cut, Tensor]], spec: AlignmentSpec,
    streams: Streams,
) -> None:  # fmt: skip
    """Moves what is trainable of `head` in place so that its cut gradients come near the back's.

    The back is as it was afterwards.
    """
    moved = list(movable(head).values())
    if not moved:
        return
    buffers = {name: buffer.clone() for name, buffer in back.named_buffers()}
    targets = []
    for n, (cut, labels_B) in enumerate(uploads):
        with streams(n):
            targets.append(cut_gradients(model, back, cut, labels_B))
    for name, buffer in back.named_buffers():
        buffer.copy_(buffers[name])
    samples = tuple(torch.cat(parts) for parts in zip(*(cut for cut, _ in uploads), strict=True))
    labels, goals = torch.cat([y for _, y in uploads]), tuple(torch.cat(g) for g in zip(*targets, strict=True))
    optimizer = torch.optim.Adam(moved, lr=spec.lr, foreach=False)
    for number in range(spec.passes):
        for batch, start in enumerate(range(0, len(labels), spec.batch_size)):
            rows = slice(start, start + spec.batch_size)
            with streams("pass", number, batch), torch.enable_grad():
                cut = tuple(t[rows] for t in samples)
                estimated = cut_gradients(model, head, cut, labels[rows], graph=True)
                loss = squared_distance(estimated, tuple(g[rows] for g in goals))
                optimizer.zero_grad(set_to_none=True)
                loss.backward(inputs=moved)  # type: ignore[no-untyped-call]
            optimizer.step()


class AlignedHeads:
    """One head for each client: their uploads' buffers, and one module to train a head in."""

    def __init__(self, method: MethodSpec, model: SplitModel, seed: int, device: torch.device) -> None:
        self._spec, self._model, self._seed, self._device = method.alignment, model, seed, device
        self.buffers = UploadBuffers(model.uploaded, method.batch_size, self._spec.buffer_samples)
        self._head = model.build("auxiliary", seed).to(device).train()

    def ranks_due(self, round_number: int) -> list[int]:
        """After every l-th round, each client that has uploaded, whether its update counted or not."""
        return self.buffers.ranks() if round_number % self._spec.every_rounds == 0 else []

    def align_each(
        self, heads: Mapping[int, Mapping[str, Array]], round_number: int, back: nn.Module
    ) -> dict[int, dict[str, Array]]:
        """By rank, in rank order. A head that its client's own uploads would make infinite is left out, and stays as it
        was; ModelError: all would be."""
        aligned: dict[int, dict[str, Array]] = {}
        spoiled: list[ModelError] = []
        for rank, head in sorted(heads.items()):
            try:
                aligned[rank] = self.align(rank, round_number, back, head)
            except ModelError as error:
                log.warning("not aligned in round %d: %s", round_number, error)
                spoiled.append(error)
        if spoiled and not aligned:
            raise spoiled[0]
        return aligned

    def align(self, rank: int, round_number: int, back: nn.Module, state: Mapping[str, Array]) -> dict[str, Array]:
        """The rank's head `auxiliary.*` aligned, from `state`, its head before. ModelError: it is not finite."""
        tensors = {**dict(self._head.named_parameters()), **dict(self._head.named_buffers())}
        moved = {n: t for n, t in tensors.items() if f"auxiliary.{n}" in state}
        with torch.no_grad():
            for name, tensor in moved.items():
                tensor.copy_(torch.from_numpy(state[f"auxiliary.{name}"]))
        uploads = [
            (tuple(t.to(self._device) for t in cut), labels_B.to(self._device))
            for cut, labels_B in self.buffers.of(rank)
        ]

        def streams(*path: Part) -> AbstractContextManager[None]:
            whole = ("server", "round", round_number, "client", rank, "align", *path)
            return seeded_torch(self._seed, *whole)

        align(self._model, self._head, back, uploads, self._spec, streams)
        check_head(self._head, f"the aligned head of the client of rank {rank}", "method.alignment.lr")
        return to_arrays({f"auxiliary.{n}": t for n, t in moved.items()})
