"""Inputs as strangers bring them, run through a client and a server, beside their clean twin.

Every case is the same 36 small pictures of three classes, black and white, stored in another way. The clean twin is
their uint8 in an .npz. Whatever stores the same values must end in the twin's digest; what cannot must come within two
points of its accuracy, or be refused by an error that names the culprit. Nothing else may be raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heron_core.config import validate
from heron_core.errors import HeronError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_simulator.simulator import simulate

CLASSES = 3
SHAPE = (3, 8, 8)
EACH = 12
"""Pictures of each class that a client has."""
TEST_EACH = 20
TOLERANCE = 0.02
RUN: dict[str, Any] = {
    "rounds": 1,
    "model": {"name": "mlp", "input_shape": list(SHAPE), "classes": CLASSES, "widths": [16, 16]},
    "method": {"name": "cse_fsl", "local_steps": 12, "batch_size": 8, "optimizer": {"lr": 1e-2}},
    "server_optimizer": {"lr": 1e-2},
    "federation": {"clients": 2},
    "data": {"source": "client", "holdout": 0.0},
}

Pixels = NDArray[np.uint8]
Data = dict[str, Any]
"""The [data] table of a client's file."""


@dataclass(frozen=True)
class Case:
    """One way to store client a's pictures."""

    name: str
    write: Callable[[Path], Data]
    """Writes them below this folder."""
    equal: bool = False
    """The stored values are those of the twin: only its digest will do."""
    culprit: str = r"a\.npz"
    """What a refusal must say, as a pattern."""
    refused: bool = False
    """It must be refused: what was meant cannot be known."""
    may_be_refused: bool = False
    """Also where the values are equal."""
    others: Callable[[Path], tuple[Data, Data]] | None = None
    """The other client's data and the server's test set, where they must be of the same kind: below this folder, which
    all cases share."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Of the run spec's [data]."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """How a run ended: with a digest and an accuracy, or by an error."""

    digest: str = ""
    accuracy: float = 0.0
    refusal: str = ""


def pictures(who: str, each: int = EACH) -> tuple[Pixels, NDArray[np.int64]]:
    """Sorted by class: uint8 [N, 3, 8, 8] of 0 and 255, all channels alike; a pattern a class, some pixels flipped."""
    labels = np.repeat(np.arange(CLASSES), each)
    patterns = np.random.default_rng(7).random((CLASSES, 8, 8)) < 0.5
    rng = np.random.default_rng(sum(map(ord, who)))
    grey = (patterns[labels] ^ (rng.random((len(labels), 8, 8)) < 0.1)).astype(np.uint8) * np.uint8(255)
    return np.ascontiguousarray(np.broadcast_to(grey[:, None], (len(labels), *SHAPE))), labels


def npz(path: Path, **arrays: Any) -> Data:
    """Saved, and the table that names it."""
    np.savez(path, **arrays)
    return {"source": "npz", "path": str(path)}


def clean_pictures(folder: Path, who: str, each: int) -> Data:
    """As uint8."""
    x, y = pictures(who, each)
    return npz(folder / f"{who}.npz", x=x, y=y)


class World:
    """The clean data of both sides on the disk, and how each case is judged."""

    def __init__(
        self, folder: Path, clean: Callable[[Path, str, int], Data] = clean_pictures, run: Mapping[str, Any] = RUN
    ) -> None:
        """`clean` writes the clean data of this client, so many of each class, below the folder."""
        self.folder, self._clean, self._run = folder, clean, run
        self.b, self.test = clean(folder, "b", EACH), clean(folder, "test", TEST_EACH)

    @cached_property
    def twin(self) -> Outcome:
        """Of client a's clean data."""
        found = self.outcome(self._clean(self.folder, "a", EACH), self.b, self.test)
        assert found.accuracy > 0.95, found
        return found

    def outcome(self, a: Data, b: Data, test: Data, run: Mapping[str, Any] | None = None) -> Outcome:
        """Of one round of both clients; whatever is not Heron's own error comes through."""
        try:
            spec = validate(RunSpec, {**self._run, "data": {**self._run["data"], **(run or {})}}, "run.toml")
            settings = ServerSettings(
                device="cpu", test_data=test["source"], test_path=Path(test["path"]),
                test_options=test.get("options", {}),
            )  # fmt: skip
            clients = [{"name": "a", "device": "cpu", "data": a}, {"name": "b", "device": "cpu", "data": b}]
            summary = simulate(spec, settings=settings, client_settings=clients).summary
        except HeronError as error:
            return Outcome(refusal=str(error))
        assert summary["accuracy"] is not None
        return Outcome(summary["model_sha256"], summary["accuracy"])

    def problem(self, case: Case, folder: Path) -> str | None:
        """What is wrong with how this case ended; None where it is right."""
        a = case.write(folder)
        b, test = case.others(self.folder) if case.others else (self.b, self.test)
        try:
            found = self.outcome(a, b, test, case.run)
        except Exception as error:
            return f"{type(error).__name__}, which is no error of Heron's: {error}"
        if found.refusal:
            if case.equal and not case.may_be_refused:
                return f"the twin's values are refused: {found.refusal}"
            return None if re.search(case.culprit, found.refusal) else f"does not say {case.culprit}: {found.refusal}"
        if case.refused:
            return f"must be refused, ended with accuracy {found.accuracy}"
        if case.equal:
            return None if found.digest == self.twin.digest else "the twin's values, but not its digest"
        lost = abs(found.accuracy - self.twin.accuracy)
        return None if lost <= TOLERANCE else f"accuracy {found.accuracy:.3f}, the twin's is {self.twin.accuracy:.3f}"
