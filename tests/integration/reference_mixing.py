"""Server steps on batches mixed of a pool, as plain torch: one upload of each client, permuted, cut into batches."""

from __future__ import annotations

import torch
from integration.reference_parts import floating, kept_buffers, leaves, restore_buffers

from heron_core.streams import generator, seeded_torch


def train_on_pool(run, pool, round_, m, head, head_rule):
    """`pool`: (rank, activations, labels) in rank order. The gradients at the cut of each; `head`: the server's."""
    step, rows, bound = m // run.method.upload_period, run.method.batch_size, run.spec.guard.clip_gradient
    z = tuple(torch.cat([t.contiguous() for t in parts]) for parts in zip(*(z for _, z, _ in pool), strict=True))
    y = torch.cat([y for _, _, y in pool])
    modules = [(run.back, run.server, ())] + ([(head, head_rule, ("auxiliary",))] if head is not None else [])
    weights = [own_weights(run, net, pool, round_, m, path, bound) for net, _, path in modules]
    returned = [torch.zeros_like(t) for t in floating(z)]
    order = generator(run.seed, "mixing", "round", round_, "step", step).permutation(len(y))
    for batch in range(len(pool)):
        chosen = torch.from_numpy(order[batch * rows : (batch + 1) * rows])
        for (net, rule, path), weight in zip(modules, weights, strict=True):
            cut = leaves(tuple(t[chosen] for t in z))
            rule.zero_grad()
            names = ("server", "round", round_, "mixed", step, "batch", batch, *path)
            with seeded_torch(run.seed, *names):
                losses = run.model.task.losses(net(*cut), y[chosen])
                if net is run.back:
                    for whole, g in zip(returned, torch.autograd.grad(losses.mean(), floating(cut), retain_graph=True),
                                        strict=True):  # fmt: skip
                        whole[chosen] = g
                (losses if weight is None else losses * weight[chosen]).mean().backward()
        for _, rule, _ in modules:
            run.step_server(rule, round_, m)
        run.average_back(run.back)
    return [[g[k * rows : (k + 1) * rows] for g in returned] for k in range(len(pool))]


def own_weights(run, net, pool, round_, m, path, bound):
    """Of each row: how much of its client's gradient counts, by the length that it has before the pool. None: all."""
    if not bound:
        return None
    weights = []
    for rank, z, y in pool:
        kept = kept_buffers(net)
        with seeded_torch(run.seed, *run.upload_path(rank, round_, m), *path):
            loss = run.model.task.losses(net(*(t.contiguous() for t in z)), y).mean()
            gradients = torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad])
        with torch.no_grad():
            restore_buffers(net, kept)
        norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients])
        norm = float(torch.linalg.vector_norm(norms))
        weights += [bound / norm if norm > bound else 1.0] * len(y)
    return torch.tensor(weights)
