"""Three processes over gRPC, the simulator and the reference loop, one SHA-256.

The three client daemons live through all runs of this file, one server after another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.references import reference_run
from integration.settings import METHODS
from integration.settings import tables as method_tables
from processes import Bench, Relay, spec_of

from heron_core.data.sources.cifar10_files import read_npz
from heron_server.config import ServerSettings
from heron_simulator.simulator import simulate

CLIENTS = 3


def tables(distribution: str, num_directions: int, **more: Any) -> dict[str, Any]:
    """Two rounds of the paper's estimator; a perturbation that float32 does not swallow."""
    mu = 1e-2 if distribution == "sphere" else 1e-3
    zo = {"num_directions": num_directions, "distribution": distribution, "mu": mu}
    method = {"auxiliary_update": "zo", "zo": zo}
    return {"rounds": 2, "federation": {"clients": CLIENTS, "min_clients": CLIENTS}, "method": method, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where CIFAR-10 lies, for the tests that use it."""
    return tmp_path_factory.mktemp("cifar10")


@pytest.fixture(scope="module")
def cache(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, folder: Path, cache: None) -> Iterator[Relay]:
    """The address at which three client daemons look for a server."""
    with Bench(tmp_path_factory.mktemp("clients")) as bench:
        relay = bench.relay()
        bench.clients(CLIENTS, relay.address, once=False, retry_for_s=0.0, data={"folder": str(folder)})
        yield relay


def over_grpc(bench: Bench, door: Relay, run: dict[str, Any], folder: Path) -> str:
    """The SHA-256 that a server and the three daemons come to."""
    return str(summary_over_grpc(bench, door, run, folder)["model_sha256"])


def summary_over_grpc(bench: Bench, door: Relay, run: dict[str, Any], folder: Path) -> dict[str, Any]:
    server = bench.server({**run, "server": {"data_folder": str(folder)}})
    door.lead_to(server.address())
    summary = server.summary()
    assert [record["participants"] for record in summary["history"]] == [CLIENTS] * run["rounds"]
    return summary


def simulated(run: dict[str, Any], folder: Path) -> str:
    settings, client = ServerSettings(data_folder=folder), {"data": {"folder": folder}}
    return str(simulate(spec_of(run), settings=settings, client_settings=client).summary["model_sha256"])


@pytest.mark.parametrize("num_directions", [1, 3])
@pytest.mark.parametrize("distribution", ["sphere", "rademacher"])
def test_digits_cnn_over_grpc_equals_simulator_and_reference(
    bench: Bench, door: Relay, folder: Path, distribution: str, num_directions: int
) -> None:
    run = tables(distribution, num_directions)
    run["method"] |= {"local_steps": 4, "batch_size": 16}
    if distribution == "rademacher":
        run["codec"] = {"client_state": "seeds"}
    sha = over_grpc(bench, door, run, folder)
    assert simulated(run, folder) == sha
    assert reference_run(spec_of(run)) == sha


@pytest.mark.parametrize("setting", METHODS)
def test_every_method_over_grpc_equals_simulator_and_reference(
    bench: Bench, door: Relay, folder: Path, setting: str
) -> None:
    federation = {"clients": CLIENTS, "min_clients": CLIENTS}
    run = {"rounds": 2, "federation": federation, **method_tables(setting, local_steps=4, batch_size=16)}
    sha = over_grpc(bench, door, run, folder)
    assert simulated(run, folder) == sha
    assert reference_run(spec_of(run)) == sha


def test_learning_rates_over_the_run_over_grpc_equal_simulator_and_reference(
    bench: Bench, door: Relay, folder: Path
) -> None:
    run = tables("sphere", 1, server_optimizer={"schedule": "cosine", "final": 0.3, "warm_up": 3})
    run["method"] |= {"local_steps": 4, "batch_size": 16, "optimizer": {"schedule": "linear"}}
    sha = over_grpc(bench, door, run, folder)
    assert simulated(run, folder) == sha
    assert reference_run(spec_of(run)) == sha


def test_an_averaged_back_over_grpc_equals_simulator_and_reference(bench: Bench, door: Relay, folder: Path) -> None:
    run = tables("sphere", 1, averaged_back={"decay": 0.3}, model={"norm": "batch"})
    run["method"] |= {"local_steps": 4, "batch_size": 16}
    sha = over_grpc(bench, door, run, folder)
    assert simulated(run, folder) == sha
    assert reference_run(spec_of(run)) == sha


def test_a_few_bits_over_grpc_equal_simulator_and_reference_and_the_ledger_counts_them(
    bench: Bench, door: Relay, folder: Path
) -> None:
    method = {"name": "sflv2", "local_steps": 40, "batch_size": 16}
    codec = {"uploads": "int8", "cut_gradients": "int4", "labels": "packed"}
    run = {"rounds": 2, "federation": {"clients": CLIENTS, "min_clients": CLIENTS}, "method": method, "codec": codec}
    before = door.carried()
    summary = summary_over_grpc(bench, door, run, folder)
    up, down = (now - earlier for now, earlier in zip(door.carried(), before, strict=True))
    assert simulated(run, folder) == summary["model_sha256"] == reference_run(spec_of(run))
    ledger = summary["ledger"]
    assert ledger["wire_up"] == pytest.approx(up, rel=0.01) and ledger["wire_down"] == pytest.approx(down, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("num_directions", [1, 3])
@pytest.mark.parametrize("distribution", ["sphere", "rademacher"])
def test_resnet18_on_cifar10_over_grpc_equals_simulator_and_reference(
    bench: Bench, door: Relay, cifar10: Path, distribution: str, num_directions: int
) -> None:
    run = tables(distribution, num_directions, model={"name": "resnet18"}, server_optimizer={"name": "sgd"})
    run["method"] |= {"local_steps": 2, "batch_size": 2, "micro_batch": 1}
    run["data"] = {"source": "cifar10", "train_limit": 60, "test_limit": 8}
    sha = over_grpc(bench, door, run, cifar10)
    assert simulated(run, cifar10) == sha
    assert reference_run(spec_of(run), cifar10) == sha


def test_two_threads_over_grpc_equal_two_threads_in_the_simulator(bench: Bench, door: Relay, folder: Path) -> None:
    run = tables("sphere", 1, threads={"client": 2, "server": 2})
    run["method"] |= {"local_steps": 4, "batch_size": 32}
    assert over_grpc(bench, door, run, folder) == simulated(run, folder)


@pytest.fixture(scope="module")
def cifar10(folder: Path) -> Path:
    """The first images of each half as official binary batches: the whole npz takes 12 s to unpack."""
    npz = next((p for p in map(cifar10_npz, data_folders()) if p.is_file()), None)
    if npz is None:
        pytest.skip(f"no cifar10.npz in {' or '.join(map(str, data_folders()))}")
    arrays = read_npz(npz)
    for name, half in [*((f"data_batch_{i}.bin", "train") for i in range(1, 6)), ("test_batch.bin", "test")]:
        images, labels = next(arrays[f"x_{half}"].pieces())[:60], next(arrays[f"y_{half}"].pieces())[:60]
        (folder / name).write_bytes(np.concatenate([labels[:, None], images.reshape(60, -1)], axis=1).tobytes())
    return folder


def cifar10_npz(folder: Path) -> Path:
    here = folder / "cifar10.npz"
    return here if here.is_file() else folder / "cifar10" / "cifar10.npz"


def data_folders() -> list[Path]:
    named = os.environ.get("HERON_DATA")
    return [*([Path(named)] if named else []), Path(__file__).parents[3] / "shared" / "data"]
