"""Tensor codec: named NumPy arrays <-> a manifest and one run of raw little-endian bytes, cut into chunks.

Bytes are never copied here to send (chunks are memoryviews of the arrays) and once to receive (straight into the
arrays that will be used). Everything that comes from a peer is checked before a byte of it is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import ModelError, TensorError
from heron_core.pb.v1 import tensors_pb2 as pb

Expected = Sequence[tuple[str, str, tuple[int, ...]]]
"""(name, dtype, shape) of each tensor, in order."""

CHUNK_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = CHUNK_BYTES
MAX_MESSAGE_BYTES = 16 << 20
SMALL_CHUNK_BYTES = 64 << 10
FEW_CHUNKS = 256
"""Of a bundle so many chunks may be small, whatever its size; the others have 64 KiB on average."""

DTYPES: dict[int, np.dtype[Any]] = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT64: np.dtype("<f8"),
    pb.DTYPE_FLOAT16: np.dtype("<f2"),
    pb.DTYPE_INT64: np.dtype("<i8"),
    pb.DTYPE_INT32: np.dtype("<i4"),
    pb.DTYPE_UINT8: np.dtype("u1"),
    pb.DTYPE_UINT16: np.dtype("<u2"),
    pb.DTYPE_BOOL: np.dtype("?"),
}
CODES = {dtype.name: code for code, dtype in DTYPES.items()}
assert set(DTYPES) == {value for value in pb.DType.values() if value}, "a DType of the proto has no implementation"
assert sys.byteorder == "little", "the wire is little-endian; big-endian hosts need byte swaps here"


@lru_cache(maxsize=64)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """NumPy makes it anew each time, in Python, and each message needs it of each tensor."""
    return dtype.name


def manifest_of(arrays: Mapping[str, Array]) -> pb.Manifest:
    """What `arrays` are; raises ModelError for a dtype the wire does not know: they are the sender's own."""
    manifest = pb.Manifest()
    for name, array in arrays.items():
        code = CODES.get(dtype_name(array.dtype))
        if code is None:
            raise ModelError(f"tensor {name} has dtype {array.dtype}; the wire carries {', '.join(sorted(CODES))}")
        manifest.tensors.add(name=name, dtype=pb.DType.ValueType(code), shape=array.shape)
    return manifest


def manifest_bytes(expected: Expected) -> int:
    """Bytes of the manifest of these tensors."""
    manifest = pb.Manifest()
    for name, dtype, shape in expected:
        manifest.tensors.add(name=name, dtype=pb.DType.ValueType(CODES[dtype]), shape=shape)
    return manifest.ByteSize()


