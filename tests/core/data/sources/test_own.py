"""A user's own data: an image folder, an .npz, or a factory; and the share held out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_core.arrays import TensorSpec
from heron_core.data import AdaptedDataset, ArraySource, Source, check_source, load_own, split_holdout, split_own
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.spec.data import DataSpec


def load(source: str, path: Path | None = None, shape: tuple[int, ...] = (3, 4, 6), **options: Any) -> Source:
    return load_own(source, path=path, options=options, inputs=(TensorSpec("input", shape),), labels=LabelSpec())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_float_npz_is_taken_as_it_is(dtype: Any, tmp_path: Path) -> None:
    x = np.arange(48).reshape(2, 3, 2, 4).astype(dtype)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.array([1, 0], np.int8))
    source = load("npz", tmp_path / "a.npz", (3, 2, 4))
    check_source(source, (TensorSpec("x", (3, 2, 4)),), LabelSpec(count=2))
    (got,), labels = source.batch(np.arange(2))
    assert np.array_equal(got, x) and labels.tolist() == [1, 0]


def test_a_uint8_npz_becomes_minus_1_to_1(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[0], [255]], np.uint8), y=np.arange(2))
    assert load("npz", tmp_path / "a.npz", (1,)).batch(np.arange(2))[0][0].tolist() == [[-1], [1]]


X, Y = np.zeros((2, 3, 4, 6), np.float32), np.arange(2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "must hold arrays named x and y, it has x; name them"),
        ({"x": X, "y": np.zeros(2)}, r"y must be integers \[N\] or texts, got float64 \[2\]"),
        ({"x": X, "y": np.eye(2, dtype=int)}, r"y must be integers \[N\] or texts, got int64 \[2, 2\]"),
        ({"x": X[0], "y": Y}, r"x must be \[N, 3, 4, 6\], got \[3, 4, 6\]; resize"),
        ({"x": X.transpose(0, 2, 3, 1), "y": Y}, r"got \[2, 4, 6, 3\]; channels come first: make it numpy\.moveaxis"),
        ({"x": X, "y": np.arange(3)}, "same number of samples, at least one, got 2 and 3"),
        ({"x": X[:0], "y": Y[:0]}, "at least one, got 0 and 0"),
        ({"x": X.astype(int), "y": Y}, "x must be floating point or uint8, got int64"),
        ({"x": np.where(np.arange(2)[:, None, None, None], np.nan, X), "y": Y}, "sample 1 holds NaN or Inf"),
        ({"x": X + np.float64("1e300") * np.ones(1), "y": Y}, "sample 0 holds NaN or Inf"),
        ({"x": np.array([print]), "y": Y}, "not a readable .npz of plain arrays .*allow_pickle"),
    ],
)
def test_an_unusable_npz_is_refused(arrays: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load("npz", tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"torn", b"PK\x03\x04torn"])
def test_a_file_that_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz"):
        load("npz", tmp_path / "a.npz")


def test_a_single_npy_array_under_that_name_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as out:
        np.save(out, X)
    with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz"):
        load("npz", tmp_path / "a.npz")


@pytest.mark.parametrize("source", ["npz", "image_folder"])
def test_a_missing_path_or_a_strange_option_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs data\.path"):
        load(source)
    with pytest.raises(DataError, match=r"got \['size'\]; remove them"):
        load(source, tmp_path, size=3)
    with pytest.raises(DataError, match=r"; set data\.path"):
        load(source, tmp_path / "absent.npz")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_hospital.py").write_text(
        "import numpy as np\n"
        "from heron_core.data import ArraySource\n"
        "class Scans:\n"
        "    def __init__(self, count, path=None): self.count, self.path = count, path\n"
        "    def __len__(self): return self.count\n"
        "    def __getitem__(self, i): return np.full((2,), i, np.float32), i % 2\n"
        "class HasBatch(Scans):\n"
        "    def batch(self, size): raise AssertionError('of another kind')\n"
        "def arrays(): return ArraySource(np.zeros((4, 2), np.float32), np.arange(4))\n"
        "def pair(wrong=False): return np.array([[0], [255]], np.int64 if wrong else np.uint8), [0, 1]\n"
        "def nothing(): return None\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_hospital", raising=False)
    return "my_hospital"


@pytest.mark.parametrize("factory", ["Scans", "HasBatch"])
def test_a_users_dataset_is_made_with_its_options(factory: str, own_module: str) -> None:
    source = load(f"{own_module}:{factory}", shape=(2,), count=3)
    check_source(source, (TensorSpec("x", (2,)),), LabelSpec(count=2))
    assert len(source) == 3 and source.batch(np.array([2]))[0][0].tolist() == [[2, 2]]


def test_a_users_factory_gets_the_path_and_may_make_a_source(own_module: str, tmp_path: Path) -> None:
    load(f"{own_module}:Scans", tmp_path, count=1)
    assert load(f"{own_module}:arrays").labels.tolist() == [0, 1, 2, 3]


def test_a_users_factory_may_return_x_and_y_which_mean_what_they_mean_in_an_npz(own_module: str) -> None:
    source = load(f"{own_module}:pair", shape=(1,))
    assert source.batch(np.arange(2))[0][0].tolist() == [[-1], [1]] and source.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"\(x, y\): x must be floating point or uint8, got int64"):
        load(f"{own_module}:pair", shape=(1,), wrong=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("my_hospital:Scans", "TypeError: .*missing 1 required .*'count'"),
        ("my_hospital:absent", "AttributeError"),
        ("my_hospital:number", "TypeError: 'int' object is not callable"),
        ("my_hospital:nothing", "NoneType lacks them"),
        ("absent_package.module:Scans", "ModuleNotFoundError: .*check that `python -c"),
    ],
)
def test_a_factory_that_fails_says_why(source: str, message: str, own_module: str) -> None:
    with pytest.raises(DataError, match=message):
        load(source)


@pytest.mark.parametrize("source", ["", "images", "my_hospital", "os:", ":f", "a-b:f", "a:b.c", "../a:f", "digits"])
def test_an_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(DataError, match=r"must be csv, hugging_face, .* npz.* or package\.module:factory, got"):
        load(source)


def numbered(count: int) -> Source:
    return ArraySource(np.arange(count, dtype=np.float32)[:, None], np.arange(count))


@given(
    count=st.integers(2, 50),
    fraction=st.floats(0, 0.5),
    seed=st.integers(0, 2**63 - 1),
    rank=st.integers(0, 9),
)
def test_the_held_out_share_and_the_rest_hold_each_sample_once(
    count: int, fraction: float, seed: int, rank: int
) -> None:
    train, held = split_holdout(numbered(count), fraction, seed, rank)
    assert sorted([*train.labels, *held.labels]) == list(range(count))
    assert len(held) == (max(1, round(fraction * count)) if fraction else 0)
    again, _ = split_holdout(numbered(count), fraction, seed, rank)
    assert np.array_equal(train.labels, again.labels)


def test_clients_hold_out_by_their_own_streams() -> None:
    held = [split_holdout(numbered(100), 0.2, 0, name)[1].labels.tolist() for name in ("ward-a", "ward-b", 0)]
    assert held[0] != held[1] != held[2] != held[0]


def test_validation_is_of_what_the_holdout_leaves_and_touches_none_of_it() -> None:
    spec = DataSpec(source="client", holdout=0.2, validation=0.25)
    train, validation = split_own(numbered(100), spec, 3, 1)
    held = split_own(numbered(100), spec.model_copy(update={"validation": 0.0}), 3, 1)[1]
    assert sorted([*train.labels, *validation.labels, *held.labels]) == list(range(100))
    assert (len(train), len(validation), len(held)) == (60, 20, 20)
    assert set(split_own(numbered(100), spec, 4, 1)[1].labels) != set(validation.labels), "by the run's seed"
    with pytest.raises(DataError, match=r"leave none .*validation = 0\.5; .*lower data\.validation"):
        split_own(numbered(2), DataSpec(source="client", holdout=0.5, validation=0.5), 0, 0)


def test_too_few_samples_to_hold_one_out_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 samples leave none .*holdout = 0\.1"):
        split_holdout(numbered(1), 0.1, 0, "a")
    with pytest.raises(DataError, match="0 samples leave none"):
        split_holdout(numbered(0), 0.0, 0, "a")


class OfPeople:
    """Ten samples of five people; `groups` says whose."""

    groups = tuple("aabbccddee")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return np.full(3, i, np.float32), i % 2


def test_a_dataset_that_says_whose_its_samples_are_is_held_out_by_people() -> None:
    source = AdaptedDataset(OfPeople(), (TensorSpec("x", (3,)),), LabelSpec(count=2))
    train, held = split_holdout(source, 0.4, 0, "c", by="group")
    rows = [half.batch(np.arange(len(half)))[0][0] for half in (train, held)]
    people = [{OfPeople.groups[int(row[0])] for row in half} for half in rows]
    assert len(people[1]) == 2 and people[0].isdisjoint(people[1]) and len(train) == 6
    with pytest.raises(DataError, match="needs to know whose each sample is, and the data does not say"):
        split_holdout(numbered(10), 0.4, 0, "c", by="group")
