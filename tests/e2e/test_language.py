"""A decoder's adapters over gRPC, with a server that is killed on the way: the simulator's bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Bench, spec_of
from test_kill_9 import killed_in_round_2, resumed
from tiny_language import SPEC, Sentences, write_decoder

from heron_server.config import ServerSettings
from heron_simulator.simulator import simulate

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytestmark = pytest.mark.slow
CLIENTS, LENGTH = 2, 12
PER_SEQUENCE = {"name": "heron", "auxiliary_update": "server", "zo": {"scope": "sample", "mu": 1e-2}}
STEPS = {"local_steps": 20, "batch_size": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of both sides: a decoder, and sentences of one length."""
    write_decoder(tmp_path / "tiny")
    sentences = Sentences(0, 400)
    long = [(x.numpy(), y.numpy()) for x, y in (sentences[i] for i in range(400)) if len(x) == LENGTH]
    x, y = (np.stack(arrays) for arrays in zip(*long, strict=True))
    np.savez(tmp_path / "tokens.npz", x=x, y=y)
    return tmp_path


def test_one_direction_for_each_sequence_goes_on_with_the_simulators_bits_after_kill_9(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    run: dict[str, Any] = {
        "rounds": 3, "model": SPEC, "data": {"source": "arrays", "file": "tokens.npz", "test_share": 0.2},
        "method": {**PER_SEQUENCE, **STEPS}, "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
    }  # fmt: skip
    served = {**run, "server": {"data_folder": str(folder)}}
    door = bench.relay()
    bench.clients(CLIENTS, door.address, once=False, retry_for_s=0.0, data={"folder": str(folder)})
    killed_in_round_2(bench, served, door, 60_000)
    summary = resumed(bench, served, door).summary()
    settings, client = ServerSettings(data_folder=folder), {"data": {"folder": folder}}
    alone = simulate(spec_of(run), settings=settings, client_settings=client).summary
    assert summary["model_sha256"] == alone["model_sha256"]
