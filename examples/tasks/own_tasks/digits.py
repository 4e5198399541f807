"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels, each 0 to 16."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(images in 0 to 1 [N, 1, 8, 8], digits [N])."""
    table = load_digits()
    return (table.images / 16).astype(np.float32)[:, None], table.target.astype(np.int64)
