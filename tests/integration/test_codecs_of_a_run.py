"""Other activation codecs over both transports, for each purpose by itself: one result, fewer bytes, and it learns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import toy_codecs
from integration.five_tasks import need_data, simulated
from integration.test_task_bits import SHORT
from integration.worlds import GrpcWorld, InProcessWorld, Member, World

from heron_core.arrays import Array, TensorSpec
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.activation_codec import Empty, Purpose
from heron_simulator.simulator import simulate

PURPOSES: tuple[Purpose, ...] = ("uploads", "evaluation", "cut_gradients")
KINDS = {"uploads": "activations_up", "evaluation": "evaluation_up", "cut_gradients": "cut_gradients_down"}
"""Where the ledger charges what travels for each purpose."""
CLIENTS, ROUNDS, STEPS, ROWS = 2, 2, 3, 8
CUT = 16 * 4 * 4
"""Numbers of one digit at the cut of digits_cnn."""
LABEL_BYTES = 8


@pytest.fixture
def digits_npz(tmp_path: Path) -> Callable[[int], Path]:
    """The file of one client: digits by its own number."""
    import numpy as np

    from heron_core.data.sources import digits

    train, _ = digits.load()

    def write(number: int) -> Path:
        (x,), y = train.batch(np.arange(number * 40, number * 40 + 40))
        path = tmp_path / f"{number}.npz"
        np.savez(path, x=x, y=y)
        return path

    return write


def run(world: type[InProcessWorld] | type[GrpcWorld], folder: Path, npz: Callable[[int], Path]) -> dict[str, Any]:
    """sflv2 with evaluation by its clients: something of each purpose travels."""
    spec = RunSpec.model_validate({
        "rounds": ROUNDS, "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
        "data": {"source": "client", "holdout": 0.2},
        "method": {"name": "sflv2", "local_steps": STEPS, "batch_size": ROWS},
    })  # fmt: skip
    members = [Member(f"c{i}", data={"source": "npz", "path": str(npz(i))}) for i in range(CLIENTS)]
    opened: World = world(spec, folder)
    try:
        summary = opened.run(*members)
    finally:
        opened.close()
    assert summary["errors"] == {}
    return summary


def sizes(summary: dict[str, Any]) -> dict[str, int]:
    return {purpose: summary["ledger"][kind] for purpose, kind in KINDS.items()}


def test_each_purpose_travels_by_its_own_codec_with_one_result_over_both_transports(
    tmp_path: Path, digits_npz: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = run(InProcessWorld, tmp_path / "raw", digits_npz)
    trained, held = CLIENTS * ROUNDS * STEPS * ROWS, CLIENTS * ROUNDS * 8
    as_floats = {"uploads": trained * CUT * 4, "evaluation": held * (CUT * 4 + LABEL_BYTES)}
    assert sizes(raw) == {**as_floats, "cut_gradients": as_floats["uploads"]}

    as_halves = (trained * CUT * 2, held * (CUT * 2 + LABEL_BYTES), trained * CUT * 2)
    for purpose, halved in zip(PURPOSES, as_halves, strict=True):
        with monkeypatch.context() as patch:
            toy_codecs.use(patch, "half", purpose)
            here = run(InProcessWorld, tmp_path / f"here-{purpose}", digits_npz)
            there = run(GrpcWorld, tmp_path / f"there-{purpose}", digits_npz)
        assert sizes(here) == sizes(there) == {**sizes(raw), purpose: halved}
        assert here["model_sha256"] == there["model_sha256"]
        same_model = here["model_sha256"] == raw["model_sha256"]
        assert same_model is (purpose == "evaluation"), "what is evaluated trains nothing"


def test_uploads_are_decoded_on_the_worker_and_nowhere_else(
    tmp_path: Path, digits_npz: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    class Watched(toy_codecs.Half):
        def decode(self, encoded: Sequence[Array], specs: Sequence[TensorSpec], empty: Empty) -> list[Array]:
            threads.add(threading.current_thread().name)
            return super().decode(encoded, specs, empty)

    monkeypatch.setitem(toy_codecs.TOYS, "half", Watched())
    toy_codecs.use(monkeypatch, "half", "uploads", "evaluation")
    run(GrpcWorld, tmp_path / "run", digits_npz)
    assert threads == {"heron-worker"}


@pytest.mark.parametrize("name", ["half", "bytes"])
@pytest.mark.parametrize("method", ["heron", "sflv1", "sflv2"])
def test_a_run_by_another_codec_learns_the_digits_all_the_same(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec.model_validate({
        "rounds": 2, "federation": {"clients": 3}, "server_optimizer": {"lr": 3e-3},
        "method": {"name": method, "local_steps": 24, "batch_size": 16, "optimizer": {"lr": 5e-3}},
    })  # fmt: skip
    raw = simulate(spec).summary
    toy_codecs.use(monkeypatch, name, *PURPOSES)
    found = simulate(spec).summary
    assert found["accuracy"] > 0.7
    assert found["ledger"]["activations_up"] < 0.51 * raw["ledger"]["activations_up"]
    assert found["ledger"]["labels_up"] == raw["ledger"]["labels_up"]


@pytest.mark.parametrize("name", ["half", "bytes"])
@pytest.mark.parametrize("overrides", [("method.micro_batch=2",), ("method.name=sflv2",)], ids=["heron", "sflv2"])
def test_sequences_of_varying_length_and_their_masks_travel_by_another_codec(
    name: str, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    need_data("next_token", monkeypatch)
    raw = simulated("next_token", *SHORT, *overrides)
    toy_codecs.use(monkeypatch, name, *PURPOSES)
    found = simulated("next_token", *SHORT, *overrides)
    assert found["ledger"]["activations_up"] < 0.51 * raw["ledger"]["activations_up"]
    assert found["model_sha256"] != raw["model_sha256"] and found["loss"] == pytest.approx(raw["loss"], rel=0.05)
