"""A user's own dataset as a source, by duck typing.

Shape letters: B samples in a batch, N samples in the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.own.cures import input_cure, label_cure
from heron_core.data.source import Batch
from heron_core.errors import DataError
from heron_core.labels import IGNORED, LabelSpec
from heron_core.own_code import said_by

ONE_INPUT = (TensorSpec("x", ()),)


class AdaptedDataset:
    """`len(dataset)` and `dataset[i] -> (x, label)`, CPU tensors or arrays.

    x: where the model has several inputs, a tuple in its order or a mapping by name. Floating point becomes float32.
    Sequences of varying length are padded to the longest of their batch: inputs by 0, labels by IGNORED. Labels of all
    samples are found by reading each once, when first asked for. Random augmentation must come from i alone, or the
    same run twice is not the same run. Raises DataError, naming the sample, for whatever else comes.
    """

    def __init__(self, dataset: Any, inputs: Sequence[TensorSpec] = ONE_INPUT, labels: LabelSpec | None = None) -> None:
        self._dataset, self._inputs, self._labels = dataset, inputs, labels or LabelSpec()
        self._name = type(dataset).__name__
        self.groups: object = getattr(dataset, "groups", None)
        """Whose each sample is, where the dataset says."""
        if isinstance(dataset, type):
            name = dataset.__name__
            raise DataError(f"a dataset is wanted, got the class {name} itself; return {name}(...)")
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(f"a dataset needs __len__ and __getitem__, {self._name} lacks them; add them")

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order: the dataset's `class_names`, or its `classes` where they are as many as the model's."""
        named: object = getattr(self._dataset, "class_names", None)
        counted: object = getattr(self._dataset, "classes", None)
        if named is None and _is_texts(counted) and len(counted) == self._labels.classes:
            named = counted
        return tuple(named) if _is_texts(named) else ()

    @cached_property
    def labels(self) -> Array:
        """Of all samples, [N, ...]; each is read once."""
        found = [self._label(i, self._read(i)[1]) for i in range(len(self))]
        return self._together(self._labels.tensor, list(range(len(self))), found, IGNORED)

    def __len__(self) -> int:
        try:
            return len(self._dataset)
        except (Exception, SystemExit) as error:  # a user's code may raise anything, and Python itself below 0
            raise DataError(f"len of {self._name} failed: {said_by(error)}; mend it") from error

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices."""
        places = [int(i) for i in indices]
        samples = [self._sample(i) for i in places]
        inputs = tuple(
            self._together(spec, places, [x[number] for x, _ in samples], 0) for number, spec in enumerate(self._inputs)
        )
        return inputs, self._together(self._labels.tensor, places, [label for _, label in samples], IGNORED)

    def _sample(self, i: int) -> tuple[list[Array], Array]:
        """One array for each of the model's inputs, and the label."""
        x, label = self._read(i)
        inputs, found = self._inputs_of(i, x), self._label(i, label)
        self._check_lengths(i, inputs, found)
        return inputs, found

    def _read(self, i: int) -> tuple[Any, Any]:
        try:
            sample = self._dataset[i]
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            raise DataError(f"{self._name}[{i}] failed: {said_by(error)}") from error
        if not isinstance(sample, Sequence) or len(sample) != 2:
            raise DataError(f"{self._name}[{i}] must be a pair (x, label), got {type(sample).__name__}")
        return sample[0], sample[1]

    def _check_lengths(self, i: int, x: Sequence[Array], label: Array) -> None:
        """Of one sample whose length varies: no input too long, and the labels as long as one of the inputs."""
        varying = [(spec, array) for spec, array in zip(self._inputs, x, strict=True) if spec.variable]
        for spec, array in [*varying, *([(self._labels.tensor, label)] if self._labels.variable else [])]:
            if not spec.has_shape(array.shape):
                raise DataError(f"{self._name}[{i}]: {spec.name} must be {spec}, got {list(array.shape)}; cut it")
        lengths = [len(array) for _, array in varying]
        if self._labels.variable and lengths and len(label) not in lengths:
            raise DataError(
                f"{self._name}[{i}]: a label for each place of the sequence is wanted, {lengths[0]} here, got "
                f"{len(label)}; mark what does not count by {IGNORED}"
            )

    def _inputs_of(self, i: int, x: Any) -> list[Array]:
        names = [spec.name for spec in self._inputs]
        if isinstance(x, Mapping):
            if missing := [name for name in names if name not in x]:
                raise DataError(f"{self._name}[{i}]: x lacks {', '.join(missing)}, it has {', '.join(map(str, x))}")
            x = [x[name] for name in names]
        elif len(names) == 1:
            x = [x]
        elif not isinstance(x, Sequence) or len(x) != len(names):
            raise DataError(f"{self._name}[{i}]: x must be {len(names)} arrays ({', '.join(names)}) or a mapping")
        return [self._input(i, spec, value) for spec, value in zip(self._inputs, x, strict=True)]

    def _input(self, i: int, spec: TensorSpec, value: Any) -> Array:
        array = self._array(i, spec.name, value)
        if np.dtype(spec.dtype).kind == "f":
            if array.dtype.kind != "f":
                raise DataError(
                    f"{self._name}[{i}]: {spec.name} must be floating point, got {array.dtype}; "
                    f"{input_cure(array, spec.dtype, 'numpy.asarray(x)')}"
                )
        elif array.dtype.kind not in "iub":
            cure = input_cure(array, spec.dtype, "numpy.asarray(x)")
            raise DataError(f"{self._name}[{i}]: {spec.name} must be integers, got {array.dtype}; {cure}")
        return np.asarray(array, dtype=spec.dtype, order="C")

    def _label(self, i: int, value: Any) -> Array:
        spec, array = self._labels, self._array(i, "label", value)
        if spec.shape == ():
            if array.size != 1 or array.dtype.kind not in "iu":
                raise DataError(
                    f"{self._name}[{i}]: the label must be one integer, the class from 0, "
                    f"got {array.dtype} {list(array.shape)}; "
                    f"{label_cure(array[None], spec.classes, 'numpy.asarray(label)')}"
                )
            return array.astype(np.int64).reshape(())
        if spec.shape == (1,) and array.shape == ():
            array = array.reshape(1)
        if (array.dtype.kind == "f") != (np.dtype(spec.dtype).kind == "f") or array.dtype.kind not in "iubf":
            raise DataError(f"{self._name}[{i}]: the label must be {spec}, got {array.dtype}; convert it")
        return array.astype(spec.dtype)

    def _array(self, i: int, what: str, value: Any) -> Array:
        try:
            return np.asarray(value)
        except Exception as error:  # a tensor on an accelerator, one that wants a gradient, bfloat16
            raise DataError(
                f"{self._name}[{i}]: {what} must be an array or a plain CPU tensor, got {type(value).__name__}: {error}"
            ) from error

    def _together(self, spec: TensorSpec, places: list[int], arrays: list[Array], fill: int) -> Array:
        """[B, ...]; of varying length, padded by `fill` to the longest."""
        if not arrays:
            return np.empty((0, *spec.shape), dtype=spec.dtype)
        if spec.variable:
            return padded(arrays, fill)
        for i, array in zip(places, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise DataError(
                    f"{self._name}[{i}]: {spec.name} must have the shape of the others, {list(arrays[0].shape)}, "
                    f"got {list(array.shape)}; resize or pad it"
                )
        return np.stack(arrays)


def specs_of_first(dataset: object) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What the first sample of a user's dataset is: a tuple is several inputs. Raises DataError where there is none."""
    adapted = AdaptedDataset(dataset)
    if not len(adapted):
        raise DataError("the data holds no samples, at least one is needed; mend the factory")
    x, label = adapted._read(0)
    if isinstance(x, Mapping):
        named = {str(name): value for name, value in x.items()}
    else:
        named = {f"x[{i}]": value for i, value in enumerate(x)} if isinstance(x, tuple) else {"x": x}
    arrays = {name: adapted._array(0, name, value) for name, value in named.items()}
    inputs = tuple(TensorSpec(name, array.shape, _kept_as(array)) for name, array in arrays.items())
    found = adapted._array(0, "label", label)
    number = found.dtype.kind == "f" and found.shape == ()
    return inputs, LabelSpec((1,) if number else found.shape, _kept_as(found))


def _is_texts(given: object) -> TypeGuard[Sequence[str]]:
    return isinstance(given, list | tuple) and all(isinstance(text, str) for text in given)


def _kept_as(array: Array) -> str:
    return "float32" if array.dtype.kind == "f" else "int64"


def padded(arrays: Sequence[Array], fill: int) -> Array:
    """[B, ...]: the arrays, of differing length, filled up to the longest."""
    longest = max(len(array) for array in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
