"""The libraries that are installed here, against those that this Heron needs."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence

from heron_core.doctor.examination import Finding, ok
from heron_core.errors import ConfigError
from heron_core.process.libraries import how_to_install, installed, least_versions
from heron_core.version import PROTOCOL_VERSION, __version__


def versions(libraries: Sequence[str]) -> Iterator[Finding]:
    """What is installed. Raises ConfigError for a library that is missing or too old."""
    least, found = least_versions(), {name: installed(name) for name in libraries}
    for name, version in found.items():
        if version is None or _numbers(version) < _numbers(least.get(name, "0")):
            what = f"{name} {version} is too old" if version else f"{name} is not installed"
            wanted = f", this Heron needs {name}>={least[name]}" if name in least else ""
            raise ConfigError(f"{what}{wanted}: {how_to_install(name)}")
    yield ok(f"Heron {__version__}, protocol {PROTOCOL_VERSION}, Python {platform.python_version()}")
    yield ok(", ".join(f"{name} {version}" for name, version in found.items()))


def _numbers(version: str) -> tuple[int, ...]:
    """Of `2.10.0+cpu`: (2, 10, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
