"""A source that knows class names gives its labels in the run's order, or the name that cannot be placed is told."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.class_names import listed, nearest, problem_of
from heron_core.data.facts import class_names_of
from heron_core.data.named import by_name
from heron_core.data.source import ArraySource
from heron_core.data.sources.own import load_own
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

FRUIT = ("apfel", "birne", "kirsche")


def named(names: tuple[str, ...], labels: list[int]) -> ArraySource:
    source = ArraySource(np.zeros((len(labels), 2), np.float32), np.array(labels))
    source.class_names = names  # type: ignore[attr-defined]
    return source


def refused(names: tuple[str, ...], labels: list[int], run: tuple[str, ...] = FRUIT) -> str:
    with pytest.raises(DataError) as caught:
        by_name(named(names, labels), run, 3)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "labels", "placed"),
    [
        (FRUIT, [0, 1, 2], [0, 1, 2]),
        (("kirsche", "apfel", "birne"), [0, 1, 2], [2, 0, 1]),
        (("apfel", "kirsche"), [0, 1, 1], [0, 2, 2]),
        (("apfel", "birne", "kirsche", "lost+found"), [0, 1, 2], [0, 1, 2]),
    ],
)
def test_labels_follow_the_names_of_the_run(names: tuple[str, ...], labels: list[int], placed: list[int]) -> None:
    source = by_name(named(names, labels), FRUIT, 3)
    assert source.labels.tolist() == placed == source.batch(np.arange(3))[1].tolist()
    assert class_names_of(source) == FRUIT


def test_an_umlaut_is_the_same_in_both_of_its_forms() -> None:
    apart = normalize("NFD", "äpfel")
    assert by_name(named((apart, "birne"), [0, 1]), ("birne", "äpfel"), 2).labels.tolist() == [1, 0]
    assert "'äpfel' is there twice" in refused((apart, "äpfel", "birne"), [0, 1, 2])


@pytest.mark.parametrize(
    ("stray", "says"),
    [
        ("Birne", "'Birne' and 'birne' differ in upper and lower case; rename it to 'birne'"),
        ("brine", "none of the run's classes (apfel, birne, kirsche); rename it to 'birne' if it is that one"),
        ("zoo", "the data's class 'zoo' is none of the run's classes (apfel, birne, kirsche); move it away"),
    ],
)
def test_a_foreign_name_is_told_with_what_to_do(stray: str, says: str) -> None:
    assert says in refused(("apfel", stray), [0, 1])


def test_the_first_that_knows_names_must_know_as_many_as_the_model_has_classes() -> None:
    assert class_names_of(by_name(named(("b", "a", "c"), [0, 1, 2]), (), 3)) == ("b", "a", "c")
    assert class_names_of(by_name(named((*FRUIT, "empty"), [0, 1, 2]), (), 3)) == FRUIT
    says = refused(("apfel", "birne"), [0, 1], run=())
    assert "has 2 classes (apfel, birne), the model tells 3 apart" in says and "set data.class_names" in says


def test_a_source_without_names_keeps_its_labels() -> None:
    source = ArraySource(np.zeros((2, 2), np.float32), np.array([1, 0]))
    assert by_name(source, FRUIT, 3) is source


def test_a_user_s_dataset_may_name_its_classes() -> None:
    class Pets(list[tuple[float, int]]):
        classes = ["kirsche", "birne", "apfel"]  # noqa: RUF012

    import sys
    from types import ModuleType

    module = ModuleType("pets_of_a_test")
    module.make = lambda: Pets([(1.0, 0)])  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    source = load_own("pets_of_a_test:make", path=None, options={}, inputs=(TensorSpec("x", ()),),
                      labels=LabelSpec(count=3), class_names=FRUIT)  # fmt: skip
    assert source.labels.tolist() == [2] and class_names_of(source) == FRUIT


@pytest.mark.parametrize("run", [FRUIT, ()])
def test_a_path_one_level_too_high_is_told(run: tuple[str, ...], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in FRUIT:
        (tmp_path / "train" / name).mkdir(parents=True)
        image.new("L", (2, 2)).save(tmp_path / "train" / name / "0.png")
    with pytest.raises(DataError, match=f"set data.path to {tmp_path / 'train'}"):
        load_own("image_folder", path=tmp_path, options={}, inputs=(TensorSpec("x", (1, 2, 2)),),
                 labels=LabelSpec(count=3), class_names=run)  # fmt: skip


@pytest.mark.parametrize("names", [["", "a"], ["a", "a"], ["a" * 300], ["a\n"], [" "]])
def test_what_cannot_be_names_is_told(names: list[str]) -> None:
    assert problem_of(names)


def test_names_in_words() -> None:
    assert listed([str(i) for i in range(14)]).endswith("11 and 2 more")
    assert nearest("quite another", FRUIT) is None
    assert problem_of(FRUIT) is None
