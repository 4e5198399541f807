"""Each broken dataset is refused in one line that names the sample and the place in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from heron_core.arrays import TensorSpec
from heron_core.data import AdaptedDataset, ArraySource, Subset
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.testing import check_dataset

FEATURES = 5


class Samples:
    """A user's dataset of six samples; a test spoils one of them."""

    def __init__(self, spoil: Callable[[int, Any, Any], tuple[Any, Any]] = lambda i, x, label: (x, label)) -> None:
        self._spoil = spoil

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self._spoil(i, np.arange(FEATURES, dtype=np.float32) + i, i % tiny.CLASSES)


def spoiled(what: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[], Samples]:
    """Sample 4 is."""
    return lambda: Samples(lambda i, x, label: what(x, label) if i == 4 else (x, label))


def at_2(x: Any, value: float) -> Any:
    x[2] = value
    return x


CALLS = count()


class Own:
    """A user's own source of six samples."""

    def __init__(self, labels: Any = None) -> None:
        self._x = np.arange(30, dtype=np.float32).reshape(6, FEATURES)
        self.labels = np.arange(6) % tiny.CLASSES if labels is None else labels

    def __len__(self) -> int:
        return len(self._x)

    def batch(self, indices: Any) -> Any:
        return (self._x[indices],), np.arange(6)[indices] % tiny.CLASSES


class NotATuple(Own):
    def batch(self, indices: Any) -> Any:
        return self._x[indices], self.labels[indices]


class ByBatch(Own):
    def batch(self, indices: Any) -> Any:
        (x,), labels = super().batch(indices)
        return (x - x.mean(axis=0),), labels


class Broken(Own):
    def batch(self, indices: Any) -> Any:
        raise KeyError("file")


ALWAYS: dict[str, tuple[Callable[[], object], str]] = {
    "another value": (
        spoiled(lambda x, label: (at_2(x, next(CALLS)), label)),
        r"sample 4: \w+ must be the same whenever it is read, got at \[2\]: \d+\.0, then \d+\.0; .*come from the index",
    ),
    "another label": (
        spoiled(lambda x, label: (x, next(CALLS) % 2)),
        r"sample 4: the label must be the same whenever it is read, got at \[\]: \d, then \d",
    ),
    "not finite": (
        spoiled(lambda x, label: (at_2(x, np.nan), label)),
        r"sample 4: \w+ must be finite, got NaN or Inf at \[2\]; mend",
    ),
    "integers": (
        spoiled(lambda x, label: (x.astype(int), label)),
        r"Samples\[4\]: \w+ must be floating point, got int64; pixels",
    ),
    "another shape": (
        spoiled(lambda x, label: (x[:3], label)), r"sample 4: \w+ must .*float32 \[5\].*, got .*\[3\]; (convert|resize)"
    ),
    "label shape": (
        spoiled(lambda x, label: (x, [0, 1])), r"Samples\[4\]: the label must be one integer, .* got int64 \[2\]"
    ),
    "below 0": (spoiled(lambda x, label: (x, -1)), r"sample 4: .*label.* must .* 0.*, got -1"),
    "no pair": (lambda: [np.zeros(5)], r"list\[0\] must be a pair \(x, label\), got ndarray"),
    "no dataset": (lambda: 3, "int lacks them; add them"),
    "empty": (list, "holds no samples, at least one is needed"),
    "not a tuple": (
        NotATuple, r"batch must return a tuple of inputs, .* got a tuple of ndarray and ndarray; return \(x,\), labels"
    ),
    "by batch": (ByBatch, r"sample 5: \w+ must be the same alone and in a batch .*, got at \[0\]: 0\.0, then 12\.5"),
    "raises": (Broken, r"KeyError: 'file'"),
    "few labels": (lambda: Own(np.zeros(5, int)), r"`labels` must hold 6 samples, .* got int64 \[5\]"),
    "other labels": (
        lambda: Own(np.zeros(6, int)), r"sample 1: its label must be the one in `labels`, got at \[\]: 1, then 0"
    ),
}
"""With a model and without one."""


@pytest.mark.parametrize("model", [tiny.mlp, None], ids=["model", "alone"])
@pytest.mark.parametrize("case", ALWAYS)
def test_a_broken_sample_is_named_in_one_clear_line(case: str, model: Any) -> None:
    factory, says = ALWAYS[case]
    with pytest.raises(DataError, match=says) as caught:
        check_dataset(factory, model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (spoiled(lambda x, label: (x, 3)), r"must .*0.*2, got 3"),
        (lambda: Samples(lambda i, x, label: (x[:4], label)), r"input must have the model's input shape, .* got \[4\]"),
        (lambda: Samples(lambda i, x, label: (x, float(label))), r"the label must be one integer, .* got float64 \[\]"),
    ],
)
def test_samples_that_the_model_cannot_take_are_refused(factory: Callable[[], object], says: str) -> None:
    check_dataset(Samples, tiny.mlp)
    with pytest.raises(DataError, match=says):
        check_dataset(factory, tiny.mlp)


