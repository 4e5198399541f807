"""Where a user's own code is found."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def find_code_in(folders: Iterable[Path]) -> None:
    """Puts the folders at the front of Python's search path, once each."""
    for folder in map(str, map(Path.resolve, folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
