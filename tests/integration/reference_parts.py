"""What the reference loops share: the run's parts, and the small moves that several methods make alike.

Written from arXiv 2601.09076 with plain torch: models, data and random streams are the product's, no training code is.

theta: the parameters that a client moves as one flat vector, in the modules' own order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from integration import reference_aggregation
from integration.reference_rules import Rule, rate
from torch import nn

from heron_core import data
from heron_core.data.batches import batch_indices
from heron_core.models import build_split_model
from heron_core.models.digest import state_sha256
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import generator, seeded_torch
from heron_core.wire.activation_codec import CODECS
from heron_core.wire.activation_codec import floating as floating_specs


def flat(tensors):
    return torch.cat([torch.empty(0), *(t.detach().reshape(-1) for t in tensors)])


def fill(params, theta):
    """Into the parameters' own aligned memory: a view of theta would change a kernel's last bits."""
    with torch.no_grad():
        for p, piece in zip(params, theta.split([p.numel() for p in params]), strict=True):
            p.copy_(piece.view_as(p))


def total(losses):
    """The samples' losses of one piece, summed in float64."""
    return float(losses.detach().numpy().astype(np.float64).sum())


def make_optimizer(spec, params):
    """The server's. (A client's: reference_rules.py.)"""
    if spec.name == "sgd":
        return torch.optim.SGD(params, lr=spec.lr, momentum=spec.momentum, foreach=False)
    return torch.optim.Adam(params, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, foreach=False)


def average(states, weights):
    """A weighted mean in float64, in rank order; counters by maximum.  Eq. 8."""
    return {
        name: sum(s[name].double() * w for s, w in zip(states, weights, strict=True)).float()
        if first.is_floating_point()
        else torch.stack([s[name] for s in states]).amax(0)
        for name, first in states[0].items()
    }


def cut(front, inputs):
    """What the front gives for one batch: always a tuple, of as many tensors as cross the cut."""
    given = front(*inputs)
    return given if isinstance(given, tuple) else (given,)


def together(batches):
    """Several pieces' tensors as one batch's."""
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def leaves(z):
    """The cut's tensors, the floating-point ones such that a gradient can be asked for."""
    return tuple(t.detach().contiguous().requires_grad_() if t.is_floating_point() else t for t in z)


def floating(z):
    return [t for t in z if t.is_floating_point()]


def kept_buffers(net):
    return {n: b.clone() for n, b in net.named_buffers()}


def restore_buffers(net, kept):
    for n, b in net.named_buffers():
        b.copy_(kept[n])


def as_arrays(state):
    return {n: t.numpy() for n, t in state.items()}


