"""A user's `.npz` with `x` [N, *input_shape] and `y` [N], or what the options `x` and `y` call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import HEADERS, Array, TensorSpec
from heron_core.data.own.cures import input_cure, label_cure, shape_cure
from heron_core.data.source import OWN_PIXELS, ArraySource
from heron_core.data.sources.asked import Asked, Options, name_of
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.process.memory import need_memory

if TYPE_CHECKING:
    from numpy.lib.npyio import NpzFile


class NamedArrays(ArraySource):
    """Samples whose labels may have come as texts, and may say whose they are."""

    class_names: tuple[str, ...] = ()
    """The texts, sorted."""
    groups: Array | None = None
    """One for each sample."""


def load_npz(asked: Asked) -> ArraySource:
    """The samples of the file's x and y, as `from_arrays` takes them. Raises DataError, also for a file or name that
    cannot be used."""
    path, spec = asked.given_path(), asked.one_input()
    asked.takes_options("x", "y")
    return from_arrays(path, *read_npz(path, asked.options), spec, asked.labels, skip_bad=asked.skip_bad)


def from_arrays(
    path: Path | str, x: Array, y: Array, spec: TensorSpec, labels: LabelSpec, *, skip_bad: bool = False
) -> NamedArrays:
    """x float of any width becomes float32 as it is; uint8 is taken for pixels, 0..255 becomes -1..1.

    x: integers where the model takes integers. y: what the task's labels are; classes may be texts, their names.
    `path`: whose they are, for messages. `skip_bad`: NaN and Inf stay in, for whoever takes such samples out. Raises
    DataError for a dtype, shape, count, NaN or Inf that cannot be used.
    """
    names, y = _labels(path, y, labels)
    if x.ndim == 0 or not spec.has_shape(x.shape[1:]):
        wanted = ", ".join(["N", *map(str, spec.shape)])
        raise DataError(f"{path}: x must be [{wanted}], got {list(x.shape)}; {shape_cure(x.shape[1:], spec.shape)}")
    if len(x) != len(y) or len(x) == 0:
        raise DataError(
            f"{path}: x and y must hold the same number of samples, at least one, got {len(x)} and {len(y)}; "
            "save both again"
        )
    source = NamedArrays(_inputs(path, x, spec, skip_bad), y, OWN_PIXELS if _is_pixels(x, spec) else None)
    source.class_names = names
    return source


def _is_pixels(x: Array, spec: TensorSpec) -> bool:
    return x.dtype == np.uint8 and spec.is_floating


def _inputs(path: Path | str, x: Array, spec: TensorSpec, skip_bad: bool) -> Array:
    """x as it is kept: pixels as bytes, other floating point as float32, integers as int64."""
    if _is_pixels(x, spec):
        return x
    wanted = "floating point or uint8" if spec.is_floating else "integers, as the model takes them"
    if x.dtype.kind not in ("f" if spec.is_floating else "iu"):
        raise DataError(f"{path}: x must be {wanted}, got {x.dtype}{_span(x)}; {input_cure(x, spec.dtype)}")
    if not spec.is_floating:
        return x.astype(np.int64)
    return x.astype(np.float32, copy=False) if skip_bad else _finite(path, x)


def _span(x: Array) -> str:
    return f" in {x.min()}..{x.max()}" if x.dtype.kind in "iu" and x.size else ""


def npz_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What the arrays of the file are: pixels become floating point, texts numbers of classes. Raises DataError."""
    return specs_of_arrays(*read_npz(path, options))


def specs_of_arrays(x: Array, y: Array) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What samples of these arrays are; a floating-point label is a vector of one, as regression takes it."""
    is_whole = x.dtype.kind in "iub" and x.dtype != np.uint8
    shape, dtype = y.shape[1:], "int64" if y.dtype.kind in "iubU" else "float32"
    labels = LabelSpec(shape or ((1,) if dtype == "float32" else ()), dtype)
    return (TensorSpec("x", x.shape[1:], "int64" if is_whole else "float32"),), labels


def _labels(path: Path | str, y: Array, labels: LabelSpec) -> tuple[tuple[str, ...], Array]:
    """(class names, if y has them; y as the task's labels). One number a sample is a vector of one if need be."""
    if labels.shape == () and y.ndim == 1 and y.dtype.kind == "U":
        names, places = np.unique(y, return_inverse=True)
        return tuple(map(str, names)), places.astype(np.int64)
    if labels.shape == ():
        if y.ndim != 1 or y.dtype.kind not in "iu":
            cure = label_cure(y, labels.classes)
            raise DataError(f"{path}: y must be integers [N] or texts, got {y.dtype} {list(y.shape)}; {cure}")
        return (), y
    if labels.shape == (1,) and y.ndim == 1:
        y = y[:, None]
    is_number = labels.dtype == "float32"
    if y.ndim == 0 or not labels.tensor.has_shape(y.shape[1:]) or y.dtype.kind not in ("f" if is_number else "iub"):
        cure = "make it y.astype(numpy.float32)" if is_number and y.dtype.kind in "iub" else "save it so"
        raise DataError(f"{path}: y must be {labels} for each sample, got {y.dtype} {list(y.shape[1:])}; {cure}")
    return (), y.astype(labels.dtype)


def read_npz(path: Path, options: Options) -> tuple[Array, Array]:
    """x and y as they are in the file. Raises DataError, before it takes memory that is not there."""
    names = [name_of(options, key) for key in ("x", "y")]
    if not path.is_file():
        raise DataError(f"no .npz file at {path}; set data.path in the client's file, or the server's test_path")
    cure = (
        'name them in data.options (the server\'s in test_options), { x = "...", y = "..." }, or save it anew'
    )
    held = read_members(path, names, cure=cure)
    return held[names[0]], held[names[1]]


def read_members(path: Path, names: Sequence[str], also: Sequence[str] = (), *, cure: str) -> dict[str, Array]:
    """The arrays of these names, and of those in `also` which are there. Raises DataError, before it takes memory that
    is not there; `cure` says what to do where one of `names` is missing."""
    try:
        # opened here, because np.load forgets to close a torn archive
        with path.open("rb") as file, HEADERS, np.load(file, allow_pickle=False) as archive:
            if not set(names) <= set(archive.files):
                wanted = " and ".join(names)
                raise DataError(f"{path} must hold arrays named {wanted}, it has {', '.join(archive.files)}; {cure}")
            taken = [*names, *(name for name in also if name in archive.files)]
            _need_memory(path, archive, taken)
            return {name: archive[name] for name in taken}
    except DataError:
        raise
    except Exception as error:  # zip, the decompressors and NumPy's header each raise their own
        raise DataError(
            f"{path} is not a readable .npz of plain arrays ({error}); save it with numpy.savez, text by astype(str)"
        ) from error


def _need_memory(path: Path, archive: NpzFile, names: Sequence[str]) -> None:
    """For the arrays of these names, whose sizes stand in the archive's table."""
    members = archive.zip.infolist() if archive.zip is not None else []
    wanted = {f"{name}.npy" for name in names}
    sizes = [member.file_size for member in members if member.filename in wanted]
    remedy = 'save x.npy and y.npy in a folder, and set source = "npy", which reads them batch by batch'
    need_memory(sum(sizes), str(path), remedy)


def _finite(path: Path | str, x: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes Inf, which is found below
        out = x.astype(np.float32, copy=False)
    flat = out.reshape(len(out), -1)
    for i, row in enumerate(flat):
        if not np.isfinite(row).all():
            raise DataError(f"{path}: x must be finite in float32, sample {i} holds NaN or Inf; remove or mend it")
    return out
