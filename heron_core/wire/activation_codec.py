"""How the cut's tensors travel: activations up to train, activations up to be evaluated, and cut gradients down.

A codec encodes each sample by itself, so that micro-batches can be put together row by row; labels travel as they are.
Client and server take theirs from here: they must agree. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from heron_core.arrays import Array, TensorSpec

Purpose = Literal["uploads", "evaluation", "cut_gradients"]
Empty = Callable[[tuple[int, ...], str], Array]
"""(shape, dtype) -> an uninitialised array, in memory where a decoded tensor may stay."""


class ActivationCodec(Protocol):
    """From tensors [B, ...] to what travels for them, and back."""

    def travels(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What travels for tensors of these specs: any number of tensors, each with one row a sample."""
        ...

    def encode(self, arrays: Sequence[Array]) -> list[Array]:
        """What travels for these arrays [B, ...], in the order of `travels`; an array may be handed on as it is."""
        ...

    def decode(self, encoded: Sequence[Array], specs: Sequence[TensorSpec], empty: Empty) -> list[Array]:
        """The tensors of `specs` [B, ...], as near to what was encoded as the codec keeps it.

        An array that came may be handed on as it is; what is computed goes into arrays that `empty` makes. Raises
        TensorError for values that no `encode` gives. On the server this runs on the worker.
        """
        ...


class Raw:
    """As they are: no bit changes and nothing is copied."""

    def travels(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The same specs."""
        return tuple(specs)

    def encode(self, arrays: Sequence[Array]) -> list[Array]:
        """The same arrays."""
        return list(arrays)

    def decode(self, encoded: Sequence[Array], specs: Sequence[TensorSpec], empty: Empty) -> list[Array]:
        """The same arrays."""
        return list(encoded)


CODECS: dict[str, ActivationCodec] = {"raw": Raw()}
"""By name. Another codec is one file beside this one, and one line here."""
TRAVEL_AS: dict[Purpose, str] = {"uploads": "raw", "evaluation": "raw", "cut_gradients": "raw"}
"""The codec of each purpose."""


def codec_for(purpose: Purpose) -> ActivationCodec:
    """The codec that both sides use for it."""
    return CODECS[TRAVEL_AS[purpose]]


def floating(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Those of the cut's tensors for which a gradient comes back."""
    return tuple(spec for spec in specs if spec.is_floating)
