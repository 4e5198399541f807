"""Random streams: named by path, the same everywhere, and nobody else's state is touched."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heron_core.streams import PIECE, Distribution, Part, direction, directions, generator, integer_seed, seeded_torch

PARTS: st.SearchStrategy[Part] = st.one_of(
    st.integers(-(2**70), 2**70), st.text(max_size=6), st.sampled_from(["1", "i1", "/", "s1:1", "1/i2", ""])
)
NAMES = st.tuples(st.integers(0, 2**63 - 1), st.lists(PARTS, max_size=4).map(tuple))
DISTRIBUTIONS: list[Distribution] = ["sphere", "gaussian", "rademacher"]
PATH: tuple[Part, ...] = ("round", 3, "client", 1, "step", 7, "direction", 0)


@given(one=NAMES, other=NAMES)
def test_different_paths_are_different_streams(
    one: tuple[int, tuple[Part, ...]], other: tuple[int, tuple[Part, ...]]
) -> None:
    same = integer_seed(one[0], *one[1]) == integer_seed(other[0], *other[1])
    assert same == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "a", "b"), (0, "ab")),
        ((0, "a/sb"), (0, "a", "b")),
        ((0, 1), (0, "1")),
        ((0, 1), (0, "i1")),
        ((0, 1, 2), (0, 12)),
        ((0, 12, 3), (0, 1, 23)),
        ((1, 0), (0, 1)),
        ((1,), (1, "")),
        ((0, -1), (0, 1)),
        ((0, "round", 1, "client", 11), (0, "round", 11, "client", 1)),
    ],
)
def test_paths_that_look_alike_are_kept_apart(one: tuple[int, *tuple[Part, ...]], other: tuple[Part, ...]) -> None:
    assert integer_seed(*one) != integer_seed(*other)  # type: ignore[arg-type]
    assert generator(*one).bytes(16) != generator(*other).bytes(16)  # type: ignore[arg-type]


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    fresh = generator(0, *PATH).standard_normal(5)
    generator(0, "other").standard_normal(1000)
    assert generator(0, *PATH).standard_normal(5).tolist() == fresh.tolist()


def test_a_stream_is_the_same_in_another_process_whatever_its_hash_seed() -> None:
    code = "from heron_core.streams import generator; print(generator(5, 'round', 2).bytes(16).hex())"
    command, environment = [sys.executable, "-c", code], {"PYTHONHASHSEED": "7"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == generator(5, "round", 2).bytes(16).hex()


# A change of these values changes every run's bits: raise PROTOCOL_VERSION and say so in CHANGELOG.md.
def test_golden_raw_bits_and_seeds() -> None:
    assert generator(0, *PATH).bytes(8).hex() == "08b6b8b3f27b2c0c"
    assert integer_seed(0, "init", "front") == 1335057725916744533


def test_golden_rademacher_direction() -> None:
    u = direction("rademacher", 10_001, generator(7, "round", 1, "client", 0, "step", 0, "direction", 0))
    assert u[:8].tolist() == [-1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0]
    assert hashlib.sha256(u.tobytes()).hexdigest() == "2e9c85f7483e43b90f9ac4460f00eb8c6f9c75c3d31af68918f405d81ba26adf"


def test_golden_sphere_and_gaussian_directions() -> None:
    # Exact to the last bits only: the ziggurat's tail calls the platform's log and exp.
    sphere = [0.116033085, -0.044518296, 0.257443786, 0.368984789, 0.559566677, 0.228687018, 0.285552382, 0.578942716]
    gaussian = [0.342203796, -0.131292984, 0.759250998, 1.088206768, 1.65026927, 0.674441814, 0.842148662, 1.707412958]
    np.testing.assert_allclose(direction("sphere", 8, generator(0, *PATH)), sphere, rtol=3e-7)
    np.testing.assert_allclose(direction("gaussian", 8, generator(0, *PATH)), gaussian, rtol=3e-7)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_a_direction_is_a_float32_vector_of_its_size(distribution: Distribution, size: int) -> None:
    u = direction(distribution, size, generator(1, size))
    assert (u.dtype, u.shape) == (np.dtype(np.float32), (size,))
    assert np.isfinite(u).all()


@given(size=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_a_sphere_direction_has_unit_norm_in_float64(size: int, seed: int) -> None:
    u = direction("sphere", size, generator(seed)).astype(np.float64)
    assert abs(float(np.sqrt(u @ u)) - 1.0) < 2e-7


@given(count=st.integers(1, 40), size=st.integers(1, 300))
def test_each_row_of_a_sphere_draw_has_unit_norm_in_float64(count: int, size: int) -> None:
    u = directions("sphere", count, size, generator(0, "rows")).astype(np.float64)
    assert u.shape == (count, size)
    assert np.abs(np.sqrt((u * u).sum(axis=1)) - 1.0).max() < 2e-7


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_directions_are_the_rows_of_one_draw(distribution: Distribution) -> None:
    rows = directions(distribution, 5, 9, generator(0, "rows"))
    drawn = "gaussian" if distribution == "sphere" else distribution
    flat = direction(drawn, 45, generator(0, "rows")).reshape(5, 9)
    if distribution == "sphere":
        flat = flat / np.sqrt(np.square(flat, dtype=np.float64).sum(axis=1, keepdims=True))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, flat, rtol=3e-7)
    assert len({row.tobytes() for row in rows}) == 5


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_one_row_is_one_direction(distribution: Distribution) -> None:
    row = directions(distribution, 1, 77, generator(2, "one"))[0]
    assert row.tobytes() == direction(distribution, 77, generator(2, "one")).tobytes()


def test_a_rademacher_direction_is_of_balanced_signs() -> None:
    u = direction("rademacher", 100_000, generator(0, "balance"))
    assert set(np.unique(u)) == {-1.0, 1.0}
    assert abs(float(u.mean())) < 0.02


def test_a_gaussian_direction_has_unit_variance() -> None:
    u = direction("gaussian", 100_000, generator(0, "variance"))
    assert abs(float(u.mean())) < 0.02
    assert abs(float(u.var()) - 1.0) < 0.02


def test_global_random_state_is_untouched() -> None:
    def states() -> list[bytes]:
        return [
            repr(random.getstate()).encode(), repr(np.random.get_state()).encode(),
            torch.get_rng_state().numpy().tobytes(),
        ]  # fmt: skip

    before = states()
    for distribution in DISTRIBUTIONS:
        direction(distribution, 100, generator(0, "x"))
        directions(distribution, 2, 50, generator(0, "x"))
    with seeded_torch(0, "x"):
        torch.rand(10)
    assert states() == before


def test_seeded_torch_starts_at_the_stream_s_start_each_time() -> None:
    with seeded_torch(3, "init", "front"):
        first = torch.rand(4)
    torch.rand(3)
    with seeded_torch(3, "init", "front"):
        again = torch.rand(4)
    with seeded_torch(3, "init", "back"):
        other = torch.rand(4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seeded_torch_gives_the_state_back_also_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"), seeded_torch(3, "x"):
        torch.rand(4)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_torch_nests() -> None:
    with seeded_torch(0, "outer"):
        torch.rand(1)
        expected = torch.rand(1)
    with seeded_torch(0, "outer"):
        torch.rand(1)
        with seeded_torch(0, "inner"):
            torch.rand(5)
        assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 2 * PIECE + 5, 1_234_567])
def test_a_large_direction_has_the_bits_of_a_norm_taken_at_once(size: int) -> None:
    drawn = direction("gaussian", size, generator(7, *PATH))
    norm = np.sqrt(np.sum(np.square(drawn, dtype=np.float64)))
    assert np.array_equal(direction("sphere", size, generator(7, *PATH)), drawn * np.float32(1.0 / norm))


def test_the_norm_of_a_direction_needs_no_second_one() -> None:
    tracemalloc.start()
    direction("sphere", 1_000_000, generator(7, *PATH))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000  # bytes, of which the direction is 4,000,000
