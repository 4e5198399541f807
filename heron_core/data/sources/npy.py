"""A user's folder with `x.npy` [N, *input_shape] and `y.npy` [N], for data larger than memory: x stays on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from heron_core.arrays import HEADERS, Array, TensorSpec
from heron_core.data.source import ArraySource
from heron_core.data.sources.asked import Asked, Options, name_of
from heron_core.data.sources.npz import from_arrays, specs_of_arrays
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.process.memory import need_memory

KEPT = {"float32": ("float32", "uint8"), "int64": ("int64",)}
"""Input dtype of the model -> stored dtypes that are read batch by batch as they are."""


def load_npy(asked: Asked) -> ArraySource:
    """As an .npz with the same arrays; options `x` and `y` name other files. float32, uint8 and int64 stay on the disk,
    and NaN or Inf is refused in its batch. Raises DataError, also where another x does not fit into memory."""
    path, spec = asked.given_path(), asked.one_input()
    asked.takes_options("x", "y")
    x, y = read_npy(path, asked.options)
    stays = x.dtype.name in KEPT.get(spec.dtype, ())
    if not stays:
        need_memory(x.size * np.dtype(spec.dtype).itemsize, f"{path}: x of {x.dtype}, made {spec.dtype},", "save it so")
    return from_arrays(path, x, y, spec, asked.labels, skip_bad=stays or asked.skip_bad)


def npy_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What the arrays of the folder are. Raises DataError."""
    return specs_of_arrays(*read_npy(path, options))


def read_npy(path: Path, options: Options) -> tuple[Array, Array]:
    """x, mapped from its file, and y, in memory. Raises DataError."""
    x, y = (path / f"{name_of(options, key)}.npy" for key in ("x", "y"))
    if missing := [file for file in (x, y) if not file.is_file()]:
        raise DataError(
            f"no file at {missing[0]}; numpy.save it there, or set data.path, or its name in data.options (x, y)"
        )
    return _read(x, "r"), _read(y, None)


def _read(file: Path, mmap_mode: Literal["r"] | None) -> Array:
    try:
        with HEADERS:
            found: Array = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} is not a readable .npy of a plain array ({error}); save it with numpy.save") from None
    return found
