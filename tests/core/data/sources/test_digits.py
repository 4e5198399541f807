"""The handwritten digits are real and their split never changes."""

from __future__ import annotations

import gzip
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import check_source, class_histogram
from heron_core.data.sources import digits
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="scikit-learn, which carries the digits, is not installed",
)


def test_all_1797_real_digits_are_there_once() -> None:
    train, test = digits.load()
    assert (len(train), len(test)) == (1437, 360)
    for source in (train, test):
        check_source(source, (TensorSpec("x", (1, 8, 8)),), LabelSpec(count=10))
    labels = np.concatenate([train.labels, test.labels])
    assert class_histogram(labels, 10) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_pixels_are_sixteenths_from_0_to_1() -> None:
    (x,), _ = digits.load()[0].batch(np.arange(1437))
    assert x.min() == 0 and x.max() == 1 and np.array_equal(x * 16, np.rint(x * 16))
    assert len(np.unique(x.reshape(1437, -1), axis=0)) > 1400


def test_each_class_is_divided_alike() -> None:
    train, test = digits.load()
    for in_train, in_test in zip(class_histogram(train.labels, 10), class_histogram(test.labels, 10), strict=True):
        assert abs(in_test - (in_train + in_test) / 5) <= 1


def test_guessing_the_largest_class_of_the_test_split_is_right_one_time_in_ten() -> None:
    counts = class_histogram(digits.load()[1].labels, 10)
    assert max(counts) / sum(counts) == pytest.approx(0.103, abs=0.001)


def test_the_split_of_today_is_that_of_tomorrow() -> None:
    train, test = digits.load()
    assert (train.labels[:8].tolist(), test.labels[:8].tolist()) == (
        [7, 1, 3, 6, 6, 3, 5, 3],
        [2, 4, 0, 6, 3, 1, 7, 0],
    )


def test_scikit_learn_agrees() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    batches = [source.batch(np.arange(len(source))) for source in digits.load()]
    x, labels = zip(*((x, labels) for (x,), labels in batches), strict=True)
    mine = np.column_stack([np.concatenate(x).reshape(1797, 64) * 16, np.concatenate(labels)])
    wanted = np.column_stack([theirs.data, theirs.target])
    assert np.array_equal(mine[np.lexsort(mine.T)], wanted[np.lexsort(wanted.T)])


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "heron-sfl\[demo\]"'):
        digits.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "installed without"), (b"1,2,3\n", "must hold 1797 rows"), (b"a,b\n", "cannot be read")],
)
def test_a_digits_file_that_is_not_what_it_was_is_named(
    content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModuleSpec("sklearn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    if content is not None:
        file = tmp_path / "datasets" / "data" / "digits.csv.gz"
        file.parent.mkdir(parents=True)
        file.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message):
        digits.load()
