"""Two activation codecs that are not Heron's: half precision, and one byte a number with each sample's own range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.wire import activation_codec
from heron_core.wire.activation_codec import ActivationCodec, Empty, Purpose


class Half:
    """Floats as float16, anything else as it is."""

    def travels(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, dtype="float16") if spec.is_floating else spec for spec in specs)

    def encode(self, arrays: Sequence[Array]) -> list[Array]:
        return [array.astype(np.float16) if array.dtype.kind == "f" else array for array in arrays]

    def decode(self, encoded: Sequence[Array], specs: Sequence[TensorSpec], empty: Empty) -> list[Array]:
        return [_filled(a, spec, empty) if spec.is_floating else a for a, spec in zip(encoded, specs, strict=True)]


def _filled(array: Array, spec: TensorSpec, empty: Empty) -> Array:
    out = empty(array.shape, spec.dtype)
    out[...] = array
    return out


class Bytes:
    """A float tensor becomes two: uint8 in the range of each sample, and that range [B, 2]."""

    def travels(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(one for spec in specs for one in self._of(spec))

    def _of(self, spec: TensorSpec) -> Iterator[TensorSpec]:
        yield replace(spec, dtype="uint8") if spec.is_floating else spec
        if spec.is_floating:
            yield TensorSpec(f"{spec.name}.range", (2,))

    def encode(self, arrays: Sequence[Array]) -> list[Array]:
        return [one for array in arrays for one in (_squeezed(array) if array.dtype.kind == "f" else [array])]

    def decode(self, encoded: Sequence[Array], specs: Sequence[TensorSpec], empty: Empty) -> list[Array]:
        left, out = list(encoded), []
        for spec in specs:
            array = left.pop(0)
            out.append(_stretched(array, left.pop(0), spec, empty) if spec.is_floating else array)
        return out


def _squeezed(array: Array) -> list[Array]:
    flat = array.reshape(len(array), -1)
    low, width = flat.min(axis=1), np.ptp(flat, axis=1)
    steps = (flat - low[:, None]) / np.where(width, width, 1)[:, None] * 255
    return [np.rint(steps).astype(np.uint8).reshape(array.shape), np.stack([low, width], axis=1)]


def _stretched(steps: Array, limits: Array, spec: TensorSpec, empty: Empty) -> Array:
    if (limits[:, 1] < 0).any():
        raise TensorError(f"the range of {spec.name} must not be negative, got {limits[:, 1].min()}")
    out = empty(steps.shape, spec.dtype)
    places = (-1,) + (1,) * (steps.ndim - 1)
    out[...] = steps / np.float32(255) * limits[:, 1].reshape(places) + limits[:, 0].reshape(places)
    return out


TOYS: dict[str, ActivationCodec] = {"half": Half(), "bytes": Bytes()}


def use(patch: pytest.MonkeyPatch, name: str, *purposes: Purpose) -> None:
    """From here on what travels for these purposes is this toy's."""
    patch.setitem(activation_codec.CODECS, name, TOYS[name])
    for purpose in purposes:
        patch.setitem(activation_codec.TRAVEL_AS, purpose, name)
