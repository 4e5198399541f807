"""From what a user names to a source, and what its samples are where no model says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from heron_core.arrays import Array, TensorSpec
from heron_core.data.adapted import specs_of_first
from heron_core.data.source import Source
from heron_core.data.sources.npz import read_npz
from heron_core.data.sources.own import as_source, call_factory, is_source, load_own
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.testing.report import Factory

FILES = ("npz", "image_folder")
IMAGE = TensorSpec("x", (3, 32, 32))
"""What the images of a folder are resized to where no model says it."""


class Specs(NamedTuple):
    """What one sample is."""

    inputs: tuple[TensorSpec, ...]
    labels: LabelSpec

    def __str__(self) -> str:
        """`x float32 [30] with labels one int64 class in 0..1`."""
        return f"{', '.join(f'{spec.name} {spec}' for spec in self.inputs)} with labels {self.labels}"


def open_data(factory: Factory, options: Mapping[str, object], wanted: Specs | None) -> tuple[Source, Specs]:
    """The data, and what its samples are: what is `wanted`, else what the first one is. Raises DataError."""
    kind, _, name = factory.partition(":") if isinstance(factory, str) else ("", "", "")
    if kind in FILES:
        path = Path(name).expanduser()
        specs = wanted or (_specs_of_npz(path) if kind == "npz" else Specs((IMAGE,), LabelSpec()))
        return load_own(kind, path=path, options=options, inputs=specs.inputs, labels=specs.labels), specs
    made = _made(factory, options)
    specs = wanted or _specs_of(made)
    return as_source(made, *specs), specs


def _made(factory: Factory, options: Mapping[str, object]) -> object:
    if isinstance(factory, str):
        if ":" not in factory:
            raise DataError("expected package.module:factory, npz:PATH or image_folder:PATH; name it so")
        return call_factory(factory, options)
    if not callable(factory):
        raise DataError(
            f"expected a function that returns a dataset, got a {type(factory).__name__}; hand over a function, as in "
            "check_dataset(lambda: dataset)"
        )
    return factory(**options)


def _specs_of(made: object) -> Specs:
    if not is_source(made):
        return Specs(*specs_of_first(made))
    if not len(made):
        raise DataError("the data holds no samples, at least one is needed; mend the factory")
    arrays, labels = made.batch(np.zeros(1, dtype=np.int64))
    names = ["x"] if len(arrays) == 1 else [f"x[{number}]" for number in range(len(arrays))]
    inputs = tuple(TensorSpec(name, a.shape[1:], a.dtype.name) for name, a in zip(names, arrays, strict=True))
    return Specs(inputs, LabelSpec(labels.shape[1:], labels.dtype.name))


def _specs_of_npz(path: Path) -> Specs:
    x, y = read_npz(path)
    return Specs((TensorSpec("x", x.shape[1:], _kept_as(x)),), LabelSpec(y.shape[1:], _kept_as(y)))


def _kept_as(array: Array) -> str:
    """Pixels become floating point, other integers stay."""
    return "int64" if array.dtype.kind in "iub" and array.dtype != np.uint8 else "float32"
