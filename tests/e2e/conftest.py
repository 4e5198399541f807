"""A bench of real processes for each test, in its own folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import WARM, Bench, Warm


@pytest.fixture(autouse=True, scope="session")
def warm() -> Iterator[None]:
    """Commands of Heron's that tests start need not import it again."""
    WARM.append(Warm(PYTHONWARNINGS="error", GRPC_VERBOSITY="NONE", GRPC_DNS_RESOLVER="native"))
    yield
    WARM.pop().close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench
