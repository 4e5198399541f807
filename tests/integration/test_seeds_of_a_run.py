"""Slopes in the place of weights, over both transports: the bits that weights lead to, in a fraction of the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.references import reference_run
from integration.worlds import GrpcWorld, InProcessWorld, Member, World

from heron_client.transport.interface import Transport
from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.replay.bundle import Seeds
from heron_core.replay.seeds import SLOPES
from heron_core.spec.run_spec import RunSpec
from heron_server.metrics.observers import Observer
from heron_simulator.forwarding import Forwarding
from heron_simulator.simulator import simulate

Tables = dict[str, Any]
CLIENTS, ROUNDS, STEPS = 3, 2, 2
ADAM: Tables = {"moments": "averaged"}
ZO: Tables = {"mu": 1e-2, "distribution": "rademacher"}
SGD: Tables = {"optimizer": {"name": "sgd", "lr": 1e-2, "momentum": 0.9}}
MLP: Tables = {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]}
UP, DOWN = STEPS * 8, 16 + 16 + 4 + CLIENTS * (4 + 8 + STEPS * 8)
"""Of a client's slopes, and of everybody's with both digests, their number, ranks and weights."""


def spec_of(client_state: str = "seeds", method: Tables | None = None, **tables: Any) -> RunSpec:
    chosen = {
        "local_steps": STEPS, "batch_size": 8, "auxiliary_update": "zo",
        "zo": ZO, **(method or {}),
    }  # fmt: skip
    return RunSpec.model_validate({
        "rounds": ROUNDS, "federation": {"clients": CLIENTS}, "method": chosen,
        "codec": {"client_state": client_state}, "model": MLP, **tables,
    })  # fmt: skip


def test_both_transports_weights_and_the_plain_loop_come_to_one_model(tmp_path: Path) -> None:
    spec = spec_of(method=ADAM, rounds=3)
    found: World = GrpcWorld(spec, tmp_path / "there")
    try:
        there = found.run(*(Member(f"client-{i}") for i in range(CLIENTS)))
    finally:
        found.close()
    assert there["errors"] == {}
    here, weights = simulate(spec).summary, simulate(spec_of("weights", ADAM, rounds=3)).summary
    reference = reference_run(spec)
    assert there["model_sha256"] == here["model_sha256"] == weights["model_sha256"] == reference
    first = weights["ledger"]["client_state_down"] // (CLIENTS * spec.rounds)
    for summary in (there, here):
        ledger = summary["ledger"]
        assert ledger["client_state_up"] == CLIENTS * spec.rounds * UP
        assert ledger["client_state_down"] == CLIENTS * (first + (spec.rounds - 1) * DOWN), "weights once, then slopes"


@pytest.mark.parametrize(
    "method",
    [
        {"auxiliary_update": "first_order", "proximal": 0.1},
        {"auxiliary_update": "server", **ADAM},
        {**SGD, "micro_batch": 4, "zo": {**ZO, "scope": "micro_batch", "normalise": True}},
        {"objective": "cut_gradient", "auxiliary_update": "first_order", **ADAM},
    ],
    ids=["a head of its own", "the server's head", "micro-batches", "slopes on the cut gradient"],
)
def test_what_slopes_do_not_say_travels_beside_them(method: Tables) -> None:
    weights, seeds = (simulate(spec_of(each, method)).summary for each in ("weights", "seeds"))
    assert seeds["model_sha256"] == weights["model_sha256"]
    for kind in ("client_state_up", "client_state_down"):
        assert seeds["ledger"][kind] < weights["ledger"][kind]


def test_learned_buffers_travel_beside_slopes_and_clients_of_different_sample_counts_weigh_differently() -> None:
    tables: Tables = {
        "model": {"norm": "batch"}, "federation": {"clients": CLIENTS, "aggregation": "samples"},
        "data": {"partition": "dirichlet", "alpha": 0.5},
    }  # fmt: skip
    weights, seeds = (simulate(spec_of(each, **tables)).summary for each in ("weights", "seeds"))
    assert seeds["model_sha256"] == weights["model_sha256"]


class Notes(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_client_that_sat_out_rounds_replays_them_or_if_they_are_too_many_gets_the_weights_and_the_run_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of three clients one is drawn for each of seven rounds; the third sits out between two of its own."""
    run: Tables = {"rounds": 7, "federation": {"clients": CLIENTS, "clients_per_round": 1}, "method": ADAM}
    weights = simulate(spec_of("weights", **run)).summary

    def said() -> list[str]:
        notes = Notes()
        assert simulate(spec_of(**run), observers=[notes]).summary["model_sha256"] == weights["model_sha256"]
        return [text for text in notes.said if "as weights: no slopes lead there from what it has" in text]

    first = said()
    assert len(first) == len({text.split()[0] for text in first}) == CLIENTS - 1, "each once, but for who was first"
    monkeypatch.setattr("heron_core.replay.seeds.MOST_NUMBERS", 0)
    assert len(said()) > len(first)


class Hostile(Forwarding):
    """Sends slopes that no client finds."""

    def __init__(self, inner: Transport, slope: float) -> None:
        super().__init__(inner)
        self._slope = slope

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        return super().submit(header, {**arrays, SLOPES: np.full_like(arrays[SLOPES], self._slope)})


