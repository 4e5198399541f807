"""The contract of a dataset or source: the same sample whenever it is asked for, as the model takes it.

Shape letters: B samples in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heron_core.arrays import Array
from heron_core.data.checks import batch_problem, check_source
from heron_core.data.source import Batch, Source
from heron_core.errors import DataError, HeronError
from heron_core.testing.own_data import Specs, open_data
from heron_core.testing.report import Checks, Factory, Report, difference, name_of, one_line

if TYPE_CHECKING:
    from heron_core.models.split_model import SplitModel

TOGETHER = 8
"""Samples that are also asked for as one batch."""


def check_dataset(
    factory: Factory,
    model: SplitModel | Factory | None = None,
    *,
    options: Mapping[str, object] | None = None,
    most: int = 0,
) -> Report:
    """Reads every sample twice, by itself, and some of them as a batch.

    `factory` returns a dataset (`len(d)`, `d[i] -> (x, label)`) or a Source, or is a name: `package.module:factory`
    (called with `options`), or one of `KINDS`, as `npz:PATH`. `model`: whose inputs and labels the samples must be;
    without one, all must be like the first. `most`: samples to read, evenly spread; 0: all of them. Raises DataError,
    one line, for the first claim that does not hold; it names the sample and the place in it.
    """
    checks = Checks(name_of(factory), DataError)
    wanted = _wanted(checks, model)
    source, specs = checks.run("the data can be opened", lambda: open_data(factory, options or {}, wanted))
    places = _places(len(source), most)
    read_all = len(places) == len(source)
    samples = Samples(source, specs, like_first=wanted is None)
    how_many = f"all {len(source)} samples" if read_all else f"{len(places)} of {len(source)} samples"
    checks.run(f"{how_many} are {specs}, and the same when read again", lambda: samples.check_each(places))
    checks.run("a sample is the same in any batch", lambda: samples.check_together(places[:TOGETHER]))
    if read_all:
        checks.run("`labels` holds the labels of all samples", lambda: samples.check_labels(places[:TOGETHER]))
    if wanted is not None and read_all:
        checks.run("a run takes them", lambda: check_source(source, *wanted))
    return checks.report()


def _wanted(checks: Checks, model: SplitModel | Factory | None) -> Specs | None:
    if isinstance(model, str) or callable(model):
        factory: Factory = model
        from heron_core.testing.split_models.check import split_model  # torch, which data alone does not need

        model = checks.run("the model can be made", lambda: split_model(factory))
    return None if model is None else Specs(model.inputs, model.task.labels)


def _places(samples: int, most: int) -> list[int]:
    if not most or most >= samples:
        return list(range(samples))
    return [round(place) for place in np.linspace(0, samples - 1, most)]


class Samples:
    """Those of a source, each read with a message that names it."""

    def __init__(self, source: Source, specs: Specs, like_first: bool) -> None:
        self._source, self._specs, self._like_first = source, specs, like_first

    def read(self, places: Sequence[int]) -> Batch:
        """The samples at these places. Raises DataError."""
        which = f"sample {places[0]}" if len(places) == 1 else f"samples {list(places)}"
        try:
            batch = self._source.batch(np.array(places, dtype=np.int64))
        except HeronError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise DataError(f"{which} cannot be read: {type(error).__name__}: {one_line(error)}; mend it") from error
        self._check_kinds(which, batch)
        return batch

    def _check_kinds(self, which: str, batch: Batch) -> None:
        arrays, _ = batch
        if not isinstance(arrays, tuple) or len(arrays) != len(self._specs.inputs):
            raise DataError(
                f"{which}: batch must return a tuple of {len(self._specs.inputs)} inputs, and the labels, got "
                f"{type(arrays).__name__} of {len(arrays)}; return (x,), labels"
            )
        problem = self._unlike_first(batch) if self._like_first else batch_problem(batch, *self._specs)
        if problem:
            raise DataError(f"{which}: {problem}")

    def _unlike_first(self, batch: Batch) -> str | None:
        (arrays, labels), spec = batch, self._specs.labels
        for wanted, array in zip(self._specs.inputs, arrays, strict=True):
            if not wanted.fits(array):
                return (
                    f"{wanted.name} must be {wanted} like the first sample's, got {array.dtype} "
                    f"{list(array.shape[1:])}; convert it, or name the model, which says whether lengths may vary"
                )
            if problem := wanted.finite_problem(array):
                return f"{wanted.name} {problem}; mend the data"
        if problem := spec.problem(labels):
            return f"{problem}, as the first sample has them; mend the data"
        if spec.shape == () and labels.dtype.kind == "i" and labels.min() < 0:
            return f"the label must be a class from 0, got {labels.min()}; mend the data"
        return None

    def check_each(self, places: Sequence[int]) -> None:
        """Each sample, read twice by itself, has the same bits."""
        for place in places:
            first, second = self.read([place]), self.read([place])
            for name, one, two in zip(self._names, _arrays(first), _arrays(second), strict=True):
                if found := difference(one[0], two[0]):
                    raise DataError(
                        f"sample {place}: {name} must be the same whenever it is read, got {found}; let what is random "
                        "in it come from the index alone, as numpy.random.default_rng(i) does"
                    )

    def check_together(self, places: Sequence[int]) -> None:
        """Read as one batch in another order, each sample is what it is alone; what is padded ends with its padding."""
        together = _arrays(self.read(list(reversed(places))))
        for row, place in enumerate(reversed(places)):
            for name, one, many in zip(self._names, _arrays(self.read([place])), together, strict=True):
                alone, among = one[0], many[row]
                if alone.ndim == among.ndim and alone.ndim:
                    among = among[: len(alone)]
                if found := difference(alone, among):
                    raise DataError(
                        f"sample {place}: {name} must be the same alone and in a batch with others, got {found}; make "
                        "each sample from its own index"
                    )

    def check_labels(self, places: Sequence[int]) -> None:
        """What the source says of all labels is what the samples say. Reads each sample of a user's dataset once."""
        labels = self._source.labels
        for place in places:
            alone, among = self.read([place])[1][0], labels[place]
            if found := difference(alone, among[: len(alone)] if alone.ndim else among):
                raise DataError(f"sample {place}: its label must be the one in `labels`, got {found}; mend the source")

    @property
    def _names(self) -> list[str]:
        return [*(spec.name for spec in self._specs.inputs), "the label"]


def _arrays(batch: Batch) -> list[Array]:
    inputs, labels = batch
    return [*inputs, labels]
