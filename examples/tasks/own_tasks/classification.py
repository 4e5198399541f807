"""One class for each sample: is a tumour benign?

The data are real: 569 samples of 30 measurements (Breast Cancer Wisconsin), which scikit-learn carries.
"""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from heron_core.models import CutModule
from heron_core.models.tasks.classification import Classification


def model(width: int = 32) -> CutModule:
    """An ordinary network and the submodule to cut after; Heron adds the auxiliary head."""

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Sequential(nn.Linear(30, width), nn.LayerNorm(width), nn.ReLU()),
            nn.Sequential(nn.Linear(width, 64), nn.ReLU()),
            nn.Linear(64, 2),
        )

    return CutModule(network, cut="0", input_shape=(30,), task=Classification(classes=2))


def samples(part: int, parts: int = 2) -> Dataset[tuple[torch.Tensor, ...]]:
    """Pairs (x float32 [30], class 0 or 1): every `parts`-th sample from `part` on, standardised by itself."""
    x, labels = load_breast_cancer(return_X_y=True)
    x, labels = x[part::parts], labels[part::parts]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(labels).long())
