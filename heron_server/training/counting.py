"""What one evaluated batch counts: by the back that is evaluated, by the trained one beside it, by the head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heron_core.measures import Measured
from heron_core.models.split_model import SplitModel, Tensors
from heron_server.metrics.counts import Counts


def count(
    model: SplitModel, trained: nn.Module, averaged: nn.Module | None, head: nn.Module | None, activations: Tensors,
    labels_B: Tensor,
) -> Counts:  # fmt: skip
    """One batch, without a graph. Where there is an averaged back, the figures are its, and `trained` stands beside."""
    task, classes = model.task, model.classes
    trained.eval()
    outputs = trained(*activations)
    trained.train()
    beside: Measured = {}
    if averaged is not None:
        beside, outputs = task.measure(outputs, labels_B), averaged(*activations)
    return Counts(
        samples=len(labels_B),
        measured=task.measure(outputs, labels_B),
        auxiliary={} if head is None else task.measure(head(*activations), labels_B),
        trained=beside,
        loss_sum=float(task.losses(outputs, labels_B).double().sum()),
        class_counts=torch.bincount(labels_B.cpu(), minlength=classes).tolist() if classes else None,
    )
