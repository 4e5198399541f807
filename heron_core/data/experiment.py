"""Experiment data: what each side loads by the run spec, and each client's share of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import TensorSpec
from heron_core.data.partition import class_histogram, dirichlet, iid, shards, whole_groups
from heron_core.data.sensor import Sensor
from heron_core.data.source import Source, Subset
from heron_core.data.sources.asked import TextAsked
from heron_core.data.sources.holdout import groups_of, split_holdout
from heron_core.errors import DataError
from heron_core.streams import generator

if TYPE_CHECKING:
    from heron_core.data.contract import InputContract
    from heron_core.spec.data import DataSpec


@dataclass(frozen=True)
class Experiment:
    """Train and test samples of one run, the limits applied.

    With data.validation, `test` is what was set apart of the training half.
    """

    train: Source
    test: Source


def load_experiment(
    spec: DataSpec, seed: int, folder: Path | None = None, *, cache_dir: Path | None = None,
    text: TextAsked | None = None,
) -> Experiment:  # fmt: skip
    """The experiment's data. `folder` (None: $HERON_DATA) is for cifar10 and arrays, `cache_dir` (None: the user's)
    for cifar10, `text` for e2e and restaurants.

    Raises DataError if it is missing, cannot be read, or has fewer samples than a limit asks for.
    """
    train: Source
    test: Source
    if spec.source == "digits":
        from heron_core.data.sources import digits

        train, test = digits.load(_sensor(spec, seed, digits.INPUT_SHAPE))
    elif spec.source == "cifar10":
        from heron_core.data.sources import cifar10

        train, test = cifar10.load(folder, cache_dir, _sensor(spec, seed, cifar10.INPUT_SHAPE))
    elif spec.source == "arrays":
        from heron_core.data.sources import arrays

        train, test = arrays.load(spec, seed, folder)
    elif spec.source in ("e2e", "restaurants"):
        from heron_core.data.sources.text import load_experiment_text

        train, test = load_experiment_text(spec, text)
    else:
        raise DataError(
            f"data.source = {spec.source!r} is no experiment data: each client's own file names its data; "
            "set digits, cifar10, arrays, e2e or restaurants in the run spec for shared data"
        )
    training = _limited(_in_range(train, spec.train_range), spec.train_limit, seed, "train")
    if spec.validation and spec.partition == "groups":
        return Experiment(*split_holdout(training, spec.validation, seed, "experiment", "validation", "group"))
    if spec.validation:
        return Experiment(*_set_apart(training, spec.validation, seed))
    return Experiment(training, _limited(test, spec.test_limit, seed, "test"))


def experiment_contract(source: str, spec: TensorSpec) -> InputContract:
    """How the stored values of digits and cifar10 become the model's input `spec`. Needs no files."""
    from heron_core.data.sources import cifar10, digits

    assert source in ("digits", "cifar10"), source
    return digits.contract(spec) if source == "digits" else cifar10.contract(spec)


def client_share(experiment: Experiment, spec: DataSpec, seed: int, rank: int, clients: int) -> Source:
    """The training samples of the client at `rank`. Raises DataError if any part would be empty."""
    return Subset(experiment.train, _part(_parts(experiment.train, spec, seed, clients), rank))


class Shares:
    """Experiment data loaded and divided once, for all the clients of one process."""

    def __init__(self) -> None:
        self._divided: dict[tuple[str, int, Path | None, int], tuple[Source, list[NDArray[np.int64]]]] = {}

    def of(
        self, spec: DataSpec, seed: int, folder: Path | None, rank: int, clients: int, text: TextAsked | None = None
    ) -> Source:
        """As `client_share` of `load_experiment`; raises DataError."""
        key = (spec.model_dump_json(), seed, folder, clients)
        if key not in self._divided:
            train = load_experiment(spec, seed, folder, text=text).train
            self._divided[key] = (train, _parts(train, spec, seed, clients))
        train, parts = self._divided[key]
        return Subset(train, _part(parts, rank))


def share_sizes(experiment: Experiment, spec: DataSpec, seed: int, clients: int) -> list[int]:
    """Training samples of each client by rank. Raises DataError if any part would be empty."""
    return [len(part) for part in _parts(experiment.train, spec, seed, clients)]


def share_counts(experiment: Experiment, spec: DataSpec, seed: int, clients: int, classes: int) -> list[list[int]]:
    """Training samples of each class, of each client by rank. Raises DataError if any part would be empty."""
    labels = experiment.train.labels
    return [class_histogram(labels[part], classes) for part in _parts(experiment.train, spec, seed, clients)]


def _parts(train: Source, spec: DataSpec, seed: int, clients: int) -> list[NDArray[np.int64]]:
    if spec.partition == "groups":
        return whole_groups(groups_of(train), clients, seed)
    if spec.partition == "dirichlet":
        return dirichlet(train.labels, clients, seed, spec.alpha)
    if spec.partition == "shards":
        return shards(train.labels, clients, seed, spec.shards_per_client)
    return iid(np.arange(len(train)), clients, seed)


def _part(parts: list[NDArray[np.int64]], rank: int) -> NDArray[np.int64]:
    if not 0 <= rank < len(parts):
        raise DataError(f"rank must be 0 to {len(parts) - 1}, got {rank}; the data has {len(parts)} parts")
    return parts[rank]


def _sensor(spec: DataSpec, seed: int, input_shape: tuple[int, ...]) -> Sensor | None:
    return None if spec.sensor.is_plain else Sensor(spec.sensor, seed, input_shape[0])


def _set_apart(source: Source, share: float, seed: int) -> tuple[Source, Source]:
    """(rest, set apart): the latter is the first `share` of a seeded permutation, at least one sample."""
    number = max(1, round(share * len(source)))
    if number >= len(source):
        raise DataError(
            f"data.validation = {share:g} of {len(source)} training samples leaves none to train on; lower it"
        )
    order = generator(seed, "validation").permutation(len(source))
    return Subset(source, np.sort(order[number:])), Subset(source, np.sort(order[:number]))


def _in_range(source: Source, wanted: tuple[int, ...]) -> Source:
    if not wanted:
        return source
    if len(wanted) != 2 or not wanted[0] < wanted[1] <= len(source):
        raise DataError(
            f"data.train_range = [first, end] must lie in 0 to {len(source)} and hold a sample, got {list(wanted)}; "
            "change it, or leave it out for all"
        )
    return Subset(source, np.arange(*wanted))


def _limited(source: Source, limit: int, seed: int, half: str) -> Source:
    if limit == 0:
        return source
    if limit > len(source):
        raise DataError(
            f"data.{half}_limit = {limit}, but there are {len(source)} samples; lower it, or 0 for all"
        )
    order = generator(seed, "limit", half).permutation(len(source))
    return Subset(source, np.sort(order[:limit]))
