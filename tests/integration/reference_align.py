"""FSL-SAGE's alignment as a plain loop: a head learns to give the server's own gradient at the cut."""

from __future__ import annotations

import torch
from integration.reference_parts import floating, kept_buffers, leaves, restore_buffers, together

from heron_core.streams import seeded_torch


class Buffers:
    """Each client's newest whole uploads."""

    def __init__(self, spec):
        self._most = max(1, spec.method.alignment.buffer_samples // spec.method.batch_size)
        self._uploads = {}

    def add(self, rank, z, y):
        self._uploads[rank] = [*self._uploads.get(rank, []), (z, y)][-self._most :]

    def by_rank(self):
        return sorted(self._uploads.items())


def align(run, round_, rank, head, uploads):
    """Least squares on d loss / d z: every pass goes over the buffer in order, by a fresh Adam."""
    settings, path = run.method.alignment, ("server", "round", round_, "client", rank, "align")
    kept, targets = kept_buffers(run.back), []
    for n, (z, y) in enumerate(uploads):
        at = leaves(z)
        with seeded_torch(run.seed, *path, n):
            loss = run.model.task.losses(run.back(*at), y).sum()
        targets.append(torch.autograd.grad(loss, floating(at)))
    restore_buffers(run.back, kept)
    z, y, goals = together([z for z, _ in uploads]), torch.cat([y for _, y in uploads]), together(targets)

    rule = torch.optim.Adam(head.parameters(), lr=settings.lr, foreach=False)
    for number in range(settings.passes):
        for b, start in enumerate(range(0, len(y), settings.batch_size)):
            part = slice(start, start + settings.batch_size)
            at = leaves([t[part].clone() for t in z])
            with seeded_torch(run.seed, *path, "pass", number, b):
                loss = run.model.task.losses(head(*at), y[part]).sum()
            gradients = torch.autograd.grad(loss, floating(at), create_graph=True)
            rule.zero_grad()
            far = [((g - goal[part]) ** 2).flatten(1).sum(1) for g, goal in zip(gradients, goals, strict=True)]
            sum(far).mean().backward()
            rule.step()
