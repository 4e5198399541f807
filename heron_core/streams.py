"""Random streams named by path, drawn on the CPU from a counter-based generator.

A stream is `(seed, *path)`, e.g. `(0, "round", 3, "client", 1, "step", 7, "direction", 0)`. The path is hashed
to the 128-bit key of a Philox generator, so two streams never collide by arithmetic and none depends on what was
drawn before. Nothing here touches global random state, except that `seeded_torch` borrows torch's default
generator and gives it back as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = int | str
Distribution = Literal["sphere", "gaussian", "rademacher"]
PIECE = 1 << 16
"""Numbers that are squared at a time."""


def _digest(seed: int, path: tuple[Part, ...]) -> bytes:
    text = "/".join([f"i{seed}", *(f"i{p}" if isinstance(p, int) else f"s{len(p)}:{p}" for p in path)])
    return hashlib.blake2b(text.encode(), digest_size=16, person=b"heron-stream").digest()


def generator(seed: int, *path: Part) -> np.random.Generator:
    """The stream's generator, at its start."""
    key = np.frombuffer(_digest(seed, path), dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def integer_seed(seed: int, *path: Part) -> int:
    """A 63-bit number for libraries that want one."""
    return int.from_bytes(_digest(seed, path)[:8], "little") >> 1


def direction(distribution: Distribution, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One random direction u, float32 [size].

    sphere: uniform on the unit sphere, a Gaussian draw divided by its float64 norm (Def. 1).
    gaussian: standard normal. rademacher: +1 or -1 from raw bits, exact on every machine.
    """
    if distribution == "rademacher":
        bits = np.unpackbits(np.frombuffer(rng.bytes((size + 7) // 8), dtype=np.uint8), count=size)
        return bits.astype(np.float32) * np.float32(2) - np.float32(1)
    u = rng.standard_normal(size, dtype=np.float32)
    if distribution == "sphere":
        _to_unit_norm(u)
    return u


def directions(distribution: Distribution, count: int, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """`count` random directions from one draw, float32 [count, size]: each row as `direction` describes it."""
    if distribution != "sphere":
        return direction(distribution, count * size, rng).reshape(count, size)
    u = direction("gaussian", count * size, rng).reshape(count, size)
    for row in u:
        _to_unit_norm(row)
    return u


def _to_unit_norm(u: NDArray[np.float32]) -> None:
    if u.size:
        u *= np.float32(1.0 / np.sqrt(_sum_of_squares(u)))


def _sum_of_squares(u: NDArray[np.float32]) -> np.float64:
    """In float64, a piece at a time: the squares of a whole front would be twice as large as the front. The halves are
    those of NumPy's own pairwise sum, so that the bits are the same."""
    if u.size <= PIECE:
        return np.float64(np.sum(np.square(u, dtype=np.float64)))
    half = u.size // 2
    half -= half % 8
    return _sum_of_squares(u[:half]) + _sum_of_squares(u[half:])


@contextmanager
def seeded_torch(seed: int, *path: Part) -> Iterator[None]:
    """Run a block with torch's default generators at the stream's start; their old states come back after.

    For what torch draws by itself: parameter initialisation and dropout masks, which an accelerator draws from its own.
    """
    import torch

    generators = [torch.default_generator]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        generators += torch.cuda.default_generators
    states = [each.get_state() for each in generators]
    for each in generators:
        each.manual_seed(integer_seed(seed, *path))
    try:
        yield
    finally:
        for each, state in zip(generators, states, strict=True):
            each.set_state(state)
