"""Cases of folders: names of classes, strays, levels too many or too few, and files that are no pictures."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from integration.generated_inputs import Case, Data
from integration.generated_pictures import NAMES, others_of, write_folder
from PIL import Image

Change = Callable[[Path], Any]
"""Of client a's folder, once it is written."""

NAMED: dict[str, tuple[str, ...]] = {
    "accents": ("Apfel", "Birne", "Äpfel"),
    "upper case": ("APPLE", "Pear", "plum"),
    "numbers": ("0", "1", "10"),
    "numbers from 1": ("1", "2", "3"),
    "leading zeros": ("007", "08", "9"),
    "spaces": (" apple", "a pear", "plum "),
    "dots": ("a.b", "c..", "d.png"),
    "emoji": ("🍎", "🍐", "🫐"),
    "right to left": ("אגס", "תפוח", "שזיף"),
    "Chinese": ("李子", "梨", "苹果"),
    "signs": ("a,b", "c'd", 'e"f'),
    "shell": ("$HOME", "*", "~"),
    "brackets": ("[red]", "{green}", "<blue>"),
    "minus": ("--help", "-x", "_"),
    "long": ("a" * 200, "b" * 200, "c" * 200),
    "TOML": ("#no", "a = 1", "true"),
    "control characters": ("a\tb", "c\nd", "e\x1b[31mf"),
    "suffixes": ("apple.jpg", "pear.npz", "plum.toml"),
    "like our own": ("data", "model", "test"),
}


def folder_cases() -> Iterator[Case]:
    """All of them."""
    for name, names in NAMED.items():
        ordered = tuple(sorted(names))
        odd = name == "control characters"
        more = {"names": ordered, "equal": True, "others": others_of(ordered), "may_be_refused": odd}
        yield _folder(f"classes with {name}", culprit="printable" if odd else "client_a", **more)
        listed = {"class_names": ordered}
        yield _folder(f"classes with {name}, listed in the run", run=listed, culprit="class_names", **more)
    yield from _orders()
    yield from _strays()
    yield from _levels()
    yield from _files()
    yield from _paths()


def _orders() -> Iterator[Case]:
    """The other side's names are NAMES, or those given; client a's differ."""
    for form in ("NFC", "NFD"):
        decomposed = tuple(unicodedata.normalize(form, name) for name in sorted(NAMED["accents"]))
        yield _folder(f"classes in {form}", names=decomposed, equal=True, others=others_of(NAMED["accents"]))
    changes: dict[str, tuple[str, ...]] = {
        "of another case": ("Apple", "pear", "Plum"), "misspelt": ("aple", "pear", "plum"),
        "of another language": ("pomme", "poire", "prune"), "with a space": ("apple", "pear", "plum "),
        "numbered": ("0_apple", "1_pear", "2_plum"),
    }  # fmt: skip
    for name, names in changes.items():
        yield _folder(f"classes {name}", names=names, refused=True)
    for missing in range(3):
        yield _folder(f"without class {missing}", lambda a, missing=missing: shutil.rmtree(a / NAMES[missing]))
        yield _folder(f"with class {missing} empty", lambda a, missing=missing: _empty(a / NAMES[missing]))
    yield _folder("of one class", lambda a: [shutil.rmtree(a / name) for name in NAMES[:2]])
    yield _folder(
        "classes listed in another order", equal=True, run={"class_names": ["plum", "apple", "pear"]}, twin=False
    )
    yield _folder(
        "another class listed", refused=True, run={"class_names": ["apple", "pear", "quince"]}, culprit="plum"
    )


def _strays() -> Iterator[Case]:
    for name in (
        ".cache",
        ".git",
        "__MACOSX",
        "lost+found",
        ".ipynb_checkpoints",
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
    ):
        for kind, fill in {"empty": lambda f: None, "with a picture": _picture}.items():
            yield _folder(
                f"stray {name} {kind}", lambda a, name=name, fill=fill: fill(_made(a / name)), culprit=r"[\w+$@]{4}"
            )
    for name in ("old", "Apple2", "trash"):
        yield _folder(f"empty stray {name}", lambda a, name=name: _made(a / name), equal=name == "old")
        yield _folder(
            f"stray {name} with a picture", lambda a, name=name: _picture(_made(a / name)), refused=True, culprit=name
        )
    yield _folder("a hidden folder in a class", lambda a: _picture(_made(a / "pear" / ".thumbs")), equal=True)
    yield _folder("a broken link", lambda a: (a / "quince").symlink_to(a / "nowhere"))
    yield _folder("a link to itself", lambda a: (a / "apple" / "loop").symlink_to(a / "apple"))
    yield _folder("linked classes", _linked, equal=True)


