"""What a client says of its own data before a run: names, dtypes, shapes, and figures of a sample of it.

Shape letters: B samples in a batch, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.skipped import Skipped
from heron_core.data.source import Source
from heron_core.labels import LabelSpec

if TYPE_CHECKING:
    from heron_core.data.contract import InputContract

LOOKED_AT = 256
"""Samples that the figures are of, where there are as many."""
MOST_CHANNELS = 64
"""A first axis longer than this is no axis of channels: the whole input counts as one."""
ROWS = 16
"""Samples that are held at a time."""


@dataclass(frozen=True)
class InputFacts:
    """One input of the model, as this client's samples fill it; the figures are of what the model gets."""

    name: str
    stored_dtype: str
    """Of the file or of the user's arrays, before it became what the model takes: uint8 where pixels were scaled."""
    shape: tuple[int, ...]
    looked_at: int
    """Samples that the figures are of, evenly spread over the data."""
    low: tuple[float, ...]
    """Of each channel, as the next three; one for the whole input where it has no axis of channels."""
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def whole_mean(self) -> float:
        """Over all channels, which are equally large."""
        return sum(self.mean) / len(self.mean)

    @property
    def whole_std(self) -> float:
        """Over all channels: the spread within them and between them."""
        middle = self.whole_mean
        return sqrt(sum(s * s + (m - middle) ** 2 for m, s in zip(self.mean, self.std, strict=True)) / len(self.mean))

    def __str__(self) -> str:
        """`uint8 [3, 32, 32], from -1 to 1, mean 0.12, standard deviation 0.5`."""
        return (
            f"{self.stored_dtype} {list(self.shape)}, from {min(self.low):.4g} to {max(self.high):.4g}, "
            f"mean {self.whole_mean:.4g}, standard deviation {self.whole_std:.4g}"
        )


@dataclass(frozen=True)
class DataFacts:
    """What a client knows of its own data."""

    class_names: tuple[str, ...]
    """In label order; empty where the source knows none."""
    samples: int
    inputs: tuple[InputFacts, ...]
    """In the model's order."""
    skipped: Skipped = field(default_factory=Skipped)
    contract: InputContract | None = None
    """How stored values become the inputs; None where nobody said it."""

    def comparable(self, inputs: Sequence[TensorSpec]) -> DataFacts:
        """Without what is integers to the model: the figures of a vocabulary's ids say nothing of a scale."""
        kept = tuple(facts for facts, spec in zip(self.inputs, inputs, strict=True) if spec.is_floating)
        return replace(self, inputs=kept)


def facts_of(source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec, most: int = LOOKED_AT) -> DataFacts:
    """Reads up to `most` samples, evenly spread. `source` must have one at least. Raises DataError for one that fails.

    A source may have `class_names` (texts in label order), `stored_dtypes` (one text an input) and `skipped`. One that
    stands around another has it as `wraps`: names are those of the outermost that has any, dtypes of the innermost.
    """
    places = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(np.int64))
    measuring = Measuring(source, inputs)
    for start in range(0, len(places), ROWS):
        measuring.add(source.batch(places[start : start + ROWS])[0])
    return measuring.facts(labels)


class Measuring:
    """Running figures of a source's inputs, batch by batch."""

    def __init__(self, source: Source, inputs: Sequence[TensorSpec]) -> None:
        self._source = source
        stored = stored_dtypes_of(source) or ("",) * len(inputs)
        self._figures = [_Figures(spec, dtype) for spec, dtype in zip(inputs, stored, strict=True)]
        self.looked_at = 0

    def add(self, arrays: Sequence[Array]) -> None:
        """One batch: an array [B, ...] for each input."""
        for figure, array in zip(self._figures, arrays, strict=True):
            figure.add(array)
        self.looked_at += len(arrays[0])

    def facts(self, labels: LabelSpec) -> DataFacts:
        """Of all that was added."""
        names = class_names_of(self._source) if labels.shape == () else ()
        inputs = tuple(figure.facts(self.looked_at) for figure in self._figures)
        return DataFacts(names, len(self._source), inputs, skipped_of(self._source))


def class_names_of(source: object) -> tuple[str, ...]:
    """In label order; empty where the source, or the one that it is a part of, knows none."""
    return next((names for each in _chain(source) if (names := _texts(each, "class_names"))), ())


def stored_dtypes_of(source: object) -> tuple[str, ...]:
    """Of each input, before it became what the model takes; empty where the source does not say."""
    return _texts(_chain(source)[-1], "stored_dtypes")


def skipped_of(source: object) -> Skipped:
    """What the source, and those around it, passed over."""
    found = Skipped()
    for each in _chain(source):
        own = getattr(each, "skipped", None)
        found += own if isinstance(own, Skipped) else Skipped()
    return found


def changed_of(source: object) -> Skipped:
    """What the source had to change in the samples that were read so far; nothing where it does not say."""
    own = getattr(_chain(source)[-1], "changed", None)
    return own if isinstance(own, Skipped) else Skipped()


def _chain(source: object) -> list[object]:
    """The source, and what it wraps: a part of another one, or one whose batches are checked."""
    chain = [source]
    while (within := getattr(chain[-1], "wraps", None)) is not None:
        chain.append(within)
    return chain


def _texts(source: object, name: str) -> tuple[str, ...]:
    given = getattr(source, name, ())
    known = isinstance(given, list | tuple) and all(isinstance(text, str) for text in given)
    return tuple(given) if known else ()


class _Figures:
    """Running figures of one input, in float64; a shift keeps a large mean from swallowing a small spread."""

    def __init__(self, spec: TensorSpec, stored_dtype: str) -> None:
        self._spec, self._stored = spec, stored_dtype
        by_channel = not spec.variable and spec.is_floating and spec.shape and 0 < spec.shape[0] <= MOST_CHANNELS
        self._channels = spec.shape[0] if by_channel else 1
        self._count = 0
        self._shift = np.zeros(self._channels)
        self._sum, self._squares = np.zeros(self._channels), np.zeros(self._channels)
        self._low, self._high = np.full(self._channels, np.inf), np.full(self._channels, -np.inf)

    def add(self, array: Array) -> None:
        """One batch [B, ...]."""
        self._stored = self._stored or array.dtype.name
        values = self._by_channel(array)
        if not values.shape[1]:
            return
        if not self._count:
            self._shift = values.mean(axis=1)
        self._count += values.shape[1]
        self._low, self._high = np.minimum(self._low, values.min(axis=1)), np.maximum(self._high, values.max(axis=1))
        values -= self._shift[:, None]
        self._sum, self._squares = self._sum + values.sum(axis=1), self._squares + np.square(values).sum(axis=1)

    def _by_channel(self, array: Array) -> NDArray[np.float64]:
        """[C, values of the whole batch]."""
        values = array.reshape(len(array), self._channels, -1).swapaxes(0, 1).reshape(self._channels, -1)
        return values.astype(np.float64)

    def facts(self, looked_at: int) -> InputFacts:
        """What was found; all is 0 where no sample held a value."""
        shifted = self._sum / max(self._count, 1)
        spread = np.sqrt(np.maximum(self._squares / max(self._count, 1) - np.square(shifted), 0))
        low, high = (np.where(np.isfinite(edge), edge, 0) for edge in (self._low, self._high))
        columns = (tuple(float(value) for value in c) for c in (low, high, self._shift + shifted, spread))
        return InputFacts(self._spec.name, self._stored, self._spec.shape, looked_at, *columns)
