"""Several yes-or-no labels for each sample: what strokes is a handwritten digit made of?

The images are real. The labels are derived: they follow from which digit it is, as it is usually written, and nobody
looked at each image. The model is Heron's own digits_cnn, told in the run file that its outputs are labels.
"""

import torch
from torch.utils.data import Dataset, TensorDataset

from own_tasks.digits import digits

STROKES = {
    "a closed loop": {0, 6, 8, 9},
    "a horizontal bar": {2, 4, 5, 7},
    "a straight stroke down": {1, 4, 7, 9},
    "an open curve": {2, 3, 5, 6, 9},
}


def samples(part: int, parts: int = 2) -> Dataset[tuple[torch.Tensor, ...]]:
    """Pairs (image float32 [1, 8, 8], int64 [4] of 0 or 1 in the order of STROKES): a client's share."""
    images, which = digits()
    labels = [[int(digit in having) for having in STROKES.values()] for digit in which.tolist()]
    return TensorDataset(torch.from_numpy(images[part::parts]), torch.tensor(labels)[part::parts])
