"""A folder of certificates as this user, on this day, can use it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from heron_core.doctor.examination import Finding, warning
from heron_core.errors import ConfigError
from heron_core.trust.facts import Facts, day, fault_in_time
from heron_core.trust.folder import CA, CERT, KEY, CertFolder

SOON = timedelta(days=14)
OTHERS = 0o077
"""Of a file's mode: what its group and everybody may do."""


def certificates(folder: CertFolder, now: datetime) -> Generator[Finding, None, Facts]:
    """What the certificate says; warnings on the way.

    Raises ConfigError where this user cannot read a file, they do not fit each other, or the day is not one of theirs.
    """
    for name in (CA, CERT, KEY):
        check_readable(folder.path / name)
    facts = folder.read().facts
    if fault := fault_in_time(f"the certificate {folder.path / CERT}", facts, now):
        raise ConfigError(fault)
    if facts.not_after - now < SOON:
        yield warning(f"{folder.path / CERT} expires on {day(facts.not_after)}; make it anew: heron-server certs")
    yield from kept_private(folder.path / KEY)
    return facts


def kept_private(path: Path) -> Iterator[Finding]:
    """A warning where others on this machine may read the file, which proves a name."""
    mode = path.stat().st_mode & 0o777
    if mode & OTHERS:
        yield warning(f"{path} has mode {mode:04o}, so that others here can take this name: chmod 600 {path}")


def check_readable(path: Path) -> None:
    """ConfigError that says whose the file is, where this user may not read it. What is missing, `read` says."""
    try:
        path.open("rb").close()
    except PermissionError:
        pass
    except OSError:
        return
    else:
        return
    user, of = _user(os.geteuid()), path
    try:
        owner, mode = _user(path.stat().st_uid), path.stat().st_mode & 0o777
    except PermissionError:
        of = path.parent
        owner, mode = "another user", 0
    says = f"it belongs to {owner} and has mode {mode:04o}" if of is path else f"the folder {of} is closed to it"
    raise ConfigError(f"{user} may not read {path}: {says}; chown -R {user} {path.parent}")


def _user(number: int) -> str:
    """The user's name; the number of one who has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
