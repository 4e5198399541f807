"""What a user does about values of the wrong kind, as an expression to copy: its result is what other clients have.

Each expression is followed once in `tests/core/data/own/test_cures.py`.
"""

from __future__ import annotations

from math import prod

import numpy as np

from heron_core.arrays import Array

BYTE, TWELVE_BITS, SIXTEEN_BITS = 255, 4095, 65535


def input_cure(x: Array, dtype: str, name: str = "x") -> str:
    """How `x`, of a dtype that cannot be taken, becomes what the model takes as `dtype`; `name` is what to call it."""
    if x.dtype.kind in "USO":
        return f"numbers are wanted: encode the text in {name}, or keep it in a CSV file, whose columns may hold text"
    if x.dtype.kind not in "buif":
        return f"{name} must hold numbers"
    if dtype != "float32":
        return f"make it {name}.astype(numpy.{dtype})" if _is_whole(x) else "the model takes whole numbers, such as ids"
    plain = f"{name}.astype(numpy.float32)"
    if x.dtype.kind == "f":
        return f"make it {plain}"
    pixels = _pixels(x, name)
    if pixels is None:
        return f"make it {plain}, on one scale for all clients"
    return (
        f"pixels: make it {pixels}, which is what uint8 pixels become; other numbers: {plain}, on one scale for all "
        "clients"
    )


def _pixels(x: Array, name: str) -> str | None:
    """The expression that gives -1..1, as for uint8; None for numbers that cannot be pixels."""
    if x.dtype.kind == "b":
        return f"(2.0 * {name} - 1).astype(numpy.float32)"
    low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    if low < 0 or high > SIXTEEN_BITS:
        return None
    white = BYTE if high <= BYTE else SIXTEEN_BITS
    said = f"(({name} / {white} - 0.5) / 0.5).astype(numpy.float32)"
    if white == BYTE or high > TWELVE_BITS:
        return said
    return f"{said} (where white is {white}; put what it is instead, such as {TWELVE_BITS} for 12 bits)"


def shape_cure(shape: tuple[int, ...], wanted: tuple[int, ...], name: str = "x") -> str:
    """How samples of `shape` get the shape that the model takes: of all samples at once, or of one."""
    images = len(wanted) == 3
    if images and shape == (*wanted[1:], wanted[0]):
        return f"channels come first: make it numpy.moveaxis({name}, -1, -3)"
    if images and (1, *shape) == wanted:
        return f"make it numpy.expand_dims({name}, -3)"
    if prod(shape) == prod(wanted):
        return f"make it {name}.reshape({', '.join(['-1', *map(str, wanted)])}), or change model.input_shape"
    return "resize it, or change model.input_shape"


def label_cure(y: Array, classes: int, name: str = "y") -> str:
    """What to do about labels [N, ...] that are no classes 0 to `classes` - 1 (0: their number is not known)."""
    if y.dtype.kind in "USO":
        return "give each text the place of its name in data.class_names, from 0"
    if y.ndim == 2 and y.shape[1] == 1:
        return f"make it {name}[..., 0].astype(numpy.int64)" if _is_whole(y) else _no_classes(y)
    if y.ndim == 2 and y.dtype.kind in "biuf" and y.shape[1] == (classes or y.shape[1]):
        return f"one column a class: make it {name}.argmax(axis=-1)"
    if y.ndim != 1 or y.dtype.kind not in "biuf":
        return "one class number from 0 is wanted for each sample"
    if not _is_whole(y):
        return _no_classes(y)
    if y.dtype.kind in "bf":
        return f"make it {name}.astype(numpy.int64)"
    return range_cure(y, classes, name)


def range_cure(y: Array, classes: int, name: str = "y") -> str:
    """For whole numbers [N] that do not lie in 0 to `classes` - 1."""
    low, high = (int(y.min()), int(y.max())) if y.size else (0, 0)
    if low == 1 and high == classes:
        return f"the classes seem to be numbered from 1: make it {name} - 1"
    if (low, high) == (-1, 1) and classes == 2 and set(np.unique(y).tolist()) == {-1, 1}:
        return f"make it ({name} + 1) // 2"
    return "number the classes from 0 or set model.classes"


def _is_whole(x: Array) -> bool:
    return x.dtype.kind in "biu" or (x.dtype.kind == "f" and bool((np.isfinite(x) & (np.trunc(x) == x)).all()))


def _no_classes(y: Array) -> str:
    odd = y[np.trunc(y) != y].reshape(-1)[0]
    return f"{odd:.6g} is no class; to learn numbers, give the model a regression task"
