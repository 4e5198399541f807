"""Server steps on batches mixed of a pool, as plain torch: one upload of each client, permuted, cut into batches."""

from __future__ import annotations

import torch
from integration.reference_parts import floating, kept_buffers, leaves, restore_buffers

from heron_core.streams import generator, seeded_torch


def train_on_pool(run, pool, round_, m, head, head_rule):
    """`pool`: (rank, activations, labels) in rank order. The gradients at the cut of each; `head`: the server's."""
    step, rows, bound = m // run.method.upload_period, run.method.batch_size, run.spec.guard.clip_gradient
    z = tuple(padded(parts, 0) for parts in zip(*(z for _, z, _ in pool), strict=True))
    y = padded([y for _, _, y in pool], -100)
    lengths = [y.shape[1] if y.dim() > 1 else 1 for _, _, y in pool for _ in range(len(y))]
    modules = [(run.back, run.server, ())] + ([(head, head_rule, ("auxiliary",))] if head is not None else [])
    weights = [own_weights(run, net, pool, round_, m, path, bound) for net, _, path in modules]
    returned = [torch.zeros_like(t) for t in floating(z)]
    order = generator(run.seed, "mixing", "round", round_, "step", step).permutation(len(y))
    for batch in range(len(pool)):
        chosen = torch.from_numpy(order[batch * rows : (batch + 1) * rows])
        for (net, rule, path), weight in zip(modules, weights, strict=True):
            longest = max(lengths[i] for i in chosen)
            cut = leaves(tuple(t[chosen][:, :longest] if varies(lengths) else t[chosen] for t in z))
            labels = y[chosen][:, :longest] if varies(lengths) else y[chosen]
            rule.zero_grad()
            names = ("server", "round", round_, "mixed", step, "batch", batch, *path)
            with seeded_torch(run.seed, *names):
                losses = run.model.task.losses(net(*cut), labels)
                if net is run.back:
                    for whole, g in zip(returned, torch.autograd.grad(losses.mean(), floating(cut), retain_graph=True),
                                        strict=True):  # fmt: skip
                        whole[chosen] = torch.cat([g, whole[chosen][:, g.shape[1] :]], 1) if varies(lengths) else g
                (losses if weight is None else losses * weight[chosen]).mean().backward()
        for _, rule, _ in modules:
            run.step_server(rule, round_, m)
        run.average_back(run.back)
    own = [[g[k * rows : (k + 1) * rows] for g in returned] for k in range(len(pool))]
    if varies(lengths):
        return [[g[:, : lengths[k * rows]] for g in each] for k, each in enumerate(own)]
    return own


def varies(lengths):
    return len(set(lengths)) > 1


def padded(batches, filled):
    """Sequences [B, T, ...] behind one another, the shorter ones up to the longest."""
    batches = [t.contiguous() for t in batches]
    if len({t.shape[1:] for t in batches}) == 1:
        return torch.cat(batches)
    longest = max(t.shape[1] for t in batches)
    rest = [t.new_full((len(t), longest - t.shape[1], *t.shape[2:]), filled) for t in batches]
    return torch.cat([torch.cat(pair, 1) for pair in zip(batches, rest, strict=True)])


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
