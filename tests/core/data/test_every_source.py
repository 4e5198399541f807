"""Every source there is keeps the contract that a user's own data is checked for."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny

from heron_core.arrays import TensorSpec
from heron_core.data import AdaptedDataset, Source, client_share, load_experiment, load_own, split_holdout
from heron_core.labels import LabelSpec
from heron_core.spec.data import DataSpec
from heron_core.testing import check_dataset

needs_digits = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
NOISY = {"blur": 1, "contrast": 0.5, "brightness": [0.1], "noise": 0.2}
CIFAR = {"x_train": (40, 32, 32, 3), "y_train": (40,), "x_test": (20, 32, 32, 3), "y_test": (20,)}


@needs_digits
@pytest.mark.parametrize("half", ["train", "test"])
@pytest.mark.parametrize(
    "table", [{}, {"validation": 0.1}, {"train_limit": 50, "test_limit": 20}, {"sensor": NOISY}], ids=str
)
def test_the_digits(table: dict[str, object], half: str) -> None:
    experiment = load_experiment(DataSpec.model_validate(table), 0)
    check_dataset(lambda: getattr(experiment, half), "digits_cnn", most=200)


@needs_digits
@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards"])
def test_a_client_s_share(partition: str) -> None:
    spec = DataSpec.model_validate({"partition": partition})
    check_dataset(lambda: client_share(load_experiment(spec, 0), spec, 0, 1, 3), "digits_cnn", most=100)


@pytest.mark.parametrize("half", ["train", "test"])
def test_cifar_10(half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "cifar10.npz", "w") as archive:
        for name, shape in CIFAR.items():
            with archive.open(f"{name}.npy", "w") as member:
                high = 256 if len(shape) > 1 else 10
                np.lib.format.write_array(member, rng.integers(0, high, shape, dtype=np.uint8), allow_pickle=False)
    experiment = load_experiment(DataSpec(source="cifar10"), 0, tmp_path)
    check_dataset(lambda: getattr(experiment, half), "cifar_cnn")


def an_npz(folder: Path, dtype: type) -> Source:
    np.savez(folder / "a.npz", x=np.arange(60).reshape(6, 2, 5).astype(dtype), y=np.arange(6) % 3)
    return own("npz", folder / "a.npz", (2, 5))


def own(kind: str, path: Path, shape: tuple[int, ...]) -> Source:
    labels = LabelSpec(count=3)
    return load_own(kind, path=path, options={}, inputs=(TensorSpec("x", shape),), labels=labels)


def images(folder: Path) -> Source:
    image = pytest.importorskip("PIL.Image")
    for number, name in enumerate(["cat", "cow", "dog"]):
        (folder / name).mkdir()
        for shade in (0, 90, 200):
            image.new("RGB", (9, 7), (shade, 80 * number, 3)).save(folder / name / f"{shade}.png")
    return own("image_folder", folder, (3, 4, 6))


def a_dataset(_: Path) -> Source:
    pairs = [(np.arange(4) + i / 3, i % 3) for i in range(9)]
    return AdaptedDataset(pairs, (TensorSpec("x", (4,)),), LabelSpec(count=3))


OWN: dict[str, Callable[[Path], Source]] = {
    "npz of pixels": lambda folder: an_npz(folder, np.uint8),
    "npz of floats": lambda folder: an_npz(folder, np.float64),
    "image folder": images,
    "dataset": a_dataset,
    "held out": lambda folder: split_holdout(a_dataset(folder), 0.4, 0, 1)[1],
    "arrays": lambda _: tiny.source(tiny.mlp()),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_user_s_own_data(kind: str, tmp_path: Path) -> None:
    source = OWN[kind](tmp_path)
    report = check_dataset(lambda: source)
    assert f"all {len(source)} samples" in str(report)
