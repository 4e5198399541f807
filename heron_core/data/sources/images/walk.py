"""The files below a folder: images, and all that is passed over, with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from heron_core.class_names import normal
from heron_core.errors import DataError

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff",
     ".webp"}
)  # fmt: skip
"""Of files that count as images, in lower case."""
SYSTEM_FOLDERS = frozenset({"__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
HIDDEN = "hidden"
RESOURCE_FORK = "macOS resource files (._*)"
SYSTEM = "folders of the system"
LINKED = "links to folders (not followed)"
BROKEN = "no regular files, or links that lead nowhere"


@dataclass
class Found:
    """What lies below one folder."""

    images: list[Path] = field(default_factory=list)
    """In the order of their paths."""
    passed_over: list[tuple[str, Path]] = field(default_factory=list)
    """Pairs (why, path)."""


def walk(folder: Path) -> Found:
    """All images at any depth. Raises DataError for a folder that cannot be listed."""
    found = Found()
    waiting = [folder]
    while waiting:
        for entry in entries(waiting.pop()):
            path = Path(entry.path)
            if why := reason_to_pass(entry):
                found.passed_over.append((why, path))
            elif entry.is_dir():
                waiting.append(path)
            else:
                found.images.append(path)
    found.images.sort()
    found.passed_over.sort()
    return found


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name: the same order whatever form of Unicode a file system keeps. Raises DataError
    where it cannot be listed."""
    try:
        with os.scandir(folder) as here:
            return sorted(here, key=lambda entry: (normal(entry.name), entry.name))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error.strerror}; let the user that runs the client read it, or move it away"
        ) from None


def class_folders(root: Path) -> Iterator[Path]:
    """The sub-folders that may be classes, links too."""
    for entry in entries(root):
        if entry.is_dir() and not _name_reason(entry):
            yield Path(entry.path)


def reason_to_pass(entry: os.DirEntry[str]) -> str | None:
    """Why this file or folder does not count; None for an image, and for a folder to look into."""
    if why := _name_reason(entry):
        return why
    if entry.is_dir():
        return LINKED if entry.is_symlink() else None
    if not entry.is_file():
        return BROKEN
    suffix = Path(entry.name).suffix.lower()
    if suffix in SUFFIXES:
        return None
    return f"{suffix} files (not read)" if suffix else "files without a suffix (not read)"


def _name_reason(entry: os.DirEntry[str]) -> str | None:
    if entry.name.startswith("._"):
        return RESOURCE_FORK
    if entry.name.startswith("."):
        return HIDDEN
    return SYSTEM if entry.name in SYSTEM_FOLDERS and entry.is_dir() else None