class Run:
    """Model, data shares, the server's back and its optimiser."""

    def __init__(self, spec: RunSpec, folder=None, shares=None):
        """`shares`: each rank's own samples, where the clients bring their data."""
        torch.set_num_threads(1)
        self.spec, self.method, self.seed, self.N = spec, spec.method, spec.seed, spec.federation.clients
        self.model = build_split_model(spec.model, data_folder=folder)
        self.shares = shares or self.dealt(folder)
        self.back, self.server = self.make_back()
        self.averaged = {n: t.clone() for n, t in self.back.state_dict().items()}
        self.server_steps = 0
        self.pool = []
        """Uploads that wait for those of the other clients, where batches are mixed."""
        self.kept = {}
        """By rank, of each of its samples: activations as they were sent last, and as the server has them."""
        self.average = {}
        """The Fed-Server's moments of each weight."""
        self.moments = {}
        """Of the clients' optimisers, where they outlive a round: by rank, or under "all"."""

    def dealt(self, folder):
        experiment = data.load_experiment(self.spec.data, self.seed, folder)
        return [data.client_share(experiment, self.spec.data, self.seed, i, self.N) for i in range(self.N)]

    def make_back(self):
        back = self.model.build("back", self.seed).train()
        return back, make_optimizer(self.spec.server_optimizer, list(back.parameters()))

    def participants(self, round_):
        """Ranks that train in this round, drawn by the seed."""
        drawn = generator(self.seed, "participants", "round", round_).permutation(self.N)
        return sorted(int(i) for i in drawn[: self.spec.federation.clients_per_round or self.N])

    def pieces(self, rank, round_, m):
        """The local step's batch as micro-batches of (the model's inputs, labels)."""
        rows = self.method.micro_batch_rows
        xs, y = self.shares[rank].batch(self.numbers(rank, round_, m))
        return [
            (tuple(self.input(x[a : a + rows]) for x in xs), torch.from_numpy(y[a : a + rows]))
            for a in range(0, len(y), rows)
        ]

    def numbers(self, rank, round_, m):
        """Of the local step's samples among the client's."""
        position = (round_ - 1) * self.method.local_steps + m
        return batch_indices(self.seed, rank, position, len(self.shares[rank]), self.method.batch_size)

    def input(self, x):
        """In torch's own aligned memory."""
        x, last = torch.from_numpy(x), self.model.channels_last and x.ndim == 4
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty(x.shape, dtype=x.dtype, memory_format=layout).copy_(x)

    def masks(self, rank, round_, m, piece):
        """The dropout masks of one micro-batch: the same at the base point and at every probe."""
        return seeded_torch(self.seed, "round", round_, "client", rank, "step", m, "masks", piece)

    def client_losses(self, c, outputs, y):
        """Of one micro-batch on the client; its class shares are no part of what it learns."""
        factor = self.method.logit_adjustment
        if not factor:
            return self.model.task.losses(outputs, y)
        labels = self.shares[c.rank].labels
        counts = [int((labels == k).sum()) for k in range(self.model.task.classes)]
        p = [(n + 0.5) / (len(labels) + 0.5 * len(counts)) for n in counts]
        return torch.nn.functional.cross_entropy(
            outputs + torch.tensor([factor * math.log(p_k) for p_k in p]), y, reduction="none"
        )

    def uploading(self, m):
        return (m + 1) % self.method.upload_period == 0

    def sent(self, z, rank, round_, m):
        """A step's activations as the server has them: each micro-batch has been encoded by itself, and decoded."""
        codec, step = CODECS[self.spec.codec.uploads], ("round", round_, "client", rank, "step", m)
        if self.spec.codec.reuse:
            return self.kept_or_sent(z, rank, round_, m, codec, *step, "upload", 0)
        pieces = zip(*(t.split(self.method.micro_batch_rows) for t in z), strict=True)
        return together([
            self.travelled(codec, self.model.activations, piece, *step, "upload", k) for k, piece in enumerate(pieces)
        ])  # fmt: skip

    def kept_or_sent(self, z, rank, round_, m, codec, *path):
        """The same, where samples are sent again only once they have moved: those that have are encoded together."""
        kept, numbers = self.kept.setdefault(rank, {}), self.numbers(rank, round_, m)
        moved = [i for i, n in enumerate(numbers) if n not in kept or self.has_moved([t[i] for t in z], kept[n][0])]
        came = self.travelled(codec, self.model.activations, [t[moved] for t in z], *path)
        for row, i in enumerate(moved):
            kept[numbers[i]] = [t[i].clone() for t in z], [t[row] for t in came]
        return tuple(torch.stack(tensors) for tensors in zip(*(kept[n][1] for n in numbers), strict=True))

    def has_moved(self, now, before):
        """By more than the tolerance, relative to what was sent."""
        now, before = flat(now).numpy(), flat(before).numpy()
        length = np.linalg.norm(before.astype(np.float64))
        return np.linalg.norm((now - before).astype(np.float64)) > self.spec.codec.tolerance * length

    def returned(self, gradients, rank, round_, m):
        """The gradients at the cut as the client has them."""
        codec, path = CODECS[self.spec.codec.cut_gradients], self.upload_path(rank, round_, m)
        return self.travelled(codec, floating_specs(self.model.activations), gradients, *path, "cut_gradients")

    def travelled(self, codec, specs, tensors, *path):
        """Encoded, and decoded."""
        arrays = [t.detach().contiguous().numpy() for t in tensors]
        length = next((a.shape[1] for s, a in zip(specs, arrays, strict=True) if s.variable), 0)
        encoded = codec.encode(arrays, specs, self.seed, *path)
        return [torch.from_numpy(a) for a in codec.decode(encoded, specs, len(arrays[0]), np.empty, length=length)]

    def serve(self, z, y, rank, round_, m, back=None, rule=None):
        """One step on the back from one upload, Eq. 7; the mean loss's gradient at the cut is what it returns."""
        if self.method.mixing:
            self.pool.append((rank, tuple(t.detach() for t in z), y))
            return None
        back, rule = back or self.back, rule or self.server
        z = leaves(z)
        rule.zero_grad()
        with seeded_torch(self.seed, *self.upload_path(rank, round_, m)):
            self.model.task.losses(back(*z), y).mean().backward()
        self.clip(back.parameters())
        self.step_server(rule, round_, m)
        self.average_back(back)
        return self.returned([t.grad for t in floating(z)], rank, round_, m)

    def step_server(self, rule, round_, m):
        """At the rate of this upload's place among all that one client sends in the run."""
        uploads = self.method.local_steps // self.method.upload_period
        t = (round_ - 1) * uploads + m // self.method.upload_period
        rule.param_groups[0]["lr"] = rate(self.spec.server_optimizer, t, self.spec.rounds * uploads)
        rule.step()

    def average_back(self, back):
        """The exponential moving average over the server's steps, its decay warming up; running statistics as well."""
        self.server_steps += 1
        n = self.server_steps
        for name, theta in back.state_dict().items():
            e = self.averaged[name]
            if theta.is_floating_point():
                e += (1 - min(self.spec.averaged_back.decay, (1 + n) / (10 + n))) * (theta - e)
            else:
                e.copy_(theta)

    def served(self, round_, m, head=None, head_rule=None):
        """Where batches are mixed: the steps on what all clients have uploaded. For each, its gradients at the cut."""
        from integration.reference_mixing import train_on_pool

        pool, self.pool = self.pool, []
        returned = train_on_pool(self, pool, round_, m, head, head_rule) if pool else []
        return [self.returned(g, rank, round_, m) for (rank, _, _), g in zip(pool, returned, strict=True)]

    def clip(self, params):
        """No upload's gradient is longer than the bound, if there is one."""
        gradients, bound = [p.grad for p in params if p.grad is not None], self.spec.guard.clip_gradient
        norms = torch.stack([torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients])
        norm = float(torch.linalg.vector_norm(norms))
        if bound and norm > bound:
            for g in gradients:
                g *= bound / norm

    def upload_path(self, rank, round_, m):
        return ("server", "round", round_, "client", rank, "step", m // self.method.upload_period)

    def initial(self, *parts):
        """What the Fed-Server averages of these parts, as the seed makes it."""
        return Client(self, 0, parts, parts).state(*parts)

    def begin(self, round_, state, parts, moves):
        """The round's clients, with this state and the moments that outlived the last round."""
        clients = [Client(self, rank, parts, moves) for rank in self.participants(round_)]
        for c in clients:
            c.net.load_state_dict(state, strict=False)
            fill([c.theta], flat(c.params))
            c.begun = c.theta.clone()
            c.start = {n: t.clone() for n, t in state.items()}
            c.steps = (round_ - 1) * self.method.local_steps
            key = c.rank if self.method.moments == "kept" else "all"
            if key in self.moments:
                c.rule.load(self.moments[key])
        return clients

    def aggregate(self, clients, *parts):
        """The new client state; the moments are put by for the next round. `self.weights`: the clients' part in it."""
        moments = [{f"moments.{n}": t for n, t in c.rule.moments().items()} for c in clients]
        states = [c.state(*parts) for c in clients]
        if self.method.moments == "averaged":
            states = [{**state, **own} for state, own in zip(states, moments, strict=True)]
            started = {f"moments.{n}": t for n, t in self.moments.get("all", self.no_moments(clients)).items()}
        else:
            started = {}
        if self.method.moments == "kept":
            self.moments |= {c.rank: c.rule.moments() for c in clients}
        new, self.weights = reference_aggregation.aggregate(
            self.spec.federation, [as_arrays(state) for state in states],
            as_arrays({**clients[0].started(*parts), **started}), [len(self.shares[c.rank]) for c in clients],
            {n for n, _ in clients[0].net.named_buffers()},
            reference_aggregation.reach_of(self.method.optimizer),
        )  # fmt: skip
        if self.spec.federation.server_average.name != "plain":
            weights = {n: t for n, t in new.items() if n in clients[0].trainable}
            start = as_arrays(clients[0].start)
            new |= reference_aggregation.optimised(self.spec.federation.server_average, weights, start, self.average)
        new = {n: torch.from_numpy(np.array(t)) for n, t in new.items()}
        if started:
            self.moments["all"] = {n: new[f"moments.{n}"] for n in clients[0].rule.moments()}
        return {n: t for n, t in new.items() if not n.startswith("moments.")}

    def no_moments(self, clients):
        """As every client has them at the start of the run."""
        return Rule(self.method.optimizer, len(clients[0].theta)).moments()

    def sha256(self, client_state, back=None):
        back = (back or self.back).state_dict()
        named = {f"client.{n}": t for n, t in client_state.items()} | {f"back.{n}": t for n, t in back.items()}
        if self.spec.averaged_back.decay:
            named |= {f"averaged.back.{n}": t for n, t in self.averaged.items()}
            named["averaged.steps"] = torch.tensor(self.server_steps)
        return state_sha256({n: t.detach().numpy() for n, t in named.items()})


class Client:
    """One client in one round: its modules, theta and its optimiser, whose moments begin at zero."""

    def __init__(self, run, rank, parts, moves):
        self.rank = rank
        self.net = nn.ModuleDict({part: run.model.build(part, run.seed) for part in parts}).train()
        self.net.requires_grad_(False)
        self.trainable = {n: p for n, p in self.net.named_parameters() if run.model.trainable(n)}
        self.params = [p for n, p in self.trainable.items() if n.partition(".")[0] in moves]
        self.theta = flat(self.params)
        self.rule = Rule(run.method.optimizer, len(self.theta))
        self.run, self.steps, self.begun = run, 0, self.theta.clone()

    def step(self, gradient):
        """Eq. 6; counts the local steps of the run, which the learning rate goes by."""
        lr = rate(self.run.method.optimizer, self.steps, self.run.spec.rounds * self.run.method.local_steps)
        if self.run.method.proximal:
            gradient = gradient + self.run.method.proximal * (self.theta - self.begun)
        self.theta = self.rule.step(self.theta, gradient, lr)
        self.steps += 1
        fill(self.params, self.theta)

    def started(self, *parts):
        """The same as the client had them when the round began."""
        return {n: self.start[n] for n in self.state(*parts)}

    def state(self, *parts):
        """Copies of these parts' trainable parameters and learned buffers."""
        named = {**self.trainable, **self.run.model.learned_buffers(self.net)}
        return {n: t.detach().clone() for n, t in named.items() if n.partition(".")[0] in parts}
