"""Processes that this one starts: none outlives it, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from heron_core.process.signals import WITH_PARENT


def start_child(
    *arguments: str, stdout: IO[bytes] | int | None = None, stderr: IO[bytes] | int | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Python with these arguments, which name a program that watches for the end of its parent. Raises OSError.

    The child's standard input is a pipe that this process alone holds open: the child ends once that is closed
    (`let_go`). Ctrl-C on the terminal is for this process only. `folder` holds the child's temporary files; the child
    removes it where it ends with this process.
    """
    own = {WITH_PARENT: str(folder or ""), **({"TMPDIR": str(folder)} if folder else {})}
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True,
        env={**os.environ, **own},
    )  # fmt: skip


def let_go(child: subprocess.Popen[bytes]) -> None:
    """What this process no longer waits for: if it still runs, it ends."""
    assert child.stdin is not None, "a child's standard input is a pipe"
    child.stdin.close()
