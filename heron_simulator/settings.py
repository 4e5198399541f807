"""The [simulate] table of a run file: what the simulator's clients and their links are like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from heron_core.config import load_tables, validate
from heron_core.spec.kinds import Fraction, NonNegative, Settings
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings


class NetworkSettings(Settings):
    latency_ms: NonNegative = 0.0
    """One-way delay of a message between a client and the server, milliseconds."""
    mbit_per_s: NonNegative = 0.0
    """Each client's own rate, each way, 10^6 bits a second. 0: unlimited."""
    up_mbit_per_s: NonNegative = 0.0
    """Its rate to the server. 0: mbit_per_s."""
    down_mbit_per_s: NonNegative = 0.0
    """Its rate from the server. 0: mbit_per_s."""
    compute_s_per_step: NonNegative = 0.0
    """Seconds a client computes for one local step. 0: what client_gmacs_per_s says."""
    client_gmacs_per_s: NonNegative = 0.0
    """10^9 multiply-accumulates a second of a client; a step costs what its method counts. 0: no time."""
    server_s_per_step: NonNegative = 0.0
    """Seconds of one optimiser step of the server."""


class SimulateSettings(Settings):
    dropout: Fraction = 0.0
    """Chance that a participant vanishes at the start of a round and is back for the next (seeded)."""
    backend: Literal["auto", "torch", "onnx"] = "auto"
    """What runs the model at each client whose own file does not say. onnx: graphs, as at clients without torch."""
    network: NetworkSettings = NetworkSettings()
    """Links on a virtual clock: the summary says how long each round would have taken."""


class SimulationFile(RunSpec):
    """A run file as `heron-simulate` reads it: whole, with every table typed."""

    server: ServerSettings = ServerSettings()
    """Local facts of the server; clients never see them."""
    simulate: SimulateSettings = SimulateSettings()
    """What the simulator's clients and links are like; `heron-server` ignores it."""


def load_simulate_settings(path: Path, overrides: Sequence[str]) -> SimulateSettings:
    """The [simulate] table of the file; raises ConfigError, for a wrong key or value of any table."""
    return validate(SimulationFile, load_tables(SimulationFile, path, overrides), str(path)).simulate
