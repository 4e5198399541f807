"""scikit-learn's handwritten digits: 1,797 real 8x8 images, read from its file without importing it.

Importing sklearn would bring scipy and some 60 MiB.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import TensorSpec
from heron_core.data.contract import InputContract, of_pixels
from heron_core.data.sensor import Half, Sensor
from heron_core.data.source import ArraySource
from heron_core.errors import DataError
from heron_core.streams import generator

INPUT_SHAPE = (1, 8, 8)
CLASSES = 10
BRIGHTEST = 16
INSTALL = 'pip install "heron-sfl[demo]"'


def contract(spec: TensorSpec) -> InputContract:
    """How its pixels, which scikit-learn counts in 0..16, become the model's input."""
    return of_pixels(spec, "digits", divide=float(BRIGHTEST), note="grey in 0..16")


def load(sensor: Sensor | None = None) -> tuple[ArraySource, ArraySource]:
    """(train, test): 1,437 and 360 samples, x float32 [1, 8, 8] in 0..1; the same split for every seed.

    Raises DataError if scikit-learn is not installed or its file is not what it was.
    """
    table = _read(_file())
    x = (table[:, :64].astype(np.float32) / np.float32(BRIGHTEST)).reshape(-1, *INPUT_SHAPE)
    labels = table[:, 64].astype(np.int64)
    train, test = _split(labels)
    halves: dict[Half, NDArray[np.int64]] = {"train": train, "test": test}
    seen = [
        ArraySource(x[rows], labels[rows], transform=sensor.of(half) if sensor else None)
        for half, rows in halves.items()
    ]
    return seen[0], seen[1]


def _file() -> Path:
    spec = importlib.util.find_spec("sklearn")  # finds the folder; a top-level name is not imported for it
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"source digits reads scikit-learn's data file, which is not installed; {INSTALL}")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"scikit-learn is installed without {path}; reinstall it with {INSTALL}")
    return path


def _read(path: Path) -> NDArray[np.uint8]:
    """uint8 [1797, 65]: 64 pixels in 0..16, then the label."""
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); reinstall scikit-learn with {INSTALL}") from None
    if table.shape != (1797, 65) or table[:, :64].max() > 16 or table[:, 64].max() >= CLASSES:
        raise DataError(
            f"{path} must hold 1797 rows of 64 pixels in 0..16 and a label in 0..9, got {table.shape}; "
            f"reinstall scikit-learn with {INSTALL}"
        )
    return table


def _split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(train, test): each fifth of a permutation sorted by label is for the test: a fifth of each class."""
    order = generator(0, "digits", "split").permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    in_test = np.zeros(len(labels), dtype=np.bool_)
    in_test[by_label[::5]] = True
    return order[~in_test[order]], order[in_test[order]]
