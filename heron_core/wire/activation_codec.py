"""How the cut's tensors travel: activations up to train, activations up to be evaluated, and cut gradients down.

A micro-batch is encoded by itself, as it leaves: each float32 tensor of it becomes one block of bytes, whose size
follows from its shape. Integers and bools travel as they are, and so does everything in `raw`. Client and server read
from the run spec which codec is for what. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.streams import Part, generator
from heron_core.wire.codec import Expected
from heron_core.wire.codecs.bfloat16 import BFloat16
from heron_core.wire.codecs.grouped import Grouped
from heron_core.wire.codecs.topk import TopK

Empty = Callable[[tuple[int, ...], str], Array]
"""(shape, dtype) -> an uninitialised array, in memory where a decoded tensor may stay."""


class BlockCodec(Protocol):
    """From float32 values to bytes, and back. Both raise TensorError, as the end of a sentence, for what is not finite;
    what is decoded always is."""

    def size(self, values: int) -> int:
        """Bytes of a block of so many values."""
        ...

    def encode(self, values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
        """`values` [n] as a block; what is random comes from `rng`."""
        ...

    def decode(self, block: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        """The values of a block that has the size of `out` [n]'s."""
        ...


@dataclass(frozen=True)
class ActivationCodec:
    """Of all tensors of a micro-batch."""

    block: BlockCodec | None = None
    """Of each float32 tensor. None: raw, no bit changes and nothing is copied."""

    def encodes(self, spec: TensorSpec) -> bool:
        """Does this tensor travel as a block?"""
        return self.block is not None and spec.dtype == "float32"

    def travels(self, specs: Sequence[TensorSpec], rows: int, length: int = 0) -> Expected:
        """What travels for a micro-batch [rows, ...]; `length`: of its sequences, where they vary."""
        return [self._travels(spec, (rows, *spec.sized(length))) for spec in specs]

    def _travels(self, spec: TensorSpec, shape: tuple[int, ...]) -> tuple[str, str, tuple[int, ...]]:
        if self.block is None or not self.encodes(spec):
            return spec.name, spec.dtype, shape
        return spec.name, "uint8", (self.block.size(prod(shape)),)

    def encode(self, arrays: Sequence[Array], specs: Sequence[TensorSpec], seed: int, *path: Part) -> list[Array]:
        """What travels for these arrays [rows, ...]; `path` names the micro-batch's random streams.

        An array may be handed on as it is. Raises TensorError for NaN and Inf that the codec has no code for.
        """
        pairs = zip(specs, arrays, strict=True)
        return [self._encoded(array, spec, seed, (*path, "codec", i)) for i, (spec, array) in enumerate(pairs)]

    def _encoded(self, array: Array, spec: TensorSpec, seed: int, path: tuple[Part, ...]) -> Array:
        if self.block is None or not self.encodes(spec):
            return array
        with _about(spec):
            return self.block.encode(array.reshape(-1), generator(seed, *path))

    def decode(
        self, encoded: Sequence[Array], specs: Sequence[TensorSpec], rows: int, empty: Empty, *, length: int = 0,
        parts: int = 1,
    ) -> list[Array]:  # fmt: skip
        """The tensors of `specs` [rows, ...]: `parts` encoded micro-batches of equal rows, one behind the other.

        An array that came may be handed on as it is; what is computed goes into arrays that `empty` makes. Raises
        TensorError for what no `encode` gives. On the server this runs on the worker.
        """
        return [
            self._decoded(array, spec, (rows, *spec.sized(length)), empty, parts)
            for array, spec in zip(encoded, specs, strict=True)
        ]

    def _decoded(self, array: Array, spec: TensorSpec, shape: tuple[int, ...], empty: Empty, parts: int) -> Array:
        if self.block is None or not self.encodes(spec):
            return array
        out = empty(shape, spec.dtype)
        with _about(spec):
            for block, part in zip(array.reshape(parts, -1), out.reshape(parts, -1), strict=True):
                self.block.decode(block, part)
        return out


CODECS: dict[str, ActivationCodec] = {
    "raw": ActivationCodec(), "bf16": ActivationCodec(BFloat16()), "int8": ActivationCodec(Grouped(8)),
    "int4": ActivationCodec(Grouped(4)), "int2": ActivationCodec(Grouped(2)),
    "topk": ActivationCodec(TopK()),
}  # fmt: skip
"""By the name that the run spec gives. Another codec is one file beside this one, and one line here."""


def floating(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Those of the cut's tensors for which a gradient comes back."""
    return tuple(spec for spec in specs if spec.is_floating)


@contextmanager
def _about(spec: TensorSpec) -> Iterator[None]:
    """Names the tensor that a block codec complains about."""
    try:
        yield
    except TensorError as error:
        raise TensorError(f"{spec.name} {error}") from None
