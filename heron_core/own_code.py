"""Where a user's own code is found, and which line of it raised an error."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from heron_core.errors import HeronError

_PACKAGES = Path(__file__).parent.parent
_LIBRARIES = tuple(
    {
        *(f"{_PACKAGES / name}/" for name in ("heron_core", "heron_client", "heron_server", "heron_simulator")),
        *(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")),
    }
)
_INSTALLED = ("/site-packages/", "/dist-packages/")
"""In whichever environment: one may see the packages of another."""


def find_code_in(folders: Iterable[Path]) -> None:
    """Puts the folders at the front of Python's search path, once each."""
    for folder in map(str, map(Path.resolve, folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def place_in_users_code(error: BaseException) -> str:
    """`net.py:12 in forward`: the innermost line on the error's way that a user wrote; empty where there is none.

    A user's is what lies neither in Heron, nor in an installed package, nor in Python's own library.
    """
    own = [
        f"{Path(name).name}:{line} in {frame.f_code.co_name}"
        for frame, line in walk_tb(error.__traceback__)
        if _is_users(name := frame.f_code.co_filename)
    ]
    return own[-1] if own else ""


def _is_users(name: str) -> bool:
    """A cell of a notebook has no file."""
    if name.startswith("<"):
        return name.startswith(("<ipython-input", "<stdin>"))
    return not name.startswith(_LIBRARIES) and not any(place in name for place in _INSTALLED)


def said_by(error: BaseException) -> str:
    """`KeyError: 'weights' (net.py:12 in forward)`, on one line."""
    said, place = " ".join(str(error).split()), place_in_users_code(error)
    return f"{type(error).__name__}{said and f': {said}'}{place and f' ({place})'}"


@contextmanager
def naming_users_code(what: str, kind: type[HeronError]) -> Iterator[None]:
    """What a user's code raises inside becomes `kind`, which names their line. Also a decorator.

    `what`: whose it is, such as `the model`. An error that passed no line of theirs stays what it is, as does a
    HeronError.
    """
    try:
        yield
    except HeronError:
        raise
    except (Exception, SystemExit) as error:
        if not place_in_users_code(error):
            raise
        raise kind(f"{what} failed in its own code: {said_by(error)}; mend it there") from error
