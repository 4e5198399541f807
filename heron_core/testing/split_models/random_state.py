"""The global random state that nobody may disturb."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from heron_core.streams import seeded_torch


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
