"""Cases of .npz files: dtypes and scales, layouts, labels, names of the arrays, and torn files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from integration.generated_inputs import Case, Data, npz, pictures

Stored = Callable[[Any], Any]

X = r"a\.npz: (x|`x`) |x and y|^a: .*input"
"""What a refusal of x says."""
SCALES: dict[str, tuple[Stored, tuple[str, ...], bool]] = {
    "0..255": (lambda x: x, ("u1", "i2", "u2", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2"), False),
    "-1..1": (lambda x: x / 127.5 - 1, ("f2", "f4", "f8", ">f4", ">f8", "i1", "i4", "c8"), True),
    "0..1": (lambda x: x / 255, ("f2", "f4", "f8", "?", "u1", "i8"), False),
    "0..65535": (lambda x: x.astype("u4") * 257, ("u2", "u4", ">u2", "i4", "f4"), False),
    "-128..127": (lambda x: x.astype("i2") - 128, ("i1", "i2"), False),
}
"""By what is stored, the dtypes that it can be stored as, and whether floats of it are the twin's values."""

LAYOUTS: dict[str, tuple[Stored, bool]] = {
    "NCHW": (lambda x: x, True),
    "NCHW in Fortran order": (np.asfortranarray, True),
    "NCHW as a view": (lambda x: np.repeat(x, 2, axis=0)[::2], True),
    "NHWC": (lambda x: x.transpose(0, 2, 3, 1), False),
    "CHWN": (lambda x: x.transpose(1, 2, 3, 0), False),
    "NHW": (lambda x: x[:, 0], False),
    "N1HW": (lambda x: x[:, :1], False),
    "flat": (lambda x: x.reshape(len(x), -1), False),
    "of 4 channels": (lambda x: np.concatenate([x, x[:, :1]], axis=1), False),
    "of another size": (lambda x: x.repeat(2, axis=2).repeat(2, axis=3), False),
    "one sample": (lambda x: x[0], False),
    "no number": (lambda x: x[0, 0, 0, 0], False),
}

LABELS: dict[str, tuple[Stored, bool]] = {
    **{f"as {dtype}": ((lambda y, dtype=dtype: y.astype(dtype)), True) for dtype in ("i1", "u1", "i4", "u8", ">i2")},
    **{f"as {dtype}": ((lambda y, dtype=dtype: y.astype(dtype)), False) for dtype in ("f4", "f8", "U1", "S1", "c8")},
    "bool": (lambda y: y > 0, False),
    "from 1": (lambda y: y + 1, False),
    "of another task": (lambda y: y + 40, False),
    "negative": (lambda y: y - 1, False),
    "uint8 below 0": (lambda y: (y - 1).astype("u1"), False),
    "[N, 1]": (lambda y: y[:, None], False),
    "one-hot": (lambda y: np.eye(3, dtype="i8")[y], False),
    "one-hot floats": (lambda y: np.eye(3, dtype="f4")[y], False),
    "names": (lambda y: np.array(["apple", "pear", "plum"])[y], False),
    "too few": (lambda y: y[:-1], False),
    "too many": (lambda y: np.append(y, 0), False),
    "none": (lambda y: y[:0], False),
    "NaN": (lambda y: np.where(y == 1, np.nan, y), False),
    "one number": (lambda y: y[0], False),
    "dates": (lambda y: y.astype("M8[s]"), False),
}


def npz_cases() -> Iterator[Case]:
    """All of them."""
    yield from _dtypes()
    for name, (change, equal) in LAYOUTS.items():
        yield _case(f"npz {name}", change, equal=equal, culprit=X)
    for name, (change, equal) in LABELS.items():
        yield _case(f"npz labels {name}", labels=change, equal=equal, culprit=r"a\.npz: y |x and y|labels must be")
    for scale, layout in product(("-1..1", "0..1"), ("NHWC", "NCHW in Fortran order")):
        change, _, _ = SCALES[scale]
        move, equal = LAYOUTS[layout]
        both = lambda x, change=change, move=move: move(change(x).astype("f4"))
        yield _case(f"npz float32 {scale} {layout}", both, equal=equal and scale == "-1..1")
    yield from _values()
    yield from _files()


def _dtypes() -> Iterator[Case]:
    for scale, (change, dtypes, halves) in SCALES.items():
        for dtype in dtypes:
            equal = (scale == "0..255" and dtype == "u1") or (halves and np.dtype(dtype).kind == "f")
            stored = lambda x, change=change, dtype=dtype: change(x).astype(dtype)
            yield _case(f"npz {scale} as {dtype}", stored, equal=equal, culprit=X)


