from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from server.driven import Server

from heron_core.models.split_model import SplitModel
from heron_server.training.worker import Worker


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Opens servers that are closed at the end; `server`: its [server] table, `tables`: those of the run spec."""
    made: list[Server] = []

    def make(
        folder: str = "run", resume: bool = False, model: SplitModel | None = None,
        worker: Worker | None = None, server: dict[str, Any] | None = None, **tables: Any,
    ) -> Server:  # fmt: skip
        made.append(Server(tmp_path / folder, tiny.spec(**tables), resume, model, worker, **(server or {})))
        return made[-1]

    yield make
    for server in made:
        server.close()
