"""The libraries that are installed here, against those that this Heron needs."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from importlib import metadata

from heron_core.doctor.examination import Finding, ok
from heron_core.errors import ConfigError
from heron_core.version import PROTOCOL_VERSION, __version__

PACKAGE = "heron-sfl"
AT_LEAST = re.compile(r"([\w.-]+)\s*>=\s*([\d.]+)")


def versions(libraries: Sequence[str]) -> Iterator[Finding]:
    """What is installed. Raises ConfigError for a library that is missing or too old."""
    least, found = _least(), {name: _installed(name) for name in libraries}
    for name, version in found.items():
        if version is None or _numbers(version) < _numbers(least.get(name, "0")):
            wanted = f"{name}>={least[name]}" if name in least else name
            what = f"{name} {version} is too old" if version else f"{name} is not installed"
            raise ConfigError(f"{what}, this Heron needs {wanted}: pip install '{wanted}'")
    yield ok(f"Heron {__version__}, protocol {PROTOCOL_VERSION}, Python {platform.python_version()}")
    yield ok(", ".join(f"{name} {version}" for name, version in found.items()))


def _least() -> dict[str, str]:
    """The oldest version of each library that Heron takes; none where Heron is not installed but lies on the path."""
    try:
        wanted = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return {}
    return {match[1]: match[2] for line in wanted if (match := AT_LEAST.match(line)) and "extra ==" not in line}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Of `2.10.0+cpu`: (2, 10, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
