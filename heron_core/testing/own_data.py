"""From what a user names to a source, and what its samples are where no model says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from heron_core.arrays import TensorSpec
from heron_core.config import expanded
from heron_core.data.adapted import specs_of_first
from heron_core.data.source import Source
from heron_core.data.sources.own import KINDS, as_source, call_factory, is_source, load_own
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.testing.report import Factory


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
    if kind in KINDS:
        path = _place(name)
        specs = wanted or Specs(*KINDS[kind].specs(path, options))
        table, names = KINDS[kind].own_table(path, options)
        source = load_own(
            kind, path=path, options=options, inputs=specs.inputs, labels=specs.labels, class_names=names, table=table
        )
        return source, specs
    made = _made(factory, options)
    specs = wanted or _specs_of(made)
    return as_source(made, *specs), specs


def _place(name: str) -> Path:
    try:
        return expanded(name)
    except ValueError as error:
        raise DataError(f"{name!r}: {error}") from None


def _made(factory: Factory, options: Mapping[str, object]) -> object:
    if isinstance(factory, str):
        if ":" not in factory:
            named = ", ".join(f"{kind}:PATH" for kind in KINDS)
            raise DataError(f"expected package.module:factory or one of {named}; name it so")
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
