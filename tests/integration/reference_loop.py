"""HERON-SFL as one plain loop, written from the paper (arXiv 2601.09076).

It shares models, data and random streams with the product, and no training code.

theta: the client parameters as one flat vector, in the modules' own order.
"""

from __future__ import annotations

import numpy as np
import torch
from integration.reference_rules import Rule

from heron_core import data
from heron_core.data.batches import batch_indices
from heron_core.models import build_split_model
from heron_core.models.digest import state_sha256
from heron_core.models.split_model import ClientModel
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import direction, generator, seeded_torch


def flat(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def fill(net, theta):
    """Into the modules' own aligned memory: a view of theta would change a kernel's last bits."""
    for p, piece in zip(net.parameters(), theta.split([p.numel() for p in net.parameters()]), strict=True):
        p.copy_(piece.view_as(p))


def make_optimizer(spec, params):
    if spec.name == "sgd":
        return torch.optim.SGD(params, lr=spec.lr, momentum=spec.momentum, foreach=False)
    return torch.optim.Adam(params, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, foreach=False)


def reference_run(spec: RunSpec, folder=None) -> str:
    """Runs every round of `spec` and returns the final model's SHA-256."""
    torch.set_num_threads(1)
    model, method, zo, N = build_split_model(spec.model), spec.method, spec.method.zo, spec.federation.clients
    experiment = data.load_experiment(spec.data, spec.seed, folder)
    shares = [data.client_share(experiment, spec.data, spec.seed, i, N) for i in range(N)]
    net = ClientModel(model.build("front", spec.seed), model.build("auxiliary", spec.seed)).train()
    for p in net.parameters():
        p.requires_grad_(False)
    back = model.build("back", spec.seed).train()
    server = make_optimizer(spec.server_optimizer, list(back.parameters()))
    state = {n: t.clone() for n, t in net.state_dict().items()}
    rows = method.micro_batch_rows

    def forward(x, y, round_, i, m, piece):
        """Base or perturbed, the same masks: sum of the losses, and the smashed activations."""
        last = model.channels_last and x.ndim == 4
        images = torch.empty(x.shape, memory_format=torch.channels_last if last else torch.contiguous_format)
        with torch.no_grad(), seeded_torch(spec.seed, "round", round_, "client", i, "step", m, "masks", piece):
            z = net.front(images.copy_(torch.from_numpy(x)))
            loss = model.task.losses(net.auxiliary(z), torch.from_numpy(y))
        return float(loss.numpy().astype(np.float64).sum()), z

    for round_ in range(1, spec.rounds + 1):
        local = [{"state": state, "theta": None, "rule": None} for _ in range(N)]  # 1. broadcast
        for m in range(method.local_steps):  # 2. local steps, 3. server steps as the uploads come in rank order
            for i, c in enumerate(local):
                net.load_state_dict(c["state"])
                if c["theta"] is None:
                    c["theta"] = flat(net)
                    c["rule"] = Rule(method.optimizer, len(c["theta"]))
                theta = c["theta"]
                position = (round_ - 1) * method.local_steps + m
                (x,), y = shares[i].batch(batch_indices(spec.seed, i, position, len(shares[i]), method.batch_size))
                pieces = [(x[a : a + rows], y[a : a + rows]) for a in range(0, len(y), rows)]
                base = [forward(px, py, round_, i, m, k) for k, (px, py) in enumerate(pieces)]
                l0 = sum(s for s, _ in base) / len(y)
                buffers = {n: b.clone() for n, b in net.named_buffers()}
                if method.name == "heron":
                    g, d = torch.zeros_like(theta), theta.numel()
                    scale = float(d) if zo.distribution == "sphere" else 1.0
                    for j in range(zo.num_directions):
                        rng = generator(spec.seed, "round", round_, "client", i, "step", m, "direction", j)
                        u = torch.from_numpy(direction(zo.distribution, d, rng))
                        fill(net, theta + zo.mu * u)
                        l1 = sum(forward(px, py, round_, i, m, k)[0] for k, (px, py) in enumerate(pieces)) / len(y)
                        slope = (l1 - l0) / zo.mu
                        if zo.difference == "central":
                            fill(net, theta - zo.mu * u)
                            l2 = sum(forward(px, py, round_, i, m, k)[0] for k, (px, py) in enumerate(pieces)) / len(y)
                            slope = (l1 - l2) / (2 * zo.mu)
                        g += (scale * slope / zo.num_directions) * u  # Eq. 2
                    c["theta"] = c["rule"].step(theta, g)  # Eq. 6
                    fill(net, c["theta"])
                    for n, b in net.named_buffers():
                        b.copy_(buffers[n])
                c["state"] = {n: t.clone() for n, t in net.state_dict().items()}
                if (m + 1) % method.upload_period == 0:
                    z = torch.cat([z for _, z in base]).contiguous()
                    server.zero_grad()
                    upload = m // method.upload_period
                    with seeded_torch(spec.seed, "server", "round", round_, "client", i, "step", upload):
                        model.task.losses(back(z), torch.from_numpy(y)).mean().backward()  # Eq. 7
                    server.step()
        for name, first in state.items():  # 4. aggregation, Eq. 8
            if first.is_floating_point():
                weights = [1.0 / N] * N
                if spec.federation.aggregation == "samples":
                    weights = [len(s) / sum(map(len, shares)) for s in shares]
                total = sum(c["state"][name].double() * w for c, w in zip(local, weights, strict=True))
                state = {**state, name: total.float()}
            else:
                state = {**state, name: torch.stack([c["state"][name] for c in local]).amax(0)}
    named = {f"client.{n}": t for n, t in state.items()} | {f"back.{n}": t for n, t in back.state_dict().items()}
    return state_sha256({n: t.detach().numpy() for n, t in named.items()})
