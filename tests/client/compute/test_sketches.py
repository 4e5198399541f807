"""How far activations have moved, from little of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from heron_client.compute.reuse.sketches import Sketches
from heron_core.wire.versions import SKETCH

ALL = np.arange(200)


def drawn(size: int, rows: int = 200) -> NDArray[np.float32]:
    return np.random.Generator(np.random.Philox(3)).standard_normal((rows, size), dtype=np.float32)


def moved_by(share: float, z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row by so much of its norm, in a hundredth of its numbers: as a few pixels of a map do."""
    few = max(1, z.shape[1] // 100)
    step = np.zeros_like(z)
    step[:, :few] = drawn(few, len(z))
    return z + share * step * (np.linalg.norm(z, axis=1) / np.linalg.norm(step, axis=1))[:, None].astype(np.float32)


@pytest.mark.parametrize("size", [1, 16, SKETCH, SKETCH + 1, 10_000])
def test_a_sample_has_moved_where_it_went_further_than_the_tolerance(size: int) -> None:
    sketches, z = Sketches(200, size, 0.05, seed=0), drawn(size)
    sketches.put(ALL, sketches.of([z]), before=0, upload=0)
    assert not sketches.moved(ALL, sketches.of([z])).any()
    assert not sketches.moved(ALL, sketches.of([moved_by(0.035, z)])).any()
    assert sketches.moved(ALL, sketches.of([moved_by(0.07, z)])).all()


def test_a_sketch_is_of_all_tensors_at_the_cut_and_small() -> None:
    sketches, z = Sketches(200, 3 * 4 * 100 + 60, 0.05, seed=0), drawn(1260)
    split = [z[:, :1200].reshape(200, 3, 4, 100), z[:, 1200:]]
    assert np.array_equal(sketches.of(split), sketches.of([z])) and sketches.of(split).shape == (200, SKETCH)


def test_what_is_not_finite_is_sent_so_that_the_server_can_say_so_and_zeros_only_move_to_something_else() -> None:
    sketches = Sketches(3, 2, 0.05, seed=0)
    sketches.put(ALL[:3], sketches.of([np.zeros((3, 2), np.float32)]), before=0, upload=0)
    now = np.array([[0, 0], [1e-20, 0], [np.nan, 0]], np.float32)
    assert sketches.moved(ALL[:3], sketches.of([now])).tolist() == [False, True, True]


def test_a_round_that_is_repeated_begins_with_what_was_sent_before_it() -> None:
    sketches, z = Sketches(2, 3, 0.05, seed=0), drawn(3, 2)
    both = ALL[:2]
    sketches.put(both, sketches.of([z]), before=0, upload=0)
    sketches.put(both[:1], sketches.of([2 * z[:1]]), before=3, upload=1)
    assert sketches.sent.tolist() == [5, 1]
    assert sketches.agree(np.array([1, 1], np.uint32)).all() and not sketches.moved(both, sketches.of([z])).any()
    assert sketches.agree(np.array([5, 1], np.uint32)).tolist() == [False, True], "forgotten"
    assert not sketches.agree(np.zeros(2, np.uint32)).any() and sketches.sent.tolist() == [0, 0]
