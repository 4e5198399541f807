"""Arrays of one's own: found by the names that the options give, and not taken into memory that is not there."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import Source, load_own
from heron_core.data.facts import stored_dtypes_of
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.testing import check_dataset

X, Y = np.arange(12).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])


def load(source: str, path: Path, dtype: str = "float32", **options: object) -> Source:
    inputs = (TensorSpec("x", (2,), dtype),)
    return load_own(source, path=path, options=options, inputs=inputs, labels=LabelSpec(count=3))


def saved(source: str, folder: Path, dtype: str = "float32", x: str = "x", y: str = "y") -> Path:
    """The file of an npz, the folder of npy."""
    if source == "npz":
        np.savez(folder / "a.npz", **{x: X.astype(dtype), y: Y})
        return folder / "a.npz"
    np.save(folder / f"{x}.npy", X.astype(dtype))
    np.save(folder / f"{y}.npy", Y)
    return folder


@pytest.mark.parametrize("source", ["npz", "npy"])
def test_arrays_are_found_by_the_names_that_the_options_give(source: str, tmp_path: Path) -> None:
    path = saved(source, tmp_path, x="images", y="labels")
    (x,), labels = load(source, path, x="images", y="labels").batch(np.array([5, 0]))
    assert x.tolist() == [[10, 11], [0, 1]] and labels.tolist() == [2, 0]
    wanted = r"named x and y, it has images, labels; name them" if source == "npz" else r"no file at .*x\.npy"
    with pytest.raises(DataError, match=wanted):
        load(source, path)
    with pytest.raises(DataError, match=r"data\.options\.x must be the name of an array, got 3"):
        load(source, path, x=3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
def test_a_folder_gives_what_an_npz_gives(dtype: str, tmp_path: Path) -> None:
    wanted = "int64" if dtype == "int64" else "float32"
    both = [load(source, saved(source, tmp_path, dtype), wanted) for source in ("npz", "npy")]
    batches = [source.batch(np.array([1, 4])) for source in both]
    assert batches[0][0][0].tobytes() == batches[1][0][0].tobytes()
    assert stored_dtypes_of(both[0]) == stored_dtypes_of(both[1])
    assert "all 6 samples" in str(check_dataset(f"npy:{tmp_path}"))


def test_what_a_folder_holds_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_core.process.memory.free_memory", lambda: 10)
    source = load("npy", saved("npy", tmp_path))
    assert isinstance(source.wraps._x.base, mmap.mmap)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"x of float64, made float32, needs .* of memory, and .* are free; save it so"):
        load("npy", saved("npy", tmp_path, "float64"))
    with pytest.raises(DataError, match=r'a\.npz needs .* of memory, and .* free; save x\.npy and y\.npy .*"npy"'):
        load("npz", saved("npz", tmp_path))


def test_nan_on_the_disk_is_refused_in_its_batch(tmp_path: Path) -> None:
    path = saved("npy", tmp_path)
    np.save(path / "x.npy", np.where(X == 7, np.nan, X).astype(np.float32))
    source = load("npy", path)
    with pytest.raises(DataError, match="sample 3: x must be finite"):
        source.batch(np.array([2, 3]))


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    (saved("npy", tmp_path) / "x.npy").write_bytes(b"\x93NUMPY torn")
    with pytest.raises(DataError, match=r"x\.npy is not a readable \.npy of a plain array"):
        load("npy", tmp_path)


def test_labels_that_are_numbers_are_a_regressions_where_no_model_says_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X.astype(np.float32), y=Y / 2)
    assert "with labels float32 [1]" in str(check_dataset(f"npz:{tmp_path / 'a.npz'}"))
