"""A front that never changes sends each sample once: one result with and without reuse, over both transports."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from integration.references import reference_run
from integration.worlds import GrpcWorld, InProcessWorld, Member
from torch import nn

from heron_client.transport.interface import Transport
from heron_core.errors import ConfigError, Unreachable
from heron_core.models.from_module import CutModule
from heron_core.pb.v1 import split_pb2 as split
from heron_core.spec.run_spec import RunSpec
from heron_core.wire.frames import Bulk
from heron_simulator.forwarding import Forwarding
from heron_simulator.simulator import simulate

CLIENTS, ROUNDS, STEPS, ROWS, EACH = 2, 2, 4, 8, 16
CUT_BYTES = 16 * 4 * 4 * 4
"""Of one digit at the cut of digits_cnn."""
UPLOADED = CLIENTS * ROUNDS * STEPS * ROWS


def spec_of(reuse: bool = True, codec: dict[str, Any] | None = None, **method: Any) -> RunSpec:
    return RunSpec.model_validate({
        "rounds": ROUNDS, "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
        "data": {"train_limit": CLIENTS * EACH}, "codec": {"reuse": reuse, **(codec or {})},
        "method": {"name": "frozen", "local_steps": STEPS, "batch_size": ROWS, **method},
    })  # fmt: skip


@cache
def undisturbed() -> dict[str, Any]:
    """The summary without reuse."""
    return simulate(spec_of(reuse=False)).summary


class BrokenOnce(Forwarding):
    """Its second frame of uploads breaks the stream."""

    frames = streams = 0

    def open_push(self, opening: split.FrameHeader) -> Any:
        stream, self.streams = super().open_push(opening), self.streams + 1

        def send(frame: Bulk[split.ActivationFrame]) -> None:
            self.frames += 1
            if self.frames == 2:
                raise Unreachable("broken")
            stream.send(frame)

        return SimpleNamespace(receive=stream.receive, send=send, close=stream.close)


def test_a_stream_that_breaks_within_a_round_goes_on_with_the_samples_that_are_there(tmp_path: Path) -> None:
    ways: list[BrokenOnce] = []

    def through(transport: Transport) -> BrokenOnce:
        ways.append(BrokenOnce(transport))
        return ways[-1]

    opened = InProcessWorld(spec_of(), tmp_path / "run")
    summary = opened.run(*(Member(f"c{i}", through=through) for i in range(CLIENTS)))
    opened.close()
    assert summary["errors"] == {} and [way.streams for way in ways] == [ROUNDS + 1] * CLIENTS, "no round is repeated"
    assert summary["model_sha256"] == undisturbed()["model_sha256"]


@pytest.mark.parametrize("world", [InProcessWorld, GrpcWorld])
def test_each_sample_travels_once_and_no_bit_changes_over_either_transport(world: type[Any], tmp_path: Path) -> None:
    opened = world(spec_of(), tmp_path / "run")
    try:
        summary = opened.run(*(Member(f"c{i}") for i in range(CLIENTS)))
    finally:
        opened.close()
    without = undisturbed()
    assert summary["errors"] == {}
    assert summary["model_sha256"] == without["model_sha256"] and summary["loss"] == without["loss"]
    assert summary["ledger"]["activations_up"] == CLIENTS * EACH * CUT_BYTES + UPLOADED * 2, "and a number a row"
    assert summary["ledger"]["labels_up"] == CLIENTS * EACH * 8
    assert without["ledger"]["activations_up"] == UPLOADED * CUT_BYTES


def test_mixed_micro_batches_in_bfloat16_are_reused_with_the_same_bits() -> None:
    method, packed = {"micro_batch": 4, "mixing": True}, {"uploads": "bf16", "labels": "packed"}
    one, other = (simulate(spec_of(reuse, packed, **method)).summary for reuse in (True, False))
    assert one["model_sha256"] == other["model_sha256"]
    assert one["ledger"]["activations_up"] == CLIENTS * EACH * CUT_BYTES // 2 + UPLOADED * 2


def test_a_random_rounding_is_reused_where_results_may_differ() -> None:
    found = simulate(spec_of(codec={"uploads": "int4", "exact": False})).summary
    assert found["ledger"]["activations_up"] == CLIENTS * EACH * CUT_BYTES * 9 // 64 + UPLOADED * 2


def test_a_run_that_goes_on_with_other_processes_is_told_its_samples_again_and_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    simulate(spec_of().model_copy(update={"rounds": 1}), run_dir=tmp_path / "run")
    found = simulate(spec_of(), run_dir=tmp_path / "run", resume=True).summary
    assert found["model_sha256"] == undisturbed()["model_sha256"]
    assert found["ledger"]["activations_up"] == 2 * CLIENTS * EACH * CUT_BYTES + UPLOADED * 2


def test_a_front_that_draws_is_refused_before_anybody_joins_but_where_it_runs_as_in_evaluation() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))

    model = CutModule(net, cut="2", input_shape=(1, 8, 8), classes=10)
    with pytest.raises(ConfigError, match=r"codec.reuse uses activations again, and front.*2 draws others"):
        simulate(spec_of(), model=model)
    found = [simulate(spec_of(reuse, running_statistics="keep"), model=model).summary for reuse in (True, False)]
    assert found[0]["model_sha256"] == found[1]["model_sha256"]


def moving(rounds: int = 4, **codec: Any) -> RunSpec:
    """A front that learns fast enough that some samples travel again and some do not."""
    return RunSpec.model_validate({
        "rounds": rounds, "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
        "data": {"train_limit": CLIENTS * EACH}, "codec": codec,
        "method": {"local_steps": STEPS, "batch_size": ROWS, "zo": {"mu": 1e-2}, "optimizer": {"lr": 1e-2}},
    })  # fmt: skip


@pytest.mark.parametrize("world", [InProcessWorld, GrpcWorld])
def test_samples_travel_again_once_they_have_moved_with_the_same_bits_over_either_transport(
    world: type[Any], tmp_path: Path
) -> None:
    spec = moving(reuse=True, tolerance=0.2)
    opened = world(spec, tmp_path / "run")
    try:
        summary = opened.run(*(Member(f"c{i}") for i in range(CLIENTS)))
    finally:
        opened.close()
    assert summary["errors"] == {} and summary["model_sha256"] == reference_run(spec)
    rows = summary["ledger"]["labels_up"] // 8
    assert CLIENTS * EACH < rows < spec.rounds * CLIENTS * STEPS * ROWS * 0.9, "some, and not all"
    beside = spec.rounds * CLIENTS * STEPS * (ROWS * 2 + 1)
    assert summary["ledger"]["activations_up"] == rows * CUT_BYTES + beside, "and a number and a bit a row"


def test_with_next_to_no_tolerance_a_front_that_learns_ends_with_the_bits_without_reuse() -> None:
    found = [simulate(moving(**codec)).summary for codec in ({}, {"reuse": True, "tolerance": 1e-9})]
    assert found[0]["model_sha256"] == found[1]["model_sha256"]
