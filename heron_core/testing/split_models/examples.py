"""Made-up batches that fit a spec, and the global random state that nobody may disturb.

Shape letters: B samples in a batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from heron_core.arrays import Array, TensorSpec
from heron_core.labels import IGNORED, LabelSpec
from heron_core.streams import generator, seeded_torch


def example_inputs(specs: Sequence[TensorSpec], rows: int, length: int = 0) -> tuple[Array, ...]:
    """A batch [B, ...] of each spec: normal floats, integers of its range. `length` 0: sequences at their longest."""
    return tuple(_example(spec, rows, length) for spec in specs)


def example_labels(spec: LabelSpec, rows: int, length: int = 0) -> Array:
    """Labels [B, ...] as the task wants them; where positions may be ignored, all of the first sample's are."""
    labels = _example(spec.tensor, rows, length)
    if spec.maskable:
        labels[0] = IGNORED
    return labels


def _example(spec: TensorSpec, rows: int, length: int) -> Array:
    rng, shape = generator(0, "example", spec.name), (rows, *(spec.sized(length) if length else spec.shape))
    if np.dtype(spec.dtype).kind == "f":
        return np.asarray(rng.standard_normal(shape), dtype=spec.dtype)
    return np.asarray(rng.integers(0, spec.count or 2, shape), dtype=spec.dtype)


def random_states() -> dict[str, str]:
    """The global random states that a library must leave as they are, by the name of what draws from them."""
    return {
        "random": repr(random.getstate()),
        "numpy.random": repr(np.random.get_state()),
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }


@contextmanager
def other_random_state() -> Iterator[None]:
    """Inside, all global random states are others, as in another process; after, they are what they were."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(random.random())
    np.random.seed(np.random.randint(2**31))
    try:
        with seeded_torch(torch.initial_seed() % 2**31, "another process"):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
