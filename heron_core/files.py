"""Files that are replaced as a whole, and the digest of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from heron_core.process.signals import in_the_making


def sha256_of(path: Path) -> str:
    """Of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` make a file beside `path`, flushes it to the disk and renames it to `path`.

    A reader sees the old file or the new one, never half of one, also after a power cut. OSError where the disk does
    not take it: the old file stays.
    """
    beside = path.with_name(f".{path.name}.tmp")
    with in_the_making(beside):
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
