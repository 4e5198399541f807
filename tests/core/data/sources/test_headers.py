"""Several clients in one process read their files at once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from heron_core.data.sources.npy import read_npy
from heron_core.data.sources.npz import read_npz


class Interrupts:
    """Garbage whose finaliser lets another thread run, whatever the one that collects it was doing."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        for _ in range(20):
            pass


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns, and garbage is collected, as often as can be."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(20, 2, 2)
    yield
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def test_headers_are_read_in_many_threads(restless: None, tmp_path: Path) -> None:
    x, y = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)

    def read(_: int) -> None:
        for _ in range(60):
            Interrupts()
            read_npz(tmp_path / "a.npz", {})
            read_npy(tmp_path, {})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))