def _values() -> Iterator[Case]:
    for name, value in {"NaN": np.nan, "Inf": -np.inf, "huge": 1e38, "beyond float32": 1e300}.items():
        yield _case(f"npz {name}", lambda x, value=value: _with(x / 127.5 - 1, value), culprit=X)
    yield _case("npz text", lambda x: x.astype("U4"))
    yield _case("npz nothing", lambda x: x[:0], labels=lambda y: y[:0])
    yield _case("npz fewer than a batch", lambda x: x[::6], labels=lambda y: y[::6], culprit="batch")
    yield _case("npz of one class", lambda x: x[12:24], labels=lambda y: y[12:24])


def _with(x: Any, value: float) -> Any:
    x[5, 0, 1, 2] = value
    return x


def _files() -> Iterator[Case]:
    x, y = pictures("a")
    for names in (("X", "Y"), ("images", "labels"), ("x", "labels"), ("x_train", "y_train"), ("arr_0", "arr_1")):
        yield _file(
            f"npz arrays {names}", lambda path, names=names: np.savez(path, **dict(zip(names, (x, y), strict=True)))
        )
    yield _file("npz arrays called in the options", _called, options={"x": "images", "y": "labels"}, equal=True)
    yield _file("npz arrays called wrongly", _called, options={"x": "image", "y": "labels"}, refused=True)
    yield _folder("npy", {"x": x, "y": y}, equal=True)
    yield _folder("npy of floats", {"x": (x / 127.5 - 1).astype("f4"), "y": y.astype("u1")}, equal=True)
    yield _folder("npy without labels", {"x": x}, refused=True, culprit=r"y\.npy")
    yield _folder("npy channels last", {"x": x.transpose(0, 2, 3, 1), "y": y}, refused=True, culprit=r"x\.npy|x must")
    yield _folder("npy of objects", {"x": x.astype(object), "y": y}, refused=True, culprit=r"x\.npy")
    yield _file("npz compressed", lambda path: np.savez_compressed(path, x=x, y=y), equal=True)
    yield _file("npz with more arrays", lambda path: np.savez(path, x=x, y=y, z=np.array({1: 2})), equal=True)
    yield _file("npz of objects", lambda path: np.savez(path, x=x.astype(object), y=y))
    yield _file("npz of pickled labels", lambda path: np.savez(path, x=x, y=y.astype(object)))
    whole = lambda path: (np.savez(path, x=x, y=y), path.read_bytes())[1]
    for kept in (0, 10, 300, 4000, -30):
        yield _file(f"npz cut at {kept}", lambda path, kept=kept: path.write_bytes(whole(path)[:kept]))
    yield _file("npz with a flipped byte", lambda path: path.write_bytes(_flipped(whole(path), 3000)))
    yield _file("an .npy", lambda path: (np.save(path.with_suffix(".npy"), x), path.with_suffix(".npy").rename(path)))
    yield _file("text", lambda path: path.write_text("x,y\n1,2\n"))
    yield _file("a folder", lambda path: path.mkdir())
    yield _file("nothing there", lambda path: None)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def _case(name: str, x: Stored = lambda x: x, labels: Stored = lambda y: y, **more: Any) -> Case:
    def write(folder: Path) -> Data:
        pixels, classes = pictures("a")
        return npz(folder / "a.npz", x=x(pixels), y=labels(classes))

    return Case(name, write, **more)


def _called(path: Path) -> None:
    x, y = pictures("a")
    np.savez(path, images=x, labels=y)


def _folder(name: str, arrays: dict[str, Any], **more: Any) -> Case:
    def write(folder: Path) -> Data:
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
        return {"source": "npy", "path": str(folder)}

    return Case(name, write, **more)


def _file(name: str, save: Callable[[Path], Any], options: Data | None = None, **more: Any) -> Case:
    def write(folder: Path) -> Data:
        save(folder / "a.npz")
        return {"source": "npz", "path": str(folder / "a.npz"), "options": options or {}}

    return Case(name, write, **more)


@st.composite
def drawn_npz(draw: st.DrawFn) -> Case:
    """Scale, dtype, layout and labels drawn by themselves: the twin's values only where all are."""
    scale, layout, labels = (draw(st.sampled_from(sorted(kinds))) for kinds in (SCALES, LAYOUTS, LABELS))
    (change, dtypes, halves), (move, moved_equal) = SCALES[scale], LAYOUTS[layout]
    dtype = draw(st.sampled_from(dtypes))
    renumber, labels_equal = LABELS[labels]
    equal = ((scale == "0..255" and dtype == "u1") or (halves and np.dtype(dtype).kind == "f")) and moved_equal
    stored = lambda x: move(change(x).astype(dtype))
    name = f"npz {scale} as {dtype}, {layout}, labels {labels}"
    return _case(name, stored, renumber, equal=equal and labels_equal)
