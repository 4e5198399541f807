"""Zeroth order on the server's cut gradient (HO-SFL, arXiv 2603.14773) as one plain loop.

F: the front's trainable parameters, flat. B: samples. M: micro-batches of a step.
"""

from __future__ import annotations

import numpy as np
import torch
from integration.reference_parts import Run, cut, fill, floating, kept_buffers, restore_buffers, together

from heron_core.streams import direction, generator


def heron_on_cut_gradients(spec, folder=None, shares=None):
    """As sflv2, but for how a client moves: there is no graph, and no head."""
    run = Run(spec, folder, shares)
    state = run.initial("front")
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=("front",), moves=("front",))
        for m in range(run.method.local_steps):
            if run.method.mixing:
                sent = [probes(run, c, round_, m) for c in clients]
                for c, (z, y, _) in zip(clients, sent, strict=True):
                    run.serve(run.sent(z, c.rank, round_, m), y, c.rank, round_, m)
                for c, (*_, found), g in zip(clients, sent, run.served(round_, m), strict=True):
                    c.step(gradient(run, found, g))
                continue
            for c in clients:
                z, y, found = probes(run, c, round_, m)
                c.step(gradient(run, found, run.serve(run.sent(z, c.rank, round_, m), y, c.rank, round_, m)))
        state = run.aggregate(clients, "front")
    return run.sha256(state)


def probes(run, c, round_, m):
    """The base forward's activations and labels, and for each probe (u, [(first row, how z moves), ...])."""
    zo, theta_F, pieces = run.method.zo, c.theta.clone(), run.pieces(c.rank, round_, m)
    rows = run.method.micro_batch_rows
    every = list(range(len(pieces)))
    groups = [every] if zo.scope == "batch" else [[p] for p in every]
    activations, found = [], []

    def front(p, theta):
        fill(c.params, theta)
        with torch.no_grad(), run.masks(c.rank, round_, m, p):
            return cut(c.net["front"], pieces[p][0])

    for group in groups:
        base = {p: front(p, theta_F) for p in group}
        activations += base.values()
        saved = kept_buffers(c.net)
        for j in range(zo.num_directions):
            path = ("round", round_, "client", c.rank, "step", m, "direction", j)
            path += () if zo.scope == "batch" else ("piece", group[0])
            u_F = torch.from_numpy(direction(zo.distribution, len(theta_F), generator(run.seed, *path)))
            moved = []
            for p in group:
                restore_buffers(c.net, saved)
                plus = front(p, theta_F + zo.mu * u_F)
                restore_buffers(c.net, saved)
                minus = front(p, theta_F - zo.mu * u_F) if zo.difference == "central" else base[p]
                moved.append((p * rows, [a - b for a, b in zip(floating(plus), floating(minus), strict=True)]))
            found.append((u_F, moved))
        restore_buffers(c.net, saved)
    fill(c.params, theta_F)
    return together(activations), torch.cat([y for _, y in pieces]), found


def gradient(run, found, gradients_at_cut):
    """(1 / (q M)) sum s_p u_p, with s_p = M <g_z, dz>_p / mu; one direction for the whole batch has M = 1."""
    zo, rows = run.method.zo, run.method.micro_batch_rows
    groups = len(found) // zo.num_directions
    length = zo.mu * (2 if zo.difference == "central" else 1)
    total_F, slopes = torch.zeros_like(found[0][0]), []
    for u_F, moved in found:
        change = 0.0
        for start, differences in moved:
            change += sum(
                inner(g[start : start + rows], dz) for g, dz in zip(gradients_at_cut, differences, strict=True)
            )
        slopes.append(groups * change / length)
        scale = float(len(u_F)) if zo.distribution == "sphere" else 1.0
        total_F += (scale * slopes[-1] / len(found)) * u_F
    if zo.normalise and np.std(slopes) >= 1e-12:
        total_F.div_(float(np.std(slopes)))
    return total_F


def inner(g, dz):
    """Over all elements, in float64 and row-major order."""
    g, dz = (t.contiguous().numpy().astype(np.float64) for t in (g, dz))
    return float((g * dz).sum())
