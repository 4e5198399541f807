"""A source whose labels follow the run's class names, whatever its own order is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.class_names import listed, nearest, normal, problem_of
from heron_core.data.facts import class_names_of
from heron_core.data.source import Batch, Source
from heron_core.errors import DataError

SET_NAMES = "set data.class_names in the run file to the run's classes, in the order of their labels"


class Named:
    """The samples of `source`, whose label i becomes `places[i]`: the place of its name in `class_names`."""

    def __init__(self, source: Source, class_names: Sequence[str], places: Sequence[int]) -> None:
        self.wraps, self.class_names = source, tuple(class_names)
        self._places = np.array(places, dtype=np.int64)

    @property
    def labels(self) -> Array:
        """int64 [N], in the run's order."""
        return self._placed(self.wraps.labels)

    def __len__(self) -> int:
        return len(self.wraps)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices."""
        inputs, labels = self.wraps.batch(indices)
        return inputs, self._placed(labels)

    def _placed(self, labels: Array) -> Array:
        """A label that has no name stays what it is, and is refused where labels are checked."""
        known = (labels >= 0) & (labels < len(self._places))
        return np.where(known, self._places[np.where(known, labels, 0)], labels)


def by_name(source: Source, class_names: Sequence[str], classes: int, folder: Path | None = None) -> Source:
    """The source with its labels in the run's order, where it knows the names of its own.

    `class_names`: the run's; empty where they are not known yet: then the source's own order is kept, and its names
    must be as many as the model has `classes`. Names without a sample that are none of the run's are passed over.
    `folder`: holds a sub-folder for each of the source's names. Raises DataError, which names the culprit.
    """
    found = class_names_of(source)
    if not found:
        return source
    if problem := problem_of(found):
        raise DataError(f"{problem}; rename one{f' in {folder}' if folder else ''}")
    wanted = [normal(name) for name in class_names] or _own_names(source, found, classes, folder)
    place = {name: label for label, name in enumerate(wanted)}
    places = [place.get(normal(name), -1) for name in found]
    for label, name in enumerate(found):
        if places[label] < 0 and (source.labels == label).any():
            raise DataError(_foreign(name, wanted, folder))
    return Named(source, wanted, places)


def _own_names(source: Source, found: Sequence[str], classes: int, folder: Path | None) -> list[str]:
    """Those of a source that is the first to know any."""
    names = [normal(name) for name in found]
    if len(names) > classes:
        used = set(np.unique(source.labels).tolist())
        names = [name for label, name in enumerate(names) if label in used]
    if len(names) != classes:
        raise DataError(
            f"{folder or 'the data'} has {len(names)} classes ({listed(names)}), the model tells {classes} apart, and "
            f"nobody has named the run's classes yet; {SET_NAMES}, or mend model.classes"
        )
    return names


def _foreign(name: str, wanted: Sequence[str], folder: Path | None) -> str:
    what = str(folder / name) if folder else f"the data's class {name!r}"
    said = f"{what} is none of the run's classes ({listed(wanted)})"
    near = nearest(name, wanted)
    if near is None:
        return f"{said}; move it away, or give it the name of the class that it is"
    if near[1]:
        return f"{said}: {name!r} and {near[0]!r} differ in upper and lower case; rename it to {near[0]!r}"
    return f"{said}; rename it to {near[0]!r} if it is that one, else move it away"
