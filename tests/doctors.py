"""What a doctor of either side says of settings that a test mends."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any


class Doctored(ABC):
    """Settings, and what the doctor says of them."""

    def __init__(self, **settings: Any) -> None:
        self.settings: dict[str, Any] = settings

    @abstractmethod
    def examined(self, say: Callable[[str], None], now: datetime | None) -> int:
        """Runs the doctor; returns its exit code. `now`: what the clock says, if not it."""

    def says(self, now: datetime | None = None) -> tuple[int, list[str]]:
        """The exit code, and the lines that are not ok, without what was not tried because of them."""
        lines: list[str] = []
        code = self.examined(lines.append, now)
        return code, [line for line in lines[:-1] if not line.startswith(("ok ", "not tried "))]

    def fails(self, code: int, topic: str, *said: str, now: datetime | None = None) -> str:
        """The one line that failed: of this topic, with all of these patterns in it."""
        return self._one_line(code, "failed", topic, said, now)

    def warns(self, topic: str, *said: str) -> str:
        """The one line that is not ok, a warning."""
        return self._one_line(0, "warning", topic, said, None)

    def _one_line(self, code: int, level: str, topic: str, said: tuple[str, ...], now: datetime | None) -> str:
        found = self.says(now)
        assert found[0] == code and len(found[1]) == 1, found
        line = found[1][0]
        assert line.startswith(level) and line[11:].startswith(topic), line
        for pattern in said:
            assert re.search(pattern, line), line
        return line

    def is_well(self, **mended: Any) -> None:
        """With these settings mended, nothing is left to say."""
        self.settings.update(mended)
        assert self.says() == (0, [])
