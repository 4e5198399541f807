"""The other systems of arXiv 2601.09076 (Table I) as plain loops, one function each: the final model's SHA-256."""

from __future__ import annotations

import torch
from integration.reference_align import Buffers, align
from integration.reference_parts import Run, average, cut, flat, floating, together


def backpropagation(run, c, round_, m, inner):
    """Gradient [D] of the batch's mean loss through the front and `inner`, piece by piece; activations and labels."""
    gradient, activations, labels = None, [], []
    for p in c.params:
        p.requires_grad_(True)
    for k, (x, y) in enumerate(run.pieces(c.rank, round_, m)):
        with run.masks(c.rank, round_, m, k):
            z = cut(c.net["front"], x)
            loss = run.client_losses(c, c.net[inner](*z), y).sum() / run.method.batch_size
        piece = flat(torch.autograd.grad(loss, c.params))
        gradient = piece if gradient is None else gradient.add_(piece)
        activations.append([t.detach() for t in z])
        labels.append(y)
    return gradient, together(activations), torch.cat(labels)


def cse_fsl(spec, folder=None, shares=None):
    """Backpropagation of the local auxiliary loss; no gradient comes back."""
    run, both = Run(spec, folder, shares), ("front", "auxiliary")
    state = run.initial(*both)
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=both, moves=both)
        for m in range(run.method.local_steps):
            for c in clients:
                gradient, z, y = backpropagation(run, c, round_, m, "auxiliary")
                c.step(gradient)
                if run.uploading(m):
                    run.serve(run.sent(z, c.rank, round_, m), y, c.rank, round_, m)
            run.served(round_, m)
        state = run.aggregate(clients, *both)
    return run.sha256(state)


def fsl_sage(spec, folder=None, shares=None):
    """The same through a head of the client's own, which only the server moves: it aligns it with its gradients."""
    run, buffers = Run(spec, folder, shares), Buffers(spec)
    state = run.initial("front")
    heads = [run.model.build("auxiliary", spec.seed).train() for _ in range(run.N)]
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=("front", "auxiliary"), moves=("front",))
        for c in clients:
            c.net["auxiliary"].load_state_dict(heads[c.rank].state_dict())
        for m in range(run.method.local_steps):
            for c in clients:
                gradient, z, y = backpropagation(run, c, round_, m, "auxiliary")
                c.step(gradient)
                if run.uploading(m):
                    z = run.sent(z, c.rank, round_, m)
                    run.serve(z, y, c.rank, round_, m)
                    buffers.add(c.rank, z, y)
            run.served(round_, m)
        state = run.aggregate(clients, "front")
        if round_ % run.method.alignment.every_rounds == 0:
            for rank, uploads in buffers.by_rank():
                align(run, round_, rank, heads[rank], uploads)
    return run.sha256(state)


def up_to_cut(run, c, round_, m):
    """A client's activations with their graph, and the labels."""
    for p in c.params:
        p.requires_grad_(True)
    [(x, y)] = run.pieces(c.rank, round_, m)
    with run.masks(c.rank, round_, m, 0):
        return cut(c.net["front"], x), y


def below_cut(c, z, gradients_at_cut):
    """The client's step on what came down."""
    gradients = [g.contiguous() for g in gradients_at_cut]
    c.step(flat(torch.autograd.grad(floating(z), c.params, grad_outputs=gradients)))


def with_cut_gradient(run, c, round_, m, back, rule):
    """One step of client and server together: activations up, the loss's gradient at the cut down."""
    z, y = up_to_cut(run, c, round_, m)
    below_cut(c, z, run.serve(run.sent(z, c.rank, round_, m), y, c.rank, round_, m, back, rule))


def with_mixed_gradients(run, clients, round_, m):
    """One step of all clients: activations up from everyone, and each one's own rows of the gradients down."""
    sent = [up_to_cut(run, c, round_, m) for c in clients]
    for c, (z, y) in zip(clients, sent, strict=True):
        run.serve(run.sent(z, c.rank, round_, m), y, c.rank, round_, m)
    for c, (z, _), gradients in zip(clients, sent, run.served(round_, m), strict=True):
        below_cut(c, z, gradients)


def sflv2(spec, folder=None, shares=None):
    """One server model for all clients, stepped by one after the other."""
    run = Run(spec, folder, shares)
    state = run.initial("front")
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=("front",), moves=("front",))
        for m in range(run.method.local_steps):
            if run.method.mixing:
                with_mixed_gradients(run, clients, round_, m)
                continue
            for c in clients:
                with_cut_gradient(run, c, round_, m, run.back, run.server)
        state = run.aggregate(clients, "front")
    return run.sha256(state)


def sflv1(spec, folder=None, shares=None):
    """A copy of the server model for each client, averaged each round like the clients'; their moments are not."""
    run = Run(spec, folder, shares)
    state, copies = run.initial("front"), [run.make_back() for _ in range(run.N)]
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=("front",), moves=("front",))
        for m in range(run.method.local_steps):
            for c in clients:
                with_cut_gradient(run, c, round_, m, *copies[c.rank])
        state = run.aggregate(clients, "front")
        chosen = [(copies[c.rank][0], w) for c, w in zip(clients, run.weights, strict=True) if w]
        common = average([back.state_dict() for back, _ in chosen], [w for _, w in chosen])
        for back, _ in copies:
            back.load_state_dict(common)
    return run.sha256(state, copies[0][0])


def fedavg(spec, folder=None, shares=None):
    """The whole model on the client; nothing but weights travels."""
    run, both = Run(spec, folder, shares), ("front", "back")
    state = run.initial(*both)
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=both, moves=both)
        for c in clients:
            for m in range(run.method.local_steps):
                gradient, _, _ = backpropagation(run, c, round_, m, "back")
                c.step(gradient)
        state = run.aggregate(clients, *both)
    run.back.load_state_dict({n.removeprefix("back."): t for n, t in state.items() if n.startswith("back.")})
    return run.sha256(state)


def frozen(spec, folder=None, shares=None):
    """The control: no client ever learns; with BatchNorm it may still update its running statistics."""
    run, both = Run(spec, folder, shares), ("front", "auxiliary")
    state = run.initial(*both)
    for round_ in range(1, spec.rounds + 1):
        clients = run.begin(round_, state, parts=both, moves=())
        for m in range(run.method.local_steps):
            for c in clients:
                c.net["front"].train(run.method.running_statistics == "update")
                pieces, activations = run.pieces(c.rank, round_, m), []
                for k, (x, _) in enumerate(pieces):
                    with torch.no_grad(), run.masks(c.rank, round_, m, k):
                        activations.append(cut(c.net["front"], x))
                if run.uploading(m):
                    z = run.sent(together(activations), c.rank, round_, m)
                    run.serve(z, torch.cat([y for _, y in pieces]), c.rank, round_, m)
            run.served(round_, m)
        state = run.aggregate(clients, *both)
    return run.sha256(state)
