"""An experiment from one `.npz` of one's own: what it may hold, its test part, and whole groups."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.arrays import Array
from heron_core.data import Source, client_share, load_experiment, share_sizes
from heron_core.data.partition import whole_groups
from heron_core.data.sources.holdout import groups_of
from heron_core.errors import DataError
from heron_core.spec.data import DataSpec

PEOPLE = np.repeat(np.arange(10), np.arange(2, 12)) * 7
"""Ten people with 2 to 11 samples each, whose numbers are not 0 to 9."""


def arrays(**changes: Any) -> dict[str, Array]:
    number = len(PEOPLE)
    held = {
        "x": np.arange(number * 6, dtype=np.float32).reshape(number, 2, 3), "y": np.arange(number) % 3,
        "groups": PEOPLE, **changes,
    }  # fmt: skip
    return {name: array for name, array in held.items() if array is not None}


def spec_of(folder: Path, table: dict[str, Any] | None = None, **changes: Any) -> DataSpec:
    np.savez(folder / "a.npz", **arrays(**changes))
    return DataSpec.model_validate({"source": "arrays", "file": "a.npz", **(table or {})})


def numbers(source: Source) -> set[int]:
    """Of the samples, which count up from 0."""
    return {int(first) // 6 for first in source.batch(np.arange(len(source)))[0][0][:, 0, 0]}


def people(source: Source) -> set[int]:
    return set(PEOPLE[sorted(numbers(source))].tolist())


def refused(folder: Path, table: dict[str, Any] | None = None, **changes: Any) -> str:
    spec = spec_of(folder, table, **changes)
    with pytest.raises(DataError) as caught:
        share_sizes(load_experiment(spec, 0, folder), spec, 0, 3)
    return str(caught.value)


@pytest.mark.parametrize("partition", ["iid", "dirichlet", "shards", "groups"])
def test_every_partition_deals_each_training_sample_once_and_none_of_the_test_part(
    partition: str, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, {"partition": partition})
    experiment = load_experiment(spec, 4, tmp_path)
    shares = [numbers(client_share(experiment, spec, 4, rank, 3)) for rank in range(3)]
    assert sum(map(len, shares)) == len(experiment.train)
    assert set.union(*shares) | numbers(experiment.test) == set(range(len(PEOPLE)))
    assert len(experiment.train) + len(experiment.test) == len(PEOPLE)


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_with_groups_nobody_stands_on_two_sides(validation: float, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {"partition": "groups", "test_share": 0.3, "validation": validation})
    experiment = load_experiment(spec, 1, tmp_path)
    shares = [people(client_share(experiment, spec, 1, rank, 3)) for rank in range(3)]
    sides = [*shares, people(experiment.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == (7 if validation else 10)
    assert len(people(experiment.test)) == (2 if validation else 3)
    tested = {seed: people(load_experiment(spec, seed, tmp_path).test) for seed in range(4)}
    assert tested[1] == people(experiment.test) and len(set(map(tuple, tested.values()))) > 1, "drawn by the seed"


def test_groups_are_dealt_the_largest_first_to_whoever_has_the_fewest() -> None:
    parts = whole_groups(PEOPLE, 3, 0)
    sizes = [len(part) for part in parts]
    assert sum(sizes) == 65 and max(sizes) - min(sizes) <= 2
    even = np.arange(12) // 2
    dealt = [str(whole_groups(even, 3, seed)) for seed in range(4)]
    assert dealt[1] == str(whole_groups(even, 3, 1)) and len(set(dealt)) > 1, "of one size: drawn by the seed"


def test_a_test_part_of_the_file_s_own_is_the_test_part(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, x_test=np.ones((4, 2, 3), np.float32), y_test=np.arange(4) % 3)
    experiment = load_experiment(spec, 0, tmp_path)
    assert (len(experiment.train), len(experiment.test)) == (65, 4)


def test_pixels_become_minus_1_to_1_and_integers_stay(tmp_path: Path) -> None:
    pixels = np.array([[[0, 255, 51]] * 2] * 65, dtype=np.uint8)
    (x,), _ = load_experiment(spec_of(tmp_path, x=pixels), 0, tmp_path).train.batch(np.arange(1))
    assert x.dtype == np.float32 and np.allclose(x[0, 0], [-1, 1, -0.6])
    (x,), _ = load_experiment(spec_of(tmp_path, x=pixels.astype(np.int32)), 0, tmp_path).train.batch(np.arange(1))
    assert x.dtype == np.int64 and x[0, 0].tolist() == [0, 255, 51]


def test_whose_a_sample_is_may_be_a_text(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {"partition": "groups"}, groups=PEOPLE.astype(str))
    assert len(set(groups_of(load_experiment(spec, 0, tmp_path).train))) == 8


def test_a_file_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    spec_of(tmp_path)
    found = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    load_experiment(spec_of(tmp_path, {"file_sha256": found}), 0, tmp_path)
    assert f"its SHA-256 is {found}, data.file_sha256 is {'0' * 64}" in refused(tmp_path, {"file_sha256": "0" * 64})


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec(source="arrays", file="people/b.npz")
    with pytest.raises(DataError, match=r"no file at .*people/b\.npz, which data\.file = 'people/b\.npz' names; put"):
        load_experiment(spec, 0, tmp_path)
    monkeypatch.delenv("HERON_DATA", raising=False)
    with pytest.raises(DataError, match=r"source arrays needs a data folder and none is named; set data\.folder"):
        load_experiment(spec, 0)


GROUPS = {"partition": "groups"}


@pytest.mark.parametrize(
    ("table", "changes", "says"),
    [
        (GROUPS, {"groups": None}, "holds no `groups` [N]; add it"),
        (GROUPS, {"groups": np.arange(65) % 3}, "deals whole groups to 3 clients, and there are 2 to train on"),
        (GROUPS, {"groups": np.zeros(65, int)}, "1 groups leave none to train on after test_share = 0.2"),
        ({}, {"groups": PEOPLE[1:]}, "groups must be integers or texts, one for each of 65 samples, got int64 [64]"),
        ({}, {"groups": PEOPLE / 7}, "groups must be integers or texts"),
        ({}, {"y": None}, "must hold arrays named x and y, it has x, groups; save it so"),
        ({}, {"y": PEOPLE.astype(str)}, "y must be numbers, classes from 0, got <U"),
        ({}, {"y": np.arange(64)}, "must hold the same number of samples"),
        ({}, {"x": np.full((65, 2), np.nan)}, "x must be finite"),
        ({}, {"x": np.array(1.0)}, "x must be [N, ...], got one number"),
        ({}, {"x_test": np.ones((4, 2, 3), np.float32)}, "x_test and y_test are a test part together"),
        ({}, {"x_test": np.ones((4, 2, 3)), "y_test": np.arange(4)}, "x_test must be float32, as x is, got float64"),
        ({}, {"x_test": np.ones((4, 2), np.float32), "y_test": np.arange(4)}, "x must be [N, 2, 3], got [4, 2]"),
        ({"test_share": 0.3}, {"x_test": np.ones((4, 2, 3), np.float32), "y_test": np.arange(4)},
         "has a test part of its own, x_test, and data.test_share is not used"),
        ({}, {"x": np.array([print] * 65, dtype=object)}, "is not a readable .npz of plain arrays"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_what_to_do(
    table: dict[str, Any], changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    assert says in refused(tmp_path, table, **changes)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"source": "arrays"}, 'source = "arrays" needs an .npz in each side'),
        ({"source": "arrays", "file": "../a.npz"}, "String should match pattern"),
        ({"source": "arrays", "file": "/a.npz"}, "String should match pattern"),
        ({"source": "arrays", "file": "a.npz", "sensor": {"blur": 1}}, "apply it in data.file"),
        ({"source": "digits", "partition": "groups"}, "digits does not say whose a sample is"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DataSpec.model_validate(table)
