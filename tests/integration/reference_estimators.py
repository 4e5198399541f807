"""HERON-SFL with every estimator as one plain loop. reference_loop.py is the paper's own, without the options.

F: trainable parameters that are perturbed (the front's, and the head's where it moves jointly), flat. B: samples.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch
from integration.reference_align import Buffers, align
from integration.reference_parts import (
    Run,
    cut,
    fill,
    flat,
    kept_buffers,
    make_optimizer,
    restore_buffers,
    together,
    total,
)

from heron_core.models import lean
from heron_core.streams import direction, directions, generator, seeded_torch


def heron(spec, folder=None, shares=None):
    run, method, buffers = Run(spec, folder, shares), spec.method, Buffers(spec)
    head = method.auxiliary_update
    moves = ("front", "auxiliary") if head in ("zo", "first_order") else ("front",)
    state = run.initial(*moves)
    heads = [run.model.build("auxiliary", spec.seed).train() for _ in range(run.N if head == "aligned" else 1)]
    head_rule = make_optimizer(spec.server_optimizer, list(heads[0].parameters()))
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=("front", "auxiliary"), moves=moves)
        if head in ("server", "aligned"):
            for c in clients:
                c.net["auxiliary"].load_state_dict(heads[c.rank % len(heads)].state_dict())
        for m in range(method.local_steps):
            for c in clients:
                gradient, z, y = estimate(run, c, round_, m)
                c.step(gradient)
                if not run.uploading(m):
                    continue
                z = run.sent(z, c.rank, round_, m)
                run.serve(z, y, c.rank, round_, m)
                buffers.add(c.rank, z, y)
                if head == "server" and not method.mixing:  # it learns from what the back learns from
                    head_rule.zero_grad()
                    with seeded_torch(spec.seed, *run.upload_path(c.rank, round_, m), "auxiliary"):
                        run.model.task.losses(heads[0](*(t.contiguous() for t in z)), y).mean().backward()
                    run.clip(heads[0].parameters())
                    run.step_server(head_rule, round_, m)
            run.served(round_, m, heads[0] if head == "server" else None, head_rule)
        state = run.aggregate(clients, *moves)
        if head == "aligned" and round_ % method.alignment.every_rounds == 0:
            for rank, uploads in buffers.by_rank():
                align(run, round_, rank, heads[rank], uploads)
    shared = {f"auxiliary.{n}": t for n, t in heads[0].state_dict().items()} if head == "server" else {}
    return run.sha256({**state, **shared})


def estimate(run, c, round_, m):
    """The local step's gradient, and the base forward's activations and labels."""
    zo, q, mu = run.method.zo, run.method.zo.num_directions, run.method.zo.mu
    detached = run.method.auxiliary_update == "first_order"
    inner = moving(c, exact_stages(run, c)) if detached else []
    params = c.params[: len(c.params) - len(inner)]
    theta_F = c.theta[: sum(p.numel() for p in params)].clone()
    scale = float(len(theta_F)) if zo.distribution == "sphere" else 1.0
    step = ("round", round_, "client", c.rank, "step", m)
    pieces = run.pieces(c.rank, round_, m)
    groups = [list(enumerate(pieces))] if zo.scope == "batch" else [[piece] for piece in enumerate(pieces)]
    gradient_F, exact, slopes, activations = torch.zeros_like(theta_F), None, [], []

    def losses_of(group):
        """Per-sample losses at the parameters as they are, and the activations."""
        losses, found = [], []
        for k, (x, y) in group:
            with torch.no_grad(), run.masks(c.rank, round_, m, k):
                z = cut(c.net["front"], x)
                losses.append(run.client_losses(c, c.net["auxiliary"](*z), y))
                found.append(z)
        return losses, found

    def slope_along(loss_at, base):
        if zo.difference == "central":
            return (loss_at(mu) - loss_at(-mu)) / (2 * mu)
        return (loss_at(mu) - base) / mu

    for p, group in enumerate(groups):
        base, found = losses_of(group)
        activations += found
        rows = sum(map(len, base))
        saved = kept_buffers(c.net)
        if detached:
            for z, (_, (x, y)) in zip(found, group, strict=True):
                exact = added(exact, exact_gradient(run, c, x, z, y))
        for j in range(q):
            path = (*step, "direction", j) if zo.scope == "batch" else (*step, "direction", j, "piece", p)
            if zo.block_wise:
                slopes += block_slopes(run, c, theta_F, params, group, path, slope_along, mean(base), gradient_F)
                continue
            rng = generator(run.seed, *path)
            if zo.scope == "sample":
                u_BF = torch.from_numpy(directions(zo.distribution, rows, len(theta_F), rng))

                def own_losses(length, u_BF=u_BF, group=group, saved=saved):
                    restore_buffers(c.net, saved)
                    with own_parameters(c, params, theta_F + length * u_BF), lean.whole_batches():
                        return losses_of(group)[0][0].double()

                slope_B = slope_along(own_losses, base[0].double())
                for u_F, slope in zip(u_BF, slope_B.tolist(), strict=True):
                    gradient_F += (scale * slope / (q * run.method.batch_size)) * u_F
                slopes += slope_B.tolist()
            else:
                u_F = torch.from_numpy(direction(zo.distribution, len(theta_F), rng))

                def loss_at(length, u_F=u_F, group=group, saved=saved):
                    restore_buffers(c.net, saved)
                    fill(params, theta_F + length * u_F)
                    return mean(losses_of(group)[0])

                slopes.append(slope_along(loss_at, mean(base)))
                gradient_F += (scale * slopes[-1] / (q * len(groups))) * u_F  # Eq. 2
        fill(params, theta_F)
        restore_buffers(c.net, saved)
    if zo.normalise and np.std(slopes) >= 1e-12:
        gradient_F.div_(float(np.std(slopes)))
    gradient = torch.cat([gradient_F, exact]) if detached else gradient_F
    return gradient, together(activations), torch.cat([y for _, y in pieces])


def mean(losses):
    """Float64 mean over all the pieces' samples: each piece summed by itself, then the pieces in order."""
    return sum(total(each) for each in losses) / sum(map(len, losses))