def test_slopes_out_of_bounds_cost_their_client_the_round_and_no_one_else(tmp_path: Path) -> None:
    members = [Member("bad", through=lambda inner: Hostile(inner, 1e200)), Member("b"), Member("c")]
    with closing(InProcessWorld(spec_of(), tmp_path)) as world:
        summary = world.run(*members)
    assert summary["errors"] == {} and summary["rounds_done"] == ROUNDS
    for record in summary["history"]:
        assert (record["participants"], record["dropped"]) == (2, 1)
        assert "seeds.slopes must hold slopes of at most" in record["dropped_reasons"]["bad"]


def test_slopes_within_bounds_make_no_number_that_is_none(tmp_path: Path) -> None:
    members = [Member("bad", through=lambda inner: Hostile(inner, 1e9)), Member("b"), Member("c")]
    with closing(InProcessWorld(spec_of(method=ADAM), tmp_path)) as world:
        summary = world.run(*members)
        state = world.coordinator.states.common(ROUNDS)
    assert summary["errors"] == {} and summary["rounds_done"] == ROUNDS
    assert all(np.isfinite(tensor).all() for tensor in state.values())


def test_a_client_that_comes_to_other_numbers_says_so_and_fetches_the_weights(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = simulate(spec_of("weights")).summary["model_sha256"]
    replayed = Seeds.replayed  # the server, which averages by its rule, does not call it

    def otherwise(*arguments: Any) -> dict[str, Array]:
        return {name: tensor + 1 for name, tensor in replayed(*arguments).items()}

    monkeypatch.setattr(Seeds, "replayed", otherwise)
    assert simulate(spec_of()).summary["model_sha256"] == wanted
    warnings = [r.getMessage() for r in caplog.records if "do not lead there" in r.getMessage()]
    assert len(warnings) == CLIENTS * (ROUNDS - 1)


def test_clients_that_evaluate_a_version_have_it_when_its_round_begins(tmp_path: Path) -> None:
    rng, members = np.random.default_rng(0), []
    for name in "abc":
        x = rng.normal(size=(20, 1, 8, 8)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(20) % 10)
        members.append(Member(name, data={"source": "npz", "path": tmp_path / f"{name}.npz"}))
    digests, ledgers = [], []
    for each in ("weights", "seeds"):
        spec = spec_of(each, data={"source": "client", "holdout": 0.25})
        with closing(InProcessWorld(spec, tmp_path / each)) as world:
            summary = world.run(*members)
        assert summary["errors"] == {}
        digests.append(summary["model_sha256"])
        ledgers.append(summary["ledger"])
    assert digests[0] == digests[1]
    assert ledgers[1]["evaluation_down"] == CLIENTS * DOWN < ledgers[0]["evaluation_down"]
    whole = ledgers[0]["client_state_down"] // ROUNDS
    assert ledgers[1]["client_state_down"] == whole + (ROUNDS - 1) * CLIENTS * DOWN


def test_after_a_resume_all_fetch_the_weights_once(tmp_path: Path) -> None:
    with closing(InProcessWorld(spec_of(), tmp_path)) as world:
        world.run(*(Member(f"client-{i}") for i in range(CLIENTS)))
        before = world.coordinator.states
        digest, tensors = before.versions[ROUNDS].digest, before.tensors(ROUNDS)
    with closing(InProcessWorld(spec_of(), tmp_path / "resumed")) as world:
        after = world.coordinator.states
    first = after.versions[0].digest
    assert before.as_slopes(ROUNDS, 0, first) is not None
    after.load(ROUNDS, tensors)
    assert after.as_slopes(ROUNDS, 0, first) is None, "a checkpoint holds no slopes"
    assert after.as_slopes(ROUNDS, 0, digest) is not None, "who has this very version needs none"


class BreaksOff(Forwarding):
    """Notes how far each replay is; in the midst of one its round is given up."""

    def __init__(self, inner: Transport, world: InProcessWorld) -> None:
        super().__init__(inner)
        self._world = world
        self.replayed: list[tuple[int, int]] = []
        """Term and clients' rounds."""

    def report(self, term: int, round_number: int, step: int, replayed: int = 0) -> None:
        super().report(term, round_number, step, replayed)
        if replayed:
            self.replayed.append((term, replayed))
        if self.replayed == [(1, 1), (1, 2)] and term == 1:
            self._world.coordinator.client_failed("c", "told so")


def test_a_replay_ends_with_its_round_and_is_done_again_where_that_begins_again(tmp_path: Path) -> None:
    made: list[BreaksOff] = []
    with closing(InProcessWorld(spec_of(), tmp_path, quorum=1.0)) as world:

        def breaking(inner: Transport) -> Transport:
            made.append(BreaksOff(inner, world))
            return made[0]

        summary = world.run(Member("a", through=breaking), Member("b"), Member("c"))
    assert summary["errors"] == {}
    assert made[0].replayed == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    assert summary["model_sha256"] == simulate(spec_of("weights")).summary["model_sha256"]
