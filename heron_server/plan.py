"""What a run spec will cost: counted, not run. For `heron-server validate`, the uploads' room, and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from heron_core.models.split_model import ClientModel, SplitModel, TensorSpec
from heron_core.run_spec import RunSpec

LABEL_BYTES = 8
FLOAT32_STEP = 2.0**-24
"""Relative rounding error of one float32 operation."""


# -- compute -----------------------------------------------------------------------------------------------------


def forward_macs(module: nn.Module, inputs: Sequence[TensorSpec], rows: int) -> int:
    """Multiply-accumulates of one forward pass over a batch of `rows`, by torch's own counter on one sample."""
    sample = tuple(torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module.eval()(sample[0] if len(sample) == 1 else sample)
    return int(counter.get_total_flops()) // 2 * rows


def forward_passes(spec: RunSpec) -> int:
    """Forward passes of one local step: q + 1, or 2q + 1 with central differences; 1 for a frozen client."""
    if spec.method.name == "frozen":
        return 1
    probes = spec.method.zo.num_directions
    return 1 + probes * (2 if spec.method.zo.difference == "central" else 1)


def client_forward_macs(spec: RunSpec, model: SplitModel) -> dict[str, int]:
    """MACs of one forward pass over one batch of front and auxiliary."""
    rows = spec.method.batch_size
    return {
        "front": forward_macs(model.build("front", spec.seed), (model.input,), rows),
        "auxiliary": forward_macs(model.build("auxiliary", spec.seed), model.activations, rows),
    }


def client_step_macs(spec: RunSpec, model: SplitModel) -> int:
    """MACs of one local step of one client."""
    return sum(client_forward_macs(spec, model).values()) * forward_passes(spec)


# -- parameters --------------------------------------------------------------------------------------------------


def client_parameters(spec: RunSpec, model: SplitModel) -> dict[str, int]:
    """Parameters of each part, those that the clients perturb, and bytes that travel (with buffers)."""
    client = ClientModel(model.build("front", spec.seed), model.build("auxiliary", spec.seed))
    trainable = {n: p for n, p in client.named_parameters() if model.trainable(n)}
    travels = {**trainable, **dict(client.named_buffers())}
    return {
        "front": sum(p.numel() for p in client.front.parameters()),
        "auxiliary": sum(p.numel() for p in client.auxiliary.parameters()),
        "back": sum(p.numel() for p in model.build("back", spec.seed).parameters()),
        "perturbed": sum(p.numel() for p in trainable.values()),
        "state_bytes": sum(t.numel() * t.element_size() for t in travels.values()),
        "front_bytes": sum(p.numel() * p.element_size() for n, p in trainable.items() if n.startswith("front.")),
    }


@dataclass(frozen=True)
class Perturbation:
    """What mu * u means for a client of d perturbed parameters."""

    size: int
    """d: perturbed parameters."""
    rms: float
    """Change per weight, root mean square."""
    length: float
    """Of the whole change mu * u (its root mean square where u is not on the sphere)."""
    rounding: float
    """Share of the loss difference that float32 rounding makes up, for a gradient of norm 1."""


def perturbation(spec: RunSpec, perturbed: int, classes: int) -> Perturbation:
    """On the sphere |mu u| = mu, so mu / sqrt(d) a weight; with unit variance mu a weight, so mu sqrt(d) in all.

    Along a random direction the loss changes by about rms * |gradient|. Each of the batch's losses, about ln(classes),
    is rounded to float32; the mean over B of them averages that by sqrt(B).
    """
    zo, root = spec.method.zo, sqrt(max(1, perturbed))
    rms = zo.mu / root if zo.distribution == "sphere" else zo.mu
    rounding = FLOAT32_STEP * float(np.log(max(2, classes))) / sqrt(spec.method.batch_size)
    return Perturbation(perturbed, rms, rms * root, rounding / rms)


# -- bytes -------------------------------------------------------------------------------------------------------


def activation_bytes(spec: RunSpec, model: SplitModel) -> int:
    """Bytes of one upload's activations, without labels."""
    per_sample = sum(prod(s.shape) * np.dtype(s.dtype).itemsize for s in model.activations)
    return spec.method.batch_size * per_sample


def upload_bytes(spec: RunSpec, model: SplitModel) -> int:
    """Bytes of one whole upload: B samples at the cut, and their labels."""
    return activation_bytes(spec, model) + spec.method.batch_size * LABEL_BYTES


def upload_slots(byte_budget: int, step_bytes: int, clients: int) -> int:
    """Whole steps the server holds at once: what the budget allows, and no more than two a client need."""
    return max(2, min(byte_budget // step_bytes, 2 * clients + 2))


def uploads_per_round(spec: RunSpec) -> int:
    """Of one client: every k-th local step; the steps after the last k-th upload nothing."""
    return spec.method.local_steps // spec.method.upload_period


@dataclass(frozen=True)
class Traffic:
    """Payload bytes of one round with all clients."""

    activations_up: int
    labels_up: int
    client_state_up: int
    client_state_down: int

    @property
    def total(self) -> int:
        return self.activations_up + self.labels_up + self.client_state_up + self.client_state_down


def round_traffic(spec: RunSpec, model: SplitModel, state_bytes: int) -> Traffic:
    """What Heron charges: all payload that crosses the wire."""
    clients, batches = spec.federation.clients, spec.federation.clients * uploads_per_round(spec)
    return Traffic(
        batches * activation_bytes(spec, model), batches * spec.method.batch_size * LABEL_BYTES,
        clients * state_bytes, clients * state_bytes,
    )  # fmt: skip


def paper_round_bytes(spec: RunSpec, model: SplitModel, front_bytes: int) -> int:
    """What the paper charges: activations, and the front's weights both ways; no head, buffers or labels.

    The paper's HERON row of its vision table: 20 rounds x (12.207 GiB + 5 clients x 2 x 75,840 x 4 B) = 244.197 GiB.
    """
    clients = spec.federation.clients
    return clients * (uploads_per_round(spec) * activation_bytes(spec, model) + 2 * front_bytes)