def added(total, more):
    return more if total is None else total.add_(more)


def moving(c, modules):
    """Their parameters that the optimiser moves."""
    moved = {id(p) for p in c.params}
    return [p for module in modules for p in module.parameters() if id(p) in moved]


def exact_stages(run, c):
    """The front's last stages that have an exact gradient, and the head."""
    front, head = c.net["front"], c.net["auxiliary"]
    exact = run.method.zo.exact_stages
    return [*(front.get_submodule(name) for name in list(front._rows)[-exact:]), head] if exact else [head]


def exact_gradient(run, c, x, z, y):
    """That of the batch's mean loss: the head's own on detached activations, or that of stages from their input on."""
    *stages, head = exact_stages(run, c)
    own = moving(c, (*stages, head))
    saved = kept_buffers(c.net)
    if stages:
        with torch.no_grad():
            (given,) = x
            for name in list(c.net["front"]._rows)[: -len(stages)]:
                given = c.net["front"].get_submodule(name)(given.clone())
    for p in own:
        p.requires_grad_(True)
    if stages:
        for stage in stages:
            given = stage(given)
        z = (given,)
    loss = run.client_losses(c, head(*z), y).sum() / run.method.batch_size
    gradient = flat(torch.autograd.grad(loss, own))
    for p in own:
        p.requires_grad_(False)
    restore_buffers(c.net, saved)
    return gradient


def block_slopes(run, c, theta_F, params, group, path, slope_along, base, gradient_F):
    """Slopes of one direction for each stage in turn; a probe begins with the stage's input at the base point."""
    zo, front, head = run.method.zo, c.net["front"], c.net["auxiliary"]
    stages = [front.get_submodule(name) for name in front._rows] + [head]
    inputs = []  # of each stage, for each piece
    kept = kept_buffers(c.net)
    with torch.no_grad():
        for _, (x, _) in group:
            inputs.append(list(x))
            for stage in stages[:-1]:
                inputs[-1].append(stage(inputs[-1][-1].clone()))
    owned = {id(p) for p in params}
    sizes = [sum(p.numel() for p in stage.parameters() if id(p) in owned) for stage in stages]
    slopes, start, block = [], 0, 0
    for number, size in enumerate(sizes):
        if not size:
            continue
        rng = generator(run.seed, *path, "block", block)
        u = torch.from_numpy(direction(zo.distribution, size, rng))
        part = slice(start, start + size)

        def loss_at(length, number=number, part=part, u=u):
            restore_buffers(c.net, kept)
            probe = theta_F.clone()
            probe[part] = theta_F[part] + length * u
            fill(params, probe)
            losses = []
            for before, (_, (_, y)) in zip(inputs, group, strict=True):
                z = before[number].clone()
                with torch.no_grad():
                    for stage in stages[number:]:
                        z = stage(z)
                    losses.append(run.client_losses(c, z, y))
            return mean(losses)

        slope = slope_along(loss_at, base)
        scale = float(size) if zo.distribution == "sphere" else 1.0
        gradient_F[part] += (scale * slope / zo.num_directions) * u
        slopes.append(slope)
        fill(params, theta_F)
        start, block = start + size, block + 1
    restore_buffers(c.net, kept)
    return slopes


@contextmanager
def own_parameters(c, params, theta_BF):
    """Each sample's own scale and shift, applied to what the layer gives with scale 1 and shift 0; an adapter's own
    matrix."""
    where = {id(p): values for p, values in zip(params, theta_BF.split([p.numel() for p in params], 1), strict=True)}
    hooks = []
    for name, layer in c.net["front"].named_modules():
        scale, shift = (where.get(id(getattr(layer, n, None))) for n in ("weight", "bias"))
        if scale is None and shift is None:
            continue

        if name.startswith("embedding.") or "lora_" in name:
            own = scale.reshape(-1, *layer.weight.shape).contiguous()
            hooks.append(
                layer.register_forward_hook(lambda at, x, out, own=own: at.inner(x[0]) @ own.transpose(1, 2))
            )
            continue

        def apply(_layer, _inputs, out, scale=scale, shift=shift):
            places = (1,) * (out.dim() - 2)
            if scale is not None:
                out = out * scale.reshape(*scale.shape, *places)
            return out if shift is None else out + shift.reshape(*shift.shape, *places)

        hooks.append(layer.register_forward_hook(apply))
        if scale is not None:
            layer.weight.fill_(1)
        if shift is not None:
            layer.bias.fill_(0)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
