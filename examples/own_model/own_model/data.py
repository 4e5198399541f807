"""Each client's own data: here one part of a real data set that scikit-learn carries, 569 samples of 30 features.

(Breast Cancer Wisconsin, Diagnostic. On real machines each client would read a file of its own.)
"""

import torch
from sklearn.datasets import load_breast_cancer
from torch.utils.data import Dataset, TensorDataset


def measurements(part: int, parts: int = 3) -> Dataset[tuple[torch.Tensor, ...]]:
    """Pairs (x float32 [30], label 0 or 1): every `parts`-th sample from `part` on, standardised by itself."""
    x, labels = load_breast_cancer(return_X_y=True)
    x, labels = x[part::parts], labels[part::parts]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(labels).long())
