"""Processes that this one starts: none outlives it, however it ends, and neither does a folder kept for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from heron_core.process.signals import WITH_PARENT

KEEPER = ("sh", "-c", 'trap "" HUP INT TERM; while read -r _; do :; done; rm -rf -- "$0"')
"""Removes the folder that follows once nobody holds its standard input open."""
REMOVED_WITHIN_S = 5.0
WHY: dict[int, str] = {
    signal.SIGILL: ": a library uses instructions that this processor lacks; a doctor says which build to take",
    signal.SIGKILL: ": most often the system did it, for want of memory",
}


@dataclass(frozen=True)
class KeptFolder:
    """A folder for temporary files, and what holds it."""

    path: Path
    holder: int
    """The writing end of its keeper's pipe, which this process and its children in the folder hold open."""


@contextmanager
def kept_folder(prefix: str) -> Iterator[KeptFolder]:
    """A new temporary folder, which a small process of its own removes once this process has left the block, or has
    ended in it by whatever means, and the children that were started in the folder have ended. Raises OSError."""
    path = Path(tempfile.gettempdir()) / f"{prefix}{uuid.uuid4().hex}"
    keeper = subprocess.Popen([*KEEPER, str(path)], stdin=subprocess.PIPE, start_new_session=True)
    assert keeper.stdin is not None, "a keeper's standard input is a pipe"
    try:
        path.mkdir(0o700)  # not before its keeper is there
        yield KeptFolder(path, keeper.stdin.fileno())
    finally:
        keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # a child that does not end: the folder goes with it
            keeper.wait(REMOVED_WITHIN_S)


def start_child(
    *arguments: str, stdout: IO[bytes] | int | None = None, stderr: IO[bytes] | int | None = None,
    folder: KeptFolder | None = None,
) -> subprocess.Popen[bytes]:
    """Python with these arguments, which name a program that watches for the end of its parent. Raises OSError.

    The child's standard input is a pipe that this process alone holds open: the child ends once that is closed
    (`let_go`). Ctrl-C on the terminal is for this process only. `folder` holds the child's temporary files.
    """
    own = {WITH_PARENT: "1", **({"TMPDIR": str(folder.path)} if folder else {})}
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True,
        env={**os.environ, **own}, pass_fds=[folder.holder] if folder else [],
    )  # fmt: skip


def at_once(threads: int) -> int:
    """How many children that compute in so many threads each this machine's cores carry, one at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def ending(code: int) -> str:
    """How a child with this return code ended, in words, and what that most often means."""
    if code >= 0:
        return f"it ended with exit code {code}"
    names = {one.value: one.name for one in signal.Signals}
    return f"it was ended by {names.get(-code, f'signal {-code}')}{WHY.get(-code, '')}"


def let_go(child: subprocess.Popen[bytes]) -> None:
    """What this process no longer waits for: if it still runs, it ends."""
    assert child.stdin is not None, "a child's standard input is a pipe"
    child.stdin.close()
