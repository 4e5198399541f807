"""Arrays that are slow to read, kept as plain .npy files and memory-mapped: processes share their pages.

Nothing here may stop a run: without a writable cache folder the arrays are read into memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heron_core.arrays import HEADERS, Array
from heron_core.process.signals import in_the_making

LAYOUT = 1  # of the cached arrays; raise it whenever what `read` gives changes


@dataclass(frozen=True)
class Streamed:
    """An array that comes in pieces along its first axis, so that writing it needs little memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Callable[[], Iterator[Array]]

    def gather(self) -> Array:
        """The whole array in memory."""
        out = np.empty(self.shape, dtype=self.dtype)
        start = 0
        for piece in self.pieces():
            out[start : start + len(piece)] = piece
            start += len(piece)
        return out


Reader = Callable[[], Mapping[str, Streamed]]


def default_folder() -> Path | None:
    """`$XDG_CACHE_HOME/heron`, else ~/.cache/heron; None for a user without a home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "heron"
    try:
        return Path.home() / ".cache" / "heron"
    except RuntimeError:
        return None


def through_cache(
    files: Sequence[Path], names: Sequence[str], read: Reader, folder: Path | None
) -> dict[str, Array]:
    """The named arrays of `files`: mapped from the cache, which `read` fills if these files are new to it.

    What `read` raises comes through, as long as it is no OSError: that one is taken for the cache's.
    """
    if (base := folder or default_folder()) is not None:
        place = base / _key(files)
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if (arrays := _open(place, names)) is not None:
                return arrays
            with _one_writer(place):  # the others wait here instead of reading the same file too
                if (arrays := _open(place, names)) is None:
                    _fill(place, read())
                    arrays = _open(place, names)
            if arrays is not None:
                return arrays
    return {name: array.gather() for name, array in read().items()}


def _key(files: Sequence[Path]) -> str:
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.blake2b(repr((LAYOUT, facts)).encode(), digest_size=8).hexdigest()
    return f"{files[0].stem}-{digest}"


def _open(place: Path, names: Sequence[str]) -> dict[str, Array] | None:
    try:
        with HEADERS:
            return {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
    except (OSError, ValueError, EOFError):  # missing, or a file that some disk fault cut short
        return None


def _fill(place: Path, arrays: Mapping[str, Streamed]) -> None:
    for torn in place.glob("*.tmp"):  # of a writer that was killed
        torn.unlink()
    for name, array in arrays.items():
        handle, temporary = tempfile.mkstemp(dir=place, suffix=".tmp")
        with in_the_making(Path(temporary)):
            with os.fdopen(handle, "wb") as out:
                _write(array, out)
            os.replace(temporary, place / f"{name}.npy")  # noqa: PTH105 (atomic on every platform)


def _write(array: Streamed, out: Any) -> None:
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(out, header)
    for piece in array.pieces():
        out.write(np.ascontiguousarray(piece, dtype=array.dtype).data)


@contextmanager
def _one_writer(place: Path) -> Iterator[None]:
    with (place / "lock").open("a") as lock:
        with suppress(ImportError, OSError):  # no such locks here: two writers only waste work
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
