"""The deny list: clients whose certificate or token counts no more, before it expires."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("heron.server")

DENIED = "denied.txt"
EXPLAINED = """\
# One client name, or one certificate's serial number in hexadecimal, a line. Read again whenever this file changes:
# whoever is named here loses its connections within a second and is not let in again.
"""


class LinesOf:
    """The lines of a small file that people edit; read again once it changes. No file: no lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._lines: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        """Without comments and empty lines. A file that cannot be read keeps its last lines, and the log says so."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._lines = None, ()
            return ()
        except OSError:
            return self._lines
        stamp = (state.st_mtime_ns, state.st_ino, state.st_size)
        if stamp != self._stamp:
            self._stamp = stamp
            self._read()
        return self._lines

    def _read(self) -> None:
        try:
            text = self._path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read, what it said before still counts: %s", self._path, error)
            return
        stripped = (line.partition("#")[0].strip() for line in text.splitlines())
        self._lines = tuple(line for line in stripped if line)


class DenyList:
    """Who is not let in any more."""

    def __init__(self, path: Path) -> None:
        self.lines = LinesOf(path)
        """What it says now: the same object for as long as the file does not change."""
        self._of: tuple[str, ...] = ()
        self._names: frozenset[str] = frozenset()
        self._serials: frozenset[str] = frozenset()

    def denies(self, name: str, serial: str = "") -> bool:
        """Is this name listed, or the serial number (hexadecimal) of its certificate?"""
        lines = self.lines()
        if lines is not self._of:
            self._of, self._names, self._serials = lines, frozenset(lines), frozenset(map(plain_serial, lines))
        return name in self._names or (bool(serial) and plain_serial(serial) in self._serials)


def plain_serial(text: str) -> str:
    """A serial number however a tool prints it: `0A:1b` is `a1b`."""
    return text.replace(":", "").lower().removeprefix("0x").lstrip("0")
