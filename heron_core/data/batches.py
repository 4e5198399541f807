"""The order of batches: a permutation for each client and pass over its data, the last partial batch dropped.

A position counts a client's batches from the start of the run: round x local steps + step. What it selects
depends on the seed, the rank and the client's own number of samples (with data.text.by_length on their lengths too),
on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heron_core.errors import DataError
from heron_core.streams import generator


class BatchOrder:
    """One client's batches; keeps the permutation of the pass it was last asked for.

    Raises DataError if the samples do not fill one batch.
    """

    def __init__(
        self, seed: int, rank: int, num_samples: int, batch_size: int, lengths: NDArray[np.int64] | None = None,
        pool: int = 0,
    ) -> None:  # fmt: skip
        """`lengths` of the samples [num_samples]: with `pool` > 0, so many batches at a time hold alike lengths."""
        if num_samples < batch_size:
            raise DataError(
                f"client rank {rank} has {num_samples} samples, one batch needs {batch_size}; "
                "lower method.batch_size or give it more data"
            )
        self.batches_per_pass = num_samples // batch_size
        self._seed = seed
        self._rank = rank
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._lengths = lengths if pool else None
        self._pool = pool
        self._pass = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def at(self, position: int) -> NDArray[np.int64]:
        """Sample indices int64 [batch_size] of the batch at `position` >= 0."""
        assert position >= 0, position
        number, place = divmod(position, self.batches_per_pass)
        if number != self._pass:
            rng = generator(self._seed, "batches", "client", self._rank, "pass", number)
            self._order = rng.permutation(self._num_samples)
            if self._lengths is not None:
                self._order = by_length(self._order, self._lengths, self._batch_size, self._pool, rng)
            self._pass = number
        start = place * self._batch_size
        return self._order[start : start + self._batch_size].copy()


def by_length(
    order: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, pool: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The order without its last partial batch, so that `pool` batches at a time are sorted by length, and the batches
    then come in an order of `rng`."""
    whole = order[: len(order) // batch_size * batch_size]
    batches = [
        batch
        for start in range(0, len(whole), pool * batch_size)
        for part in [whole[start : start + pool * batch_size]]
        for batch in part[np.argsort(lengths[part], kind="stable")].reshape(-1, batch_size)
    ]
    return np.concatenate([batches[i] for i in rng.permutation(len(batches))])


def batch_indices(
    seed: int, rank: int, position: int, num_samples: int, batch_size: int
) -> NDArray[np.int64]:
    """Sample indices int64 [batch_size] of one batch, as BatchOrder gives them."""
    return BatchOrder(seed, rank, num_samples, batch_size).at(position)
