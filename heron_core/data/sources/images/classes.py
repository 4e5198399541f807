"""Which sub-folder of an image folder is which class, and which folder was meant where the path looks wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heron_core.class_names import listed, normal
from heron_core.data.skipped import Skipped, tally
from heron_core.data.sources.images.walk import Found, class_folders, entries, reason_to_pass, walk
from heron_core.errors import DataError

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev", "holdout"})
"""Names of folders that hold a part of a data set, rather than a class."""
EMPTY = "class folders without an image"
OUTSIDE = "images outside the class folders"


@dataclass(frozen=True)
class Classes:
    """The images of a folder, class by class."""

    names: tuple[str, ...]
    """In label order."""
    files: list[Path]
    labels: list[int]
    skipped: Skipped
    """Paths are those below the folder."""


def find_classes(root: Path, order: Sequence[str], class_names: Sequence[str], classes: int) -> Classes:
    """The sub-folders are the classes, sorted by name, or as the operator's own `order` lists them.

    `class_names`: the run's, empty where they are not known. `classes`: how many the model has, 0 where that is not
    known. Raises DataError for a missing folder, no images, a sub-folder with images that `order` does not list, and a
    path that is a level too high or too low.
    """
    if not root.is_dir():
        raise DataError(f"no image folder at {root}; set data.path in the client's file, or the server's test_path")
    found = {folder.name: walk(folder) for folder in class_folders(root)}
    loose, passed_over = _top(root)
    if not found:
        raise DataError(f"{root} must hold one sub-folder for each class, got none; {_too_low(root, loose)}")
    _check_level(root, found, [*class_names, *order], classes)
    full = [name for name, below in found.items() if below.images]
    if not full:
        raise DataError(f"no images in the sub-folders of {root} ({listed(list(found))}); check data.path")
    names = _in_order(root, found, order) if order else list(found)
    pairs = [(file, label) for label, name in enumerate(names) if name in found for file in found[name].images]
    passed_over += [(OUTSIDE, path) for path in loose]
    passed_over += [(EMPTY, root / name) for name in found if name not in full]
    passed_over += [pair for below in found.values() for pair in below.passed_over]
    skipped = tally((why, path.relative_to(root)) for why, path in passed_over)
    return Classes(tuple(names), [file for file, _ in pairs], [label for _, label in pairs], skipped)


def _in_order(root: Path, found: dict[str, Found], order: Sequence[str]) -> list[str]:
    """`order`, in the spelling of the folders that are there."""
    spelled = {normal(name): name for name in found}
    if unknown := [name for name in found if found[name].images and normal(name) not in map(normal, order)]:
        raise DataError(
            f"{root} has the folders {listed(unknown)}, which data.options.classes = {listed(order)} does not list; "
            "add them there, or move them away"
        )
    return [spelled.get(normal(name), name) for name in order]


def _top(root: Path) -> tuple[list[Path], list[tuple[str, Path]]]:
    """What lies beside the class folders: images, and what would be passed over anywhere."""
    loose: list[Path] = []
    passed_over: list[tuple[str, Path]] = []
    for entry in entries(root):
        why = reason_to_pass(entry)
        if why and not (entry.is_dir() and entry.is_symlink() and not entry.name.startswith(".")):
            passed_over.append((why, Path(entry.path)))
        elif not entry.is_dir():
            loose.append(Path(entry.path))
    return loose, passed_over


def _too_low(root: Path, loose: Sequence[Path]) -> str:
    if not loose:
        return "check data.path"
    return f"it holds images itself, as a folder of one class does: set data.path to {root.resolve().parent}"


def _check_level(root: Path, found: dict[str, Found], class_names: Sequence[str], classes: int) -> None:
    """Raises DataError where the classes lie a level deeper, as in root/train/<class>."""
    known = set(map(normal, class_names))
    if any(normal(name) in known for name in found) or any(_lies_in(root / name, f) for name, f in found.items()):
        return
    below = {name: sorted({p.relative_to(root / name).parts[0] for p in f.images}) for name, f in found.items()}
    if known:
        right = [name for name, subs in below.items() if known & set(map(normal, subs))]
    else:
        count_is_wrong = bool(classes) and len(below) != classes
        right = [name for name, subs in below.items() if len(subs) == classes] if count_is_wrong else []
        if all(name.casefold() in SPLITS for name in below) or (not classes and len(below) == 1):
            right = right or [name for name, subs in below.items() if subs]
    if right:
        best = min(right, key=lambda name: (not name.casefold().startswith("train"), name))
        raise DataError(
            f"{root} holds {listed(list(below))}, and the classes lie one level deeper ({listed(below[best])}); "
            f"set data.path to {root / best}"
        )


def _lies_in(folder: Path, found: Found) -> bool:
    """Has the folder images of its own, not only in sub-folders?"""
    return any(image.parent == folder for image in found.images)