def as_bytes(array: Array) -> memoryview:
    """The array's own bytes, row-major little-endian, without a copy if it is C-contiguous and so already."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return _flat_bytes(little)


def _flat_bytes(array: Array) -> memoryview:
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def chunks(arrays: Sequence[Array], chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[int, list[memoryview]]]:
    """(offset, parts) for each chunk of the concatenated bytes; at least one chunk, so that a manifest can travel."""
    parts: list[memoryview] = []
    offset = held = 0
    for array in arrays:
        view = as_bytes(array)
        while len(view):
            take = min(len(view), chunk_bytes - held)
            parts.append(view[:take])
            view, held = view[take:], held + take
            if held == chunk_bytes:
                yield offset, parts
                offset, held, parts = offset + held, 0, []
    if held or not offset:
        yield offset, parts


def check_manifest(manifest: pb.Manifest, expected: Expected, origin: str) -> None:
    """Raises TensorError naming tensor, expected and actual, unless names, dtypes, shapes and order all agree."""
    names = [meta.name for meta in manifest.tensors]
    wanted = [name for name, _, _ in expected]
    if names != wanted:
        there, asked = set(names), set(wanted)
        missing, extra = [n for n in wanted if n not in there], [n for n in names if n not in asked]
        raise TensorError(
            f"{origin}: expected {len(wanted)} tensors {_few(wanted)}, got {len(names)} {_few(names)}; "
            f"missing {_few(missing)}, unknown {_few(extra)}; both sides must build the same model"
        )
    for meta, (name, dtype, shape) in zip(manifest.tensors, expected, strict=True):
        known = DTYPES.get(meta.dtype)
        got = dtype_name(known) if known is not None else f"dtype code {meta.dtype}"
        if got != dtype or tuple(meta.shape) != shape:
            raise TensorError(
                f"{origin}: tensor {name} must be {dtype} {list(shape)}, got {got} {_sizes(meta.shape)}; "
                "check that both sides build the same model and batch"
            )


def _few(names: Sequence[str]) -> str:
    return "[" + ", ".join(repr(n[:64]) for n in names[:3]) + (", ..." if len(names) > 3 else "") + "]"


def _sizes(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape[:8])) + (f", ... ({len(shape)} in all)]" if len(shape) > 8 else "]")


class BundleReceiver:
    """Writes the chunks of one bundle, in order, into arrays that the caller made."""

    def __init__(self, destinations: Sequence[Array], origin: str) -> None:
        assert all(array.flags.c_contiguous for array in destinations), "a reshape would copy, and the bytes be lost"
        self._views = [_flat_bytes(array) for array in destinations]
        self._total = sum(len(view) for view in self._views)
        self._origin = origin
        self._chunks_left = FEW_CHUNKS + self._total // SMALL_CHUNK_BYTES
        self.received = 0
        """Bytes so far."""
        self._index = 0
        self._filled = 0

    @property
    def complete(self) -> bool:
        """Have all announced bytes come?"""
        return self.received == self._total

    def write(self, offset: int, payload: memoryview | bytes) -> None:
        """Stores the next chunk; raises TensorError, storing nothing, if it is out of place or too long."""
        if offset != self.received:
            raise TensorError(f"{self._origin}: expected the chunk at byte {self.received}, got the one at {offset}")
        if len(payload) > MAX_PAYLOAD_BYTES or (not len(payload) and not self.complete):
            raise TensorError(f"{self._origin}: a chunk has 1 to {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
        if self.received + len(payload) > self._total:
            raise TensorError(
                f"{self._origin}: {self._total} bytes were announced, got {self.received + len(payload)}"
            )
        if not self._chunks_left:
            most = FEW_CHUNKS + self._total // SMALL_CHUNK_BYTES
            raise TensorError(
                f"{self._origin}: {self._total} bytes come in {most} chunks at most, got more; send about {CHUNK_BYTES}"
                " bytes in each"
            )
        view = memoryview(payload)
        self.received, self._chunks_left = self.received + len(view), self._chunks_left - 1
        while len(view):
            target = self._views[self._index]
            take = min(len(view), len(target) - self._filled)
            target[self._filled : self._filled + take] = view[:take]
            view, self._filled = view[take:], self._filled + take
            if self._filled == len(target):
                self._index, self._filled = self._index + 1, 0


def announced(manifest: pb.Manifest, origin: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """What the manifest says will come; raises TensorError for a dtype the wire does not know, or no such shape."""
    for meta in manifest.tensors:
        if meta.dtype not in DTYPES or prod(meta.shape) * 8 > sys.maxsize:
            raise TensorError(
                f"{origin}: tensor {meta.name[:64]} must have a known dtype and a possible shape, got dtype code "
                f"{meta.dtype}, shape {_sizes(meta.shape)}; check that both sides run the same Heron"
            )
    return [(meta.name, dtype_name(DTYPES[meta.dtype]), tuple(meta.shape)) for meta in manifest.tensors]


def expected_batch(specs: Sequence[TensorSpec], rows: int, length: int = 0) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of a batch of that many samples; `length`: of its sequences, where they vary."""
    return [(spec.name, spec.dtype, (rows, *spec.sized(length))) for spec in specs]


def empty_arrays(expected: Expected) -> dict[str, Array]:
    """Uninitialised arrays of the expected names, dtypes and shapes."""
    return {name: np.empty(shape, dtype=dtype) for name, dtype, shape in expected}


def expected_of(arrays: Mapping[str, Array]) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of these arrays."""
    return [(name, dtype_name(array.dtype), tuple(array.shape)) for name, array in arrays.items()]


def expected_bytes(expected: Expected) -> int:
    """Bytes of all these tensors together."""
    return sum(prod(shape) * np.dtype(dtype).itemsize for _, dtype, shape in expected)


def mismatches(found: Expected, wanted: Expected) -> list[str]:
    """Names that are missing, unknown, or of another dtype or shape."""
    return sorted({name for name, _, _ in set(found) ^ set(wanted)})


def check_finite(
    arrays: Mapping[str, Array], origin: str, advice: str = "lower the learning rate or check the data"
) -> None:
    """Raises TensorError naming the tensor that holds NaN or Inf, or a bool that is neither 0 nor 1."""
    for name, array in arrays.items():
        if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
            raise TensorError(f"{origin}: tensor {name} must hold bools of 0 or 1, got {array.view(np.uint8).max()}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise TensorError(
                f"{origin}: tensor {name} must be finite, got {bad} NaN or Inf of {array.size}; {advice}"
            )
