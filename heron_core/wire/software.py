"""What decides the last bits of the same arithmetic, as either side tells the other at Join."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import __version__

MOST_LETTERS = 64
UNSAID = "?"
BY_GRAPHS = "onnx"
"""The backend of a client without torch."""


@dataclass(frozen=True)
class Software:
    """Of one side."""

    heron: str
    python: str
    torch: str
    numpy: str
    backend: str
    """Where the model runs: cpu or cuda by torch, or `BY_GRAPHS`, with the execution provider if it is not the cpu."""
    machine: str
    """The processor's family."""

    @classmethod
    def here(cls, backend: str) -> Software:
        """Of this process; `backend` as above. Imports nothing."""
        return cls(
            __version__, platform.python_version(), _installed("torch"), _installed("numpy"), backend,
            platform.machine() or UNSAID,
        )  # fmt: skip

    @classmethod
    def read(cls, message: pb.Software) -> Software:
        """What a peer says, in printable characters and not too many of them."""
        said = {name: _cut(getattr(message, name)) for name in cls.__dataclass_fields__}
        return cls(**said)

    @property
    def runs_graphs(self) -> bool:
        """Has this side no model code, so that it needs the server's graphs?"""
        return self.backend.partition(" ")[0] == BY_GRAPHS

    def message(self) -> pb.Software:
        """For the other side."""
        return pb.Software(**asdict(self))

    def __str__(self) -> str:
        """`Heron 0.1.0, Python 3.11.9, torch 2.10.0, numpy 2.4.1, cpu, x86_64`."""
        return (
            f"Heron {self.heron}, Python {self.python}, torch {self.torch}, numpy {self.numpy}, {self.backend}, "
            f"{self.machine}"
        )


def differences(here: Software, there: Software, where: str) -> str:
    """`torch 2.11 here, 2.4 at edge-3`: what may give other bits, for one line of a log; empty where nothing does.

    A side that says nothing differs in nothing. Python's own version decides no bits, and the two sides need not
    compute on the same kind of device.
    """
    return ", ".join(_differing(here, there, where))


def _differing(here: Software, there: Software, where: str) -> Iterator[str]:
    for name in ("heron", "torch", "numpy", "machine"):
        ours, theirs = getattr(here, name), getattr(there, name)
        if ours != theirs and UNSAID not in (ours, theirs):
            yield f"{name} {ours} here, {theirs} at {where}"


def _cut(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:MOST_LETTERS]) or UNSAID


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return UNSAID
