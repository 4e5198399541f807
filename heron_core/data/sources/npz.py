"""A user's `.npz` with `x` [N, *input_shape] and `y` [N]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.source import OWN_PIXELS, ArraySource
from heron_core.data.sources.asked import Asked, Options
from heron_core.errors import DataError
from heron_core.labels import LabelSpec


def load_npz(asked: Asked) -> ArraySource:
    """The samples of the file's x and y, as `from_arrays` takes them. Raises DataError, also for a file or name that
    cannot be used."""
    path, inputs = asked.given_path(), asked.one_input()
    asked.takes_options()
    return from_arrays(path, *read_npz(path), inputs, asked.labels)


def from_arrays(path: Path | str, x: Array, y: Array, inputs: TensorSpec, labels: LabelSpec) -> ArraySource:
    """x float of any width becomes float32 as it is; uint8 is taken for pixels, 0..255 becomes -1..1.

    x: integers where the model takes integers. y: what the task's labels are. `path`: whose they are, for messages.
    Raises DataError for a dtype, shape, count, NaN or Inf that cannot be used.
    """
    y, input_shape = _labels(path, y, labels), inputs.shape
    if x.ndim == 0 or not inputs.has_shape(x.shape[1:]):
        channels_last = len(input_shape) == 3 and x.shape[1:] == (*input_shape[1:], input_shape[0])
        advice = "save x.transpose(0, 3, 1, 2)" if channels_last else "reshape x or change model.input_shape"
        wanted = ", ".join(["N", *map(str, input_shape)])
        raise DataError(f"{path}: x must be [{wanted}], got {list(x.shape)}; {advice}")
    if len(x) != len(y) or len(x) == 0:
        raise DataError(
            f"{path}: x and y must hold the same number of samples, at least one, got {len(x)} and {len(y)}; "
            "save both again"
        )
    if inputs.dtype == "int64":
        if x.dtype.kind not in "iu":
            raise DataError(f"{path}: x must be integers, as the model takes them, got {x.dtype}; save it so")
        return ArraySource(x.astype(np.int64), y)
    if x.dtype == np.uint8:
        return ArraySource(x, y, OWN_PIXELS)
    if x.dtype.kind != "f":
        raise DataError(f"{path}: x must be floating point or uint8, got {x.dtype}; save x.astype(numpy.float32)")
    return ArraySource(_finite(path, x), y)


def npz_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What the arrays of the file are. Raises DataError."""
    x, y = read_npz(path)
    return (TensorSpec("x", x.shape[1:], _kept_as(x)),), LabelSpec(y.shape[1:], _kept_as(y))


def _kept_as(array: Array) -> str:
    """Pixels become floating point, other integers stay."""
    return "int64" if array.dtype.kind in "iub" and array.dtype != np.uint8 else "float32"


def _labels(path: Path | str, y: Array, labels: LabelSpec) -> Array:
    """y as the task's labels: floats of any width where it wants floats, one number a sample as a vector of one."""
    if labels.shape == ():
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise DataError(f"{path}: y must be integers [N], got {y.dtype} {list(y.shape)}; save class numbers from 0")
        return y
    if labels.shape == (1,) and y.ndim == 1:
        y = y[:, None]
    kinds = "f" if labels.dtype == "float32" else "iub"
    if y.ndim == 0 or y.dtype.kind not in kinds or not labels.tensor.has_shape(y.shape[1:]):
        raise DataError(f"{path}: y must be {labels} for each sample, got {y.dtype} {list(y.shape[1:])}; save it so")
    return y.astype(labels.dtype)


def read_npz(path: Path) -> tuple[Array, Array]:
    """x and y as they are in the file. Raises DataError."""
    if not path.is_file():
        raise DataError(f"no .npz file at {path}; set data.path in the client's file")
    try:
        # opened here, because np.load forgets to close a torn archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive["x"], archive["y"]
    except KeyError as error:
        raise DataError(f"{path} must hold arrays named x and y: {error.args[0]}; save it with numpy.savez") from None
    except Exception as error:  # zip, the decompressors and NumPy's header each raise their own
        raise DataError(f"{path} is not a readable .npz of plain arrays ({error}); save it with numpy.savez") from error


def _finite(path: Path | str, x: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes Inf, which is found below
        out = x.astype(np.float32, copy=False)
    flat = out.reshape(len(out), -1)
    for i, row in enumerate(flat):
        if not np.isfinite(row).all():
            raise DataError(f"{path}: x must be finite in float32, sample {i} holds NaN or Inf; remove or mend it")
    return out
