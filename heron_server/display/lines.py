"""Lines of text on a stream that may fail."""

from __future__ import annotations

from typing import TextIO


class Lines:
    """Whole lines on a stream. A reader that went away, or a full disk, must not end a run: then it falls silent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._broken = stream, False

    def write(self, line: str) -> None:
        """One line; characters that the stream's encoding lacks are escaped."""
        if self._broken:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True
