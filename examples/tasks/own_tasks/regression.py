"""A real number for each sample: how far has a patient's diabetes gone after a year?

The data are real: 442 patients with 10 measurements each, which scikit-learn carries. Every fifth patient is for the
server's test set.
"""

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from heron_core.models import SplitModel, TensorSpec
from heron_core.models.tasks.regression import Regression

MEAN, SPREAD = 152.0, 77.0
"""Of the target, about: the same for every client, so that whoever guesses the mean has an MSE of 1."""


def model(width: int = 32) -> SplitModel:
    """Three factories: what runs on the client, its head, and what runs on the server."""
    return SplitModel(
        front=lambda: nn.Sequential(nn.Linear(10, width), nn.LayerNorm(width), nn.ReLU()),
        auxiliary=lambda: nn.Linear(width, 1),
        back=lambda: nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 1)),
        inputs=(TensorSpec("measurements", (10,)),),
        activations=(TensorSpec("features", (width,)),),
        task=Regression(values=1),
    )


def samples(part: int, parts: int = 2) -> Dataset[tuple[torch.Tensor, ...]]:
    """Pairs (x float32 [10], y float32 []): a client's share of the patients."""
    x, y = _patients()
    mine = [i for i in range(len(y)) if i % 5 and i % parts == part]
    return TensorDataset(x[mine], y[mine])


def test_samples() -> Dataset[tuple[torch.Tensor, ...]]:
    """Every fifth patient."""
    x, y = _patients()
    return TensorDataset(x[::5], y[::5])


def _patients() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_diabetes(return_X_y=True)
    x = x * len(x) ** 0.5  # scikit-learn hands them over with length 1; this makes each of variance 1
    return torch.from_numpy(x).float(), torch.from_numpy((y - MEAN) / SPREAD).float()
