"""Activation codecs over both transports, for each purpose by itself: one result, fewer bytes, and it learns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from integration.five_tasks import need_data, simulated
from integration.test_task_bits import SHORT
from integration.worlds import GrpcWorld, InProcessWorld, Member, World

from heron_core.spec.run_spec import RunSpec
from heron_core.wire.grouped import Grouped
from heron_simulator.simulator import simulate

PURPOSES = ("uploads", "evaluation", "cut_gradients")
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


def run(
    world: type[InProcessWorld] | type[GrpcWorld], folder: Path, npz: Callable[[int], Path], **codec: str
) -> dict[str, Any]:
    """sflv2 with evaluation by its clients: something of each purpose travels."""
    spec = RunSpec.model_validate({
        "rounds": ROUNDS, "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
        "data": {"source": "client", "holdout": 0.2}, "codec": codec,
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


@pytest.mark.parametrize(("codec", "share"), [("bf16", 2.0), ("int8", 1.0625)])
def test_each_purpose_travels_by_its_own_codec_with_one_result_over_both_transports(
    codec: str, share: float, tmp_path: Path, digits_npz: Callable[[int], Path]
) -> None:
    raw = run(InProcessWorld, tmp_path / "raw", digits_npz)
    trained, held = CLIENTS * ROUNDS * STEPS * ROWS, CLIENTS * ROUNDS * 8
    as_floats = {"uploads": trained * CUT * 4, "evaluation": held * (CUT * 4 + LABEL_BYTES)}
    assert sizes(raw) == {**as_floats, "cut_gradients": as_floats["uploads"]}

    encoded = (trained * CUT * share, held * (CUT * share + LABEL_BYTES), trained * CUT * share)
    for purpose, fewer in zip(PURPOSES, encoded, strict=True):
        here = run(InProcessWorld, tmp_path / f"here-{purpose}", digits_npz, **{purpose: codec})
        there = run(GrpcWorld, tmp_path / f"there-{purpose}", digits_npz, **{purpose: codec})
        assert sizes(here) == sizes(there) == {**sizes(raw), purpose: fewer}
        assert here["model_sha256"] == there["model_sha256"] and here["loss"] == there["loss"]
        same_model = here["model_sha256"] == raw["model_sha256"]
        assert same_model is (purpose == "evaluation"), "what is evaluated trains nothing"
        assert (here["loss"] == raw["loss"]) is False


def test_packed_labels_change_no_bit_of_the_model_over_both_transports(
    tmp_path: Path, digits_npz: Callable[[int], Path]
) -> None:
    raw = run(InProcessWorld, tmp_path / "raw", digits_npz)
    for world in (InProcessWorld, GrpcWorld):
        found = run(world, tmp_path / world.__name__, digits_npz, labels="packed")
        assert found["model_sha256"] == raw["model_sha256"] and found["loss"] == raw["loss"]
        assert found["ledger"]["labels_up"] == raw["ledger"]["labels_up"] // LABEL_BYTES


def test_uploads_are_decoded_on_the_worker_and_nowhere_else(
    tmp_path: Path, digits_npz: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    decode = Grouped.decode

    def watched(codec: Grouped, *arguments: Any) -> None:
        threads.add(threading.current_thread().name)
        decode(codec, *arguments)

    monkeypatch.setattr(Grouped, "decode", watched)
    run(GrpcWorld, tmp_path / "run", digits_npz, uploads="int8", evaluation="int8")
    assert threads == {"heron-worker"}


@pytest.mark.parametrize("method", ["heron", "sflv2"])
def test_a_run_by_another_codec_learns_the_digits_all_the_same(method: str) -> None:
    codec = {"uploads": "int8", **({"cut_gradients": "int8"} if method == "sflv2" else {})}
    spec = RunSpec.model_validate({
        "rounds": 2, "federation": {"clients": 3}, "server_optimizer": {"lr": 3e-3}, "codec": codec,
        "method": {"name": method, "local_steps": 24, "batch_size": 16, "optimizer": {"lr": 5e-3}},
    })  # fmt: skip
    assert simulate(spec).summary["accuracy"] > 0.7


@pytest.mark.parametrize("codec", ["bf16", "int8"])
def test_sequences_of_varying_length_and_their_masks_travel_by_another_codec(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_data("next_token", monkeypatch)
    micro = ("method.micro_batch=2", f"codec.uploads={codec}")
    cut = ("method.name=sflv2", f"codec.uploads={codec}", f"codec.cut_gradients={codec}")
    for chosen in (micro, cut):
        raw, found = simulated("next_token", *SHORT, chosen[0]), simulated("next_token", *SHORT, *chosen)
        assert found["ledger"]["activations_up"] < 0.51 * raw["ledger"]["activations_up"]
        assert found["model_sha256"] != raw["model_sha256"] and found["loss"] == pytest.approx(raw["loss"], rel=0.05)
