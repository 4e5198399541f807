"""May a sample's activations be used again? Looked at before the first round, on the client's own samples."""

from __future__ import annotations

import numpy as np

from heron_client.compute.backend import Backend, LayeredBackend, MicroBatch
from heron_core.arrays import Array
from heron_core.data.source import Source
from heron_core.errors import ModelError

MOST_BATCHES = 8
AUGMENTED = "this client's data gives another sample each time that it is asked (augmentation?)"
ADVICE = (
    "with codec.reuse the run would end with other bits than without it; set codec.exact = false to reuse activations "
    "all the same, or codec.reuse = false"
)


def check_reuse(backend: Backend, source: Source, rows: int) -> None:
    """ModelError naming the layer, unless the same samples have the same bits beside others, in other places and with
    other random numbers, in micro-batches of so many rows."""
    state = backend.buffers()
    try:
        first = _window(source, rows, 0)
        for shift in range(1, 1 + MOST_BATCHES):
            other = _window(source, rows, shift)
            found = _apart(backend, first, other)
            if found is not None:
                raise ModelError(f"{found}; {ADVICE}")
    finally:
        backend.restore_buffers(state)


def check_samples(source: Source, rows: int) -> None:
    """ModelError where the data gives another sample each time."""
    if not _same_inputs(_window(source, rows, 0), _window(source, rows, 1)):
        raise ModelError(f"{AUGMENTED}; with codec.reuse every sample would be sent each time; set it to false")


Window = tuple[MicroBatch, list[int]]
"""A micro-batch, and the samples in it."""


def _window(source: Source, rows: int, shift: int) -> Window:
    """Samples from `shift` on, every second time in reverse."""
    numbers = (np.arange(rows) + shift) % len(source)
    numbers = numbers[::-1] if shift % 2 else numbers
    inputs, labels = source.batch(numbers)
    return MicroBatch(tuple(inputs), labels, ("reuse", "masks", shift)), numbers.tolist()


def _apart(backend: Backend, first: Window, other: Window) -> str | None:
    (batch, numbers), (again, others) = first, other
    if not _same_inputs(first, other):
        return AUGMENTED
    rows = _common(numbers, others)
    cut = [backend.forward(each, keep_activations=True).activations for each in (batch, again)]
    if all(_same(before[i], now[j]) for before, now in zip(*cut, strict=True) for i, j in rows):
        return None
    what = "the front"
    if isinstance(backend, LayeredBackend):
        layers = [backend.layer_outputs(each) for each in (batch, again)]
        names = (n for n in layers[0] if not all(_same(layers[0][n][i], layers[1][n][j]) for i, j in rows))
        what = next(names, what)
    return f"{what} gives a sample other activations beside other samples, or in another place of the micro-batch"


def _same_inputs(first: Window, other: Window) -> bool:
    (batch, numbers), (again, others) = first, other
    rows = _common(numbers, others)
    inputs = zip(batch.inputs, again.inputs, strict=True)
    return all(_same(before[i], now[j]) for before, now in inputs for i, j in rows)


def _common(numbers: list[int], others: list[int]) -> list[tuple[int, int]]:
    """Where the samples that are in both are."""
    return [(numbers.index(n), others.index(n)) for n in numbers if n in others]


def _same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()
