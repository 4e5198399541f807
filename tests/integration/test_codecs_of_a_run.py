"""Activation codecs over both transports, for each purpose by itself: one result, fewer bytes, and it learns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from integration.worlds import GrpcWorld, InProcessWorld, Member, World

from heron_core.spec.run_spec import RunSpec
from heron_core.wire.codecs.grouped import Grouped
from heron_simulator.simulator import simulate

CLIENTS, ROUNDS, STEPS, ROWS, HELD = 2, 2, 3, 8, 8
TRAINED = CLIENTS * ROUNDS * STEPS * ROWS
EVALUATED = CLIENTS * ROUNDS * HELD
CUT = 16 * 4 * 4
"""Numbers of one digit at the cut of digits_cnn."""
BYTES = {"raw": 4.0, "bf16": 2.0, "int8": 1.0625, "int4": 0.5625, "int2": 0.3125, "topk": 0.375}
"""Of one number."""


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


def sizes(summary: dict[str, Any]) -> tuple[int, ...]:
    """Bytes that the ledger charges for uploads, their labels, cut gradients and evaluation."""
    kinds = ("activations_up", "labels_up", "cut_gradients_down", "evaluation_up")
    return tuple(summary["ledger"][kind] for kind in kinds)


@pytest.mark.parametrize(
    ("up", "down", "evaluation", "labels"), [("int8", "bf16", "int4", "packed"), ("int2", "int8", "topk", "raw")]
)
def test_each_purpose_has_its_codec_decoded_on_the_worker_and_both_transports_give_one_result(
    up: str, down: str, evaluation: str, labels: str, tmp_path: Path, digits_npz: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    codec = {"uploads": up, "cut_gradients": down, "evaluation": evaluation, "labels": labels}
    here = run(InProcessWorld, tmp_path / "here", digits_npz, **codec)
    decoded_in, decode = set(), Grouped.decode

    def watched(codec: Grouped, *arguments: Any) -> None:
        decoded_in.add((codec.bits, threading.current_thread().name == "heron-worker"))
        decode(codec, *arguments)

    monkeypatch.setattr(Grouped, "decode", watched)
    there = run(GrpcWorld, tmp_path / "there", digits_npz, **codec)
    assert here["model_sha256"] == there["model_sha256"] and here["loss"] == there["loss"]
    label_bytes = 1 if labels == "packed" else 8
    assert sizes(here) == sizes(there) == (
        TRAINED * CUT * BYTES[up], TRAINED * label_bytes, TRAINED * CUT * BYTES[down],
        EVALUATED * (CUT * BYTES[evaluation] + label_bytes),
    )  # fmt: skip
    of_clients = {(8, False)} if down == "int8" else set()
    assert decoded_in == {(int(name[3:]), True) for name in (up, evaluation) if name != "topk"} | of_clients


def test_what_is_evaluated_and_packed_labels_change_no_bit_of_the_model(
    tmp_path: Path, digits_npz: Callable[[int], Path]
) -> None:
    raw = run(InProcessWorld, tmp_path / "raw", digits_npz)
    assert sizes(raw) == (TRAINED * CUT * 4, TRAINED * 8, TRAINED * CUT * 4, EVALUATED * (CUT * 4 + 8))
    found = run(InProcessWorld, tmp_path / "found", digits_npz, evaluation="int2", labels="packed")
    assert found["model_sha256"] == raw["model_sha256"] and found["loss"] != raw["loss"]
    assert found["loss"] == pytest.approx(raw["loss"], rel=0.1)


def test_a_run_in_a_few_bits_learns_the_digits_all_the_same() -> None:
    spec = RunSpec.model_validate({
        "rounds": 2, "federation": {"clients": 2}, "server_optimizer": {"lr": 3e-3},
        "codec": {"uploads": "int4", "cut_gradients": "int8"},
        "method": {"name": "sflv2", "local_steps": 24, "batch_size": 16, "optimizer": {"lr": 5e-3}},
    })  # fmt: skip
    assert simulate(spec).summary["accuracy"] > 0.7