def adapted() -> AdaptedDataset:
    return AdaptedDataset(Samples(), (TensorSpec("input", (FEATURES,)),), LabelSpec(count=tiny.CLASSES))


@pytest.mark.parametrize("factory", [Samples, Own, adapted, lambda: Subset(Own(), np.arange(2))])
def test_good_data_passes_with_a_model_and_without_one(factory: Callable[[], object]) -> None:
    with_model, alone = check_dataset(factory, tiny.mlp()), check_dataset(factory)
    assert "samples are x float32 [5] with labels int64 []" in str(alone)
    assert "samples are input float32 [5] with labels one int64 class in 0..2" in str(with_model)
    assert "a run takes them" in with_model.passed


def test_only_so_many_samples_are_read_evenly_spread() -> None:
    read = set()

    def note(i: int, x: Any, label: Any) -> tuple[Any, Any]:
        read.add(i)
        return x, label

    report = check_dataset(lambda: Samples(note), tiny.mlp, most=3)
    assert read == {0, 2, 5}
    assert any(claim.startswith("3 of 6 samples") for claim in report.passed)


def test_kinds_of_samples_are_learned_from_the_first_where_no_model_says_them() -> None:
    several = check_dataset(lambda: Samples(lambda i, x, label: ((x, np.array([i])), float(label))))
    assert "all 6 samples are x[0] float32 [5], x[1] int64 [1] with labels float32 [1]" in str(several)
    named = check_dataset(lambda: Samples(lambda i, x, label: ({"age": [i], "image": x}, [1, 0])))
    assert "all 6 samples are age int64 [1], image float32 [5] with labels int64 [2]" in str(named)


def test_sequences_of_varying_length_need_a_model_and_pass_with_one() -> None:
    def sequences() -> Samples:
        return Samples(lambda i, x, label: (list(range(1 + i % 3)), list(range(1 + i % 3))))

    class Model:
        inputs = (TensorSpec("tokens", (6,), "int64", variable=True, count=10),)
        task = type("Task", (), {"labels": LabelSpec((6,), variable=True, count=10, maskable=True)})

    check_dataset(sequences, Model())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"x must be int64 \[1\] like the first sample's, got int64 \[2\]; .* name the"):
        check_dataset(sequences)


@pytest.mark.parametrize("model", [None, "mlp"])
def test_data_is_found_by_its_name(model: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "kit_data.py").write_text(
        "import numpy as np\n"
        "def make(size): return [(np.full((1, 8, 8), i, 'f'), i % 2) for i in range(size)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kit_data", raising=False)
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 1, 8, 8), np.uint8), y=np.arange(4, dtype=np.uint8))
    for digit in range(10):
        (tmp_path / "images" / str(digit)).mkdir(parents=True)
    image.new("L", (9, 9)).save(tmp_path / "images" / "3" / "a.png")
    assert "all 5 samples" in str(check_dataset("kit_data:make", model, options={"size": 5}))
    assert "all 4 samples" in str(check_dataset(f"npz:{tmp_path / 'a.npz'}", model))
    monkeypatch.setenv("HERON_TEST_PLACE", str(tmp_path))
    assert "all 4 samples" in str(check_dataset("npz:$HERON_TEST_PLACE/a.npz", model))
    with pytest.raises(DataError, match=r"the variable \$HERON_NOT_SET is not set"):
        check_dataset("npz:$HERON_NOT_SET/a.npz", model)
    assert "all 1 samples" in str(check_dataset(f"image_folder:{tmp_path / 'images'}", model))
    with pytest.raises(DataError, match=r"expected package\.module:factory or one of csv:PATH, hugging_face:PATH"):
        check_dataset("kit_data", model)
    with pytest.raises(DataError, match="expected a function that returns a dataset, got a list; hand over"):
        check_dataset([1], model)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no \.npz file at"):
        check_dataset(f"npz:{tmp_path / 'b.npz'}", model)


def test_heron_s_own_array_source_passes() -> None:
    check_dataset(lambda: tiny.source(tiny.mlp()), tiny.mlp)
    check_dataset(lambda: ArraySource(np.zeros((3, 2), np.uint8), np.zeros((3, 2), np.float32)))