def _levels() -> Iterator[Case]:
    yield _folder("one level too high", lambda a: _moved(a, "train"), refused=True)
    yield _folder("two levels too high", lambda a: (_moved(a, "train"), _moved(a, "data")), refused=True)
    yield _folder(
        "train and test below it",
        lambda a: (_moved(a, "train"), shutil.copytree(a / "train", a / "test")),
        refused=True,
    )
    yield _folder("one level too low", path="apple", refused=True)
    yield _folder("all pictures in one place", _flattened, refused=True)
    yield _folder("pictures a level deeper", lambda a: [_moved(a / name, "more") for name in NAMES], equal=True)


def _files() -> Iterator[Case]:
    text = b"not a picture"
    for name in (
        ".DS_Store",
        "Thumbs.db",
        "notes.txt",
        "labels.csv",
        ".hidden.png",
        "._001.png",
        "desktop.ini",
        "001.png.txt",
    ):
        yield _folder(f"a file {name}", lambda a, name=name: (a / "apple" / name).write_bytes(text), equal=True)
        yield _folder(
            f"a file {name} beside the classes", lambda a, name=name: (a / name).write_bytes(text), equal=True
        )
    bad = {"empty": b"", "text": text, "html": b"<html>404</html>", "half": None, "its header": b"\x89PNG\r\n\x1a\n"}
    for name, content in bad.items():
        yield _folder(
            f"a picture that is {name}",
            lambda a, content=content: _spoilt(a / "pear" / "015.png", content),
            refused=True,
            culprit=r"015\.png",
        )
        yield _folder(
            f"a picture that is {name}, to be skipped",
            lambda a, content=content: _spoilt(a / "pear" / "015.png", content),
            table={"on_bad_sample": "skip"},
            culprit=r"015\.png",
        )
    yield _folder("a folder called as a picture", lambda a: _made(a / "apple" / "zzz.png"), equal=True)
    yield _folder("a pipe", lambda a: os.mkfifo(a / "apple" / "pipe.png"), equal=True)
    yield _folder("no suffix", lambda a: [file.rename(file.with_suffix("")) for file in sorted(a.rglob("*.png"))])


def _paths() -> Iterator[Case]:
    yield _folder("with a slash at its end", path="", equal=True)
    yield _folder("that goes up and down", path="apple/..", equal=True)
    yield _folder("that is a file", path="apple/000.png", refused=True)
    yield _folder("that is not there", path="nothing", refused=True)


def _folder(name: str, change: Change = lambda a: None, *, names: tuple[str, ...] = NAMES, path: str | None = None,
            table: Data | None = None, twin: bool = True, **more: Any) -> Case:  # fmt: skip
    def write(folder: Path) -> Data:
        a = folder / "client_a"
        write_folder(a, names=names)
        change(a)
        where = str(a) if path is None else f"{a}/{path}"
        return {"source": "image_folder", "path": where, **(table or {})}

    more = {"culprit": "client_a", "others": others_of(), **more}
    if not twin:
        more["equal"] = False
    return Case(f"folder {name}", write, **more)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _picture(folder: Path) -> None:
    Image.new("L", (8, 8), 128).save(folder / "000.png")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _moved(folder: Path, below: str) -> None:
    """All that is in it is moved one level down."""
    inside = list(folder.iterdir())
    target = _made(folder / below)
    for each in inside:
        each.rename(target / each.name)


def _linked(folder: Path) -> None:
    for name in NAMES:
        target = folder.with_name(f"there_{name}")
        (folder / name).rename(target)
        (folder / name).symlink_to(target)


def _flattened(folder: Path) -> None:
    for name in NAMES:
        for file in list((folder / name).iterdir()):
            file.rename(folder / f"{name}_{file.name}")
        (folder / name).rmdir()


def _spoilt(file: Path, content: bytes | None) -> None:
    """None: the first half of it."""
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
