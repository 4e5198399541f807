"""Writes that the disk may refuse, and what such a refusal means for a run."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import SEEK_END
from pathlib import Path

from heron_core.errors import RunFailed
from heron_core.files import replace_file
from heron_core.process.signals import in_the_making

WANT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


class OutOfSpace(RunFailed):
    """The disk is full, or a quota is used up: the same write may succeed later."""

    def __init__(self, why: str) -> None:
        """`why` names the file."""
        super().__init__(f"{why}; free some space and go on with --resume, the last checkpoint is usable")
        self.why = why


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """An OSError inside becomes RunFailed, or OutOfSpace, which names `path`."""
    try:
        yield
    except OSError as error:
        why = f"{path} cannot be written: {error.strerror or error}"
        if error.errno in WANT_OF_SPACE:
            raise OutOfSpace(why) from None
        raise RunFailed(f"{why}; mend that and go on with --resume, the last checkpoint is usable") from None


def write_durably(path: Path, data: bytes) -> None:
    """Replaces `path` as a whole. Raises RunFailed where the disk will not take it, and leaves the old file."""
    with storing(path):
        replace_file(path, lambda beside: beside.write_bytes(data))


def write_quickly(path: Path, data: bytes) -> None:
    """As write_durably, but flushes nothing: for what a power cut may take."""
    beside = path.with_name(f".{path.name}.tmp")
    with storing(path), in_the_making(beside):
        beside.write_bytes(data)
        beside.replace(path)


def append_line(path: Path, line: str) -> None:
    """One more line of a file that exists. Raises RunFailed where the disk will not take all of it, and leaves the
    file as it was."""
    with storing(path), path.open("r+b", buffering=0) as file:
        before = file.seek(0, SEEK_END)
        rest = memoryview(line.encode() + b"\n")
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise
