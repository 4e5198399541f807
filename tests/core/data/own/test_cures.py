"""The advice in a message, followed once, leads to what the clean twin gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import AdaptedDataset, check_source, load_own
from heron_core.data.checks import Checked
from heron_core.data.facts import class_names_of
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

BYTES = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
BYTES[0, 0, 0, :2] = 0, 255
CLASSES = np.array([0, 1, 2, 2, 1, 0])
IMAGE, LABELS = TensorSpec("image", (1, 4, 4)), LabelSpec(count=3)


def from_npz(folder: Path, x: Any, y: Any, spec: TensorSpec = IMAGE, labels: LabelSpec = LABELS,
             names: tuple[str, ...] = ()) -> tuple[Any, Any]:  # fmt: skip
    np.savez(folder / "a.npz", x=x, y=y)
    source = load_own("npz", path=folder / "a.npz", options={}, inputs=(spec,), labels=labels, class_names=names)
    check_source(source, (spec,), labels)
    (values,), found = source.batch(np.arange(len(source)))
    return values, found


def advice(error: pytest.ExceptionInfo[DataError]) -> str:
    found = re.search(r"make it (.+?)(?: \(where|, (?:which|or|on)|;|$)", str(error.value))
    assert found, error.value
    return found[1]


def follow(error: pytest.ExceptionInfo[DataError], **values: Any) -> Any:
    return eval(advice(error), {"numpy": np, **values})


def twin() -> Any:
    return (BYTES / np.float32(255) - 0.5) / 0.5


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        (BYTES.astype(np.uint16) * 257, twin()),
        (BYTES.astype(np.int64), twin()),
        (BYTES.astype(np.uint16), twin()),
        (BYTES.astype(np.int8), BYTES.astype(np.int8).astype(np.float32)),
        (BYTES > 127, np.where(BYTES > 127, 1, -1)),
        (BYTES.astype(np.int64) * 10**6, BYTES * 1e6),
    ],
    ids=["uint16", "int64", "dim uint16", "negative", "bool", "large"],
)
def test_npz_of_another_dtype(x: Any, wanted: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x must be floating point or uint8, got \w+") as caught:
        from_npz(tmp_path, x, CLASSES)
    values, _ = from_npz(tmp_path, follow(caught, x=x), CLASSES)
    np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-6)


def test_uint16_that_may_be_of_12_bits_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"in 0\.\.4080; .*where white is 65535; .* 4095 for 12 bits") as caught:
        from_npz(tmp_path, BYTES.astype(np.uint16) * 16, CLASSES)
    assert advice(caught) == "((x / 65535 - 0.5) / 0.5).astype(numpy.float32)"


def test_uint8_is_the_twin_itself(tmp_path: Path) -> None:
    np.testing.assert_allclose(from_npz(tmp_path, BYTES, CLASSES)[0], twin(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_floats_of_any_width_are_taken_as_they_are(dtype: Any, tmp_path: Path) -> None:
    values, _ = from_npz(tmp_path, twin().astype(dtype), CLASSES)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, twin(), atol=1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("x", [BYTES.transpose(0, 2, 3, 1), BYTES[:, 0], BYTES.reshape(6, 16)])
def test_npz_of_another_shape(x: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x must be \[N, 1, 4, 4\]") as caught:
        from_npz(tmp_path, x, CLASSES)
    np.testing.assert_allclose(from_npz(tmp_path, follow(caught, x=x), CLASSES)[0], twin(), atol=1e-6)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (CLASSES + 1, "seem to be numbered from 1"),
        (CLASSES.astype(np.float32), "got float32"),
        (np.eye(3)[CLASSES], "one column a class"),
        (np.eye(3, dtype=bool)[CLASSES], "one column a class"),
        (CLASSES[:, None], r"got int64 \[6, 1\]"),
        (CLASSES[:, None].astype(float), r"got float64 \[6, 1\]"),
    ],
    ids=["from 1", "float", "one-hot", "one-hot of bool", "a column", "a column of floats"],
)
def test_labels_of_another_kind(y: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        from_npz(tmp_path, BYTES, y)
    assert from_npz(tmp_path, BYTES, follow(caught, y=y))[1].tolist() == CLASSES.tolist()


@pytest.mark.parametrize("y", [np.array([False, True] * 3), np.array([-1, 1] * 3)])
def test_labels_of_two_classes(y: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        from_npz(tmp_path, BYTES, y, labels=LabelSpec(count=2))
    assert from_npz(tmp_path, BYTES, follow(caught, y=y), labels=LabelSpec(count=2))[1].tolist() == [0, 1] * 3


def test_labels_that_are_numbers_are_told_of_regression_and_whole_ones_for_regression_to_be_floats(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match=r"0\.25 is no class; to learn numbers, give the model a regression task"):
        from_npz(tmp_path, BYTES, CLASSES + 0.25)
    with pytest.raises(DataError, match=r"y must be float32 \[1\] for each sample, got int64") as caught:
        from_npz(tmp_path, BYTES, CLASSES, labels=LabelSpec((1,), "float32"))
    values = from_npz(tmp_path, BYTES, follow(caught, y=CLASSES), labels=LabelSpec((1,), "float32"))[1]
    assert values[:, 0].tolist() == CLASSES.tolist()


def test_labels_that_are_texts_are_names_of_classes(tmp_path: Path) -> None:
    texts = np.array(["pear", "apple", "fig"])[CLASSES]
    assert from_npz(tmp_path, BYTES, texts, names=("pear", "apple", "fig"))[1].tolist() == CLASSES.tolist()
    assert from_npz(tmp_path, BYTES, texts)[1].tolist() == [2, 0, 1, 1, 0, 2]
    with pytest.raises(DataError, match="'fig' and 'Fig' differ in upper and lower case"):
        from_npz(tmp_path, BYTES, texts, names=("pear", "apple", "Fig"))
    source = load_own("npz", path=tmp_path / "a.npz", options={}, inputs=(IMAGE,), labels=LABELS)
    assert class_names_of(source) == ("apple", "fig", "pear")
    with pytest.raises(DataError, match=r"text by astype\(str\)"):
        from_npz(tmp_path, BYTES, texts.astype(object))


def from_dataset(change: Any) -> Any:
    pairs = [change(x, y) for x, y in zip(BYTES, CLASSES.tolist(), strict=True)]
    (values,), labels = Checked(AdaptedDataset(pairs, (IMAGE,), LABELS), (IMAGE,), LABELS).batch(np.arange(6))
    return values, labels


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [(np.uint8, twin()), (np.int64, twin()), (bool, np.where(BYTES > 0, 1, -1))],
    ids=str,
)
def test_a_user_s_dataset_of_another_dtype(kind: Any, wanted: Any) -> None:
    with pytest.raises(DataError, match=r"list\[0\]: image must be floating point") as caught:
        from_dataset(lambda x, y: (x.astype(kind), y))
    values, _ = from_dataset(lambda x, y: (follow(caught, x=x.astype(kind)), y))
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_a_user_s_images_with_channels_last() -> None:
    with pytest.raises(DataError, match="channels come first") as caught:
        from_dataset(lambda x, y: (twin()[0].transpose(1, 2, 0), y))
    from_dataset(lambda x, y: (follow(caught, image=twin()[0].transpose(1, 2, 0)), y))


@pytest.mark.parametrize("change", [float, lambda y: np.eye(3)[y], lambda y: [float(y)]])
def test_a_user_s_labels_of_another_kind(change: Any) -> None:
    with pytest.raises(DataError, match=r"list\[0\]: the label must be one integer, the class from 0") as caught:
        from_dataset(lambda x, y: (twin()[0], change(y)))
    _, labels = from_dataset(lambda x, y: (twin()[0], follow(caught, label=change(y))))
    assert labels.tolist() == CLASSES.tolist()


def test_a_user_s_labels_that_are_texts() -> None:
    with pytest.raises(DataError, match=r"got <U1 \[\]; give each text the place of its name in data\.class_names"):
        from_dataset(lambda x, y: (twin()[0], "abc"[y]))


def test_integers_for_a_model_that_takes_them(tmp_path: Path) -> None:
    spec = TensorSpec("ids", (4,), "int64", count=9)
    with pytest.raises(DataError, match="x must be integers") as caught:
        from_npz(tmp_path, np.ones((6, 4)), CLASSES, spec)
    assert from_npz(tmp_path, follow(caught, x=np.ones((6, 4))), CLASSES, spec)[0].tolist() == [[1] * 4] * 6
