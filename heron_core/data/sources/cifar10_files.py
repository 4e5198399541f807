"""The two file formats of CIFAR-10, read in pieces: an npz with images channels last, and the binary batches.

Whatever a damaged file makes the readers raise becomes a DataError that names it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.data.cache import Streamed
from heron_core.errors import DataError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
PIECE = 500  # images in memory at once: 1.5 MB

_RECORD = 1 + 3072  # label, then the red, green and blue planes, row by row


def read_npz(path: Path) -> Mapping[str, Streamed]:
    """x uint8 [N, 32, 32, 3] given as [N, 3, 32, 32], and y integer [N], of each half."""
    return {name: _npz_array(path, name) for name in ARRAYS}


def _npz_array(path: Path, name: str) -> Streamed:
    with _member(path, name) as member:
        shape, dtype = _header(member)
    pieces = partial(_npz_pieces, path, name)
    if name.startswith("y"):
        if dtype.kind not in "iu" or len(shape) != 1:
            raise DataError(f"{path}: {name} must be integers [N], got {dtype} {list(shape)}; save it so")
        return Streamed(shape, dtype, pieces)
    if dtype != np.uint8 or shape[1:] != (32, 32, 3):
        raise DataError(f"{path}: {name} must be uint8 [N, 32, 32, 3], got {dtype} {list(shape)}; save it so")
    return Streamed((shape[0], 3, 32, 32), dtype, lambda: (piece.transpose(0, 3, 1, 2) for piece in pieces()))


def _npz_pieces(path: Path, name: str) -> Iterator[Array]:
    with _member(path, name) as member:
        shape, dtype = _header(member)
        for start in range(0, shape[0], PIECE):
            piece = (min(PIECE, shape[0] - start), *shape[1:])
            num_bytes = int(np.prod(piece)) * dtype.itemsize
            data = member.read(num_bytes)
            if len(data) != num_bytes:
                raise EOFError(f"{name} ends after sample {start + len(data) * piece[0] // num_bytes}")
            yield np.frombuffer(data, dtype=dtype).reshape(piece)
        member.read(1)  # at its end the zip file's checksum is compared


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    with _reading(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        yield member


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; ValueError for Fortran order and objects."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(member)
    if fortran_order or dtype.hasobject:
        raise ValueError("it holds Python objects or an array in Fortran order")
    return shape, dtype


def read_binary(files: Sequence[Path]) -> Mapping[str, Streamed]:
    """The official records; the last file is the test half, the others, in order, the train half."""
    arrays = {}
    for half, of_half in (("train", files[:-1]), ("test", files[-1:])):
        count = sum(_num_records(file) for file in of_half)
        images, labels = partial(_images, of_half), partial(_labels, of_half)
        arrays[f"x_{half}"] = Streamed((count, 3, 32, 32), np.dtype(np.uint8), images)
        arrays[f"y_{half}"] = Streamed((count,), np.dtype(np.uint8), labels)
    return arrays


def _num_records(file: Path) -> int:
    with _reading(file):
        size = file.stat().st_size
    if size == 0 or size % _RECORD:
        raise DataError(f"{file} must be a multiple of {_RECORD} bytes, got {size}; download it again")
    return size // _RECORD


def _images(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    return (records[:, 1:].reshape(-1, 3, 32, 32) for records in _records(files))


def _labels(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    return (records[:, 0] for records in _records(files))


def _records(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    for file in files:
        with _reading(file), file.open("rb") as stream:
            while data := stream.read(_RECORD * PIECE):
                yield np.frombuffer(data, dtype=np.uint8).reshape(-1, _RECORD)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # zip, LZMA and NumPy's header each raise their own
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} cannot be read ({reason}); download or save it again") from error
