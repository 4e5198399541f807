"""A process that gives memory back holds what it uses, not what it has used."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import numpy as np
from heron_client.compute.meter import resident_bytes
from heron_core.process.heap import give_memory_back

assert give_memory_back()
def freed(count):
    held = [np.ones(200 << 10, np.uint8) for _ in range(count)]
    last = np.ones(8, np.uint8)  # stands behind them: the heap could not shrink
    del held
    return last
freed(1)
before = resident_bytes()
freed(150)
print(resident_bytes() - before)
"""


def test_freed_blocks_go_back_to_the_system() -> None:
    grown = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 4 << 20  # of 30 MB
