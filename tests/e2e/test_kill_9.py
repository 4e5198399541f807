"""Every method, and many options at once, go on with the undisturbed bits after kill -9 in mid-round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from integration.settings import METHODS, OPTIONS_TOGETHER
from integration.settings import tables as method_tables
from processes import Bench, Program, Relay, Server, spec_of
from test_unkillable import CLIENTS, IN_A_ROUND, abandoned

from heron_simulator.simulator import simulate

pytestmark = pytest.mark.slow
SOME_UPLOADS_BYTES = 100_000
"""Of 0.3 to 0.6 MB that three clients upload in a round."""
STEPS = {"local_steps": 12, "batch_size": 16}
FEDERATION = {"clients": CLIENTS, "min_clients": CLIENTS}
KEEP_NO_MORE = (
    "heron", "heron, micro-batches", "heron, block by block", "heron, sample by sample", "heron, cut gradients",
    "heron, first-order head", "frozen", "cse_fsl", "sflv2, mixed batches",
)  # fmt: skip
"""For these the server keeps what it keeps for heron, in test_unkillable.py, for sflv2, or for the options below, or
less, or has samples that are sent once. tests/server/run/test_resume_methods.py resumes all of them in one process."""


class Daemons:
    """Three clients that look for one server after another at the address of `door`."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.door = bench, bench.relay()
        self._clients = [self._start(number) for number in range(CLIENTS)]

    def _start(self, number: int) -> Program:
        return self._bench.client(f"client-{number}", self.door.address, once=False, retry_for_s=0.0)

    def kill(self, number: int) -> None:
        self._clients[number].kill()

    def restart(self, number: int) -> None:
        self._clients[number] = self._start(number)


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    with Bench(tmp_path_factory.mktemp("clients")) as bench:
        yield Daemons(bench)


@pytest.mark.parametrize("setting", [setting for setting in METHODS if setting not in KEEP_NO_MORE])
def test_every_method_goes_on_with_the_undisturbed_bits_after_kill_9(
    bench: Bench, daemons: Daemons, setting: str
) -> None:
    run = {"rounds": 3, "federation": FEDERATION, **method_tables(setting, **STEPS)}
    if setting == "heron, joint head":
        run["method"]["zo"]["distribution"] = "rademacher"
        run["codec"] = {"client_state": "seeds"}
    killed_in_round_2(bench, run, daemons.door, 1 if setting == "fedavg" else SOME_UPLOADS_BYTES)
    ledger = ends_with_the_undisturbed_bits(resumed(bench, run, daemons.door), run)["ledger"]
    if "codec" in run:
        undisturbed = simulate(spec_of(run)).summary["ledger"]
        assert ledger["client_state_down"] <= undisturbed["client_state_down"], "all have what the checkpoint has"


def test_options_with_a_head_of_the_clients_own_go_on_with_the_undisturbed_bits_after_kill_9(
    bench: Bench, daemons: Daemons
) -> None:
    run = with_options("a head of the client's own")
    killed_in_round_2(bench, run, daemons.door)
    ends_with_the_undisturbed_bits(resumed(bench, run, daemons.door), run)


def test_options_with_cut_gradients_and_rare_checkpoints_do_too_and_after_kill_9_of_a_client(
    bench: Bench, daemons: Daemons
) -> None:
    """First the server, in round 2, before any checkpoint; then a client, in round 1, which begins a third time."""
    run = {**with_options("slopes on the cut gradient"), "server": {"checkpoint_every": 2, "grace_s": 0.2}}
    killed_in_round_2(bench, run, daemons.door)
    server = resumed(bench, run, daemons.door)
    server.event("round_began", round=1)
    daemons.door.holds_up_after(SOME_UPLOADS_BYTES)
    daemons.kill(1)
    daemons.door.let_go()
    server.event("note", text=abandoned(1, "client-1"))
    daemons.restart(1)
    assert ends_with_the_undisturbed_bits(server, run)["repeated"]["rounds"] == 1


def test_samples_sent_once_are_asked_for_again_where_they_are_gone_after_kill_9_of_server_and_client(
    bench: Bench, daemons: Daemons
) -> None:
    """The server in round 2, and what the clients' processes had sent is in its run directory; then a client."""
    method = {"name": "frozen", "local_steps": 20, "batch_size": 16}
    run = {"rounds": 3, "federation": FEDERATION, "codec": {"reuse": True}, "method": method,
           "server": {"grace_s": 60.0}}  # fmt: skip
    killed_in_round_2(bench, run, daemons.door)
    server = resumed(bench, run, daemons.door)
    server.event("round_began", round=2)
    daemons.door.carries_up(SOME_UPLOADS_BYTES)
    daemons.kill(1)
    daemons.restart(1)
    ledger = ends_with_the_undisturbed_bits(server, {**run, "codec": {}})["ledger"]
    assert ledger["activations_up"] <= 4 * 479 * 1024 + 3 * 60 * 16 * 2, "each client's samples once, client-1's twice"


def test_samples_that_are_sent_again_once_they_have_moved_go_on_with_the_undisturbed_bits_after_kill_9_of_the_server(
    bench: Bench, daemons: Daemons
) -> None:
    """In round 2: what that round had brought is gone, on both sides. The clients' processes live on."""
    method = {"local_steps": 40, "batch_size": 16, "zo": {"mu": 1e-2}, "optimizer": {"lr": 1e-2}}
    run = {"rounds": 3, "federation": FEDERATION, "method": method, "codec": {"reuse": True, "tolerance": 0.3}}
    killed_in_round_2(bench, run, daemons.door)
    server = resumed(bench, run, daemons.door)
    summary = ends_with_the_undisturbed_bits(server, run)
    assert summary["ledger"]["labels_up"] < 3 * CLIENTS * 40 * 16 * 8, "not all travel again"


def with_options(setting: str) -> dict[str, Any]:
    """A run of three rounds; test_bit_identity.py proves the simulator's bits to be the reference's."""
    tables = OPTIONS_TOGETHER[setting]
    method = {**tables["method"], **STEPS}
    return {**tables, "rounds": 3, "method": method, "federation": {**tables["federation"], **FEDERATION}}


def killed_in_round_2(bench: Bench, run: dict[str, Any], door: Relay, after_bytes: int = SOME_UPLOADS_BYTES) -> None:
    """A server, once so much of its second round has reached it."""
    server = bench.server(run)
    door.lead_to(server.address())
    server.event("round_began", round=2)
    door.holds_up_after(after_bytes)
    server.kill()
    assert server.last_event["event"] in IN_A_ROUND, "it ended between two rounds"


def resumed(bench: Bench, run: dict[str, Any], door: Relay) -> Server:
    server = bench.server(run, "--resume")
    door.lead_to(server.address())
    return server


def ends_with_the_undisturbed_bits(server: Server, run: dict[str, Any]) -> dict[str, Any]:
    """The summary, once all rounds were done by all clients with the simulator's digest."""
    summary = server.summary()
    assert [record["participants"] for record in summary["history"]] == [CLIENTS] * run["rounds"]
    assert summary["model_sha256"] == simulate(spec_of(run)).summary["model_sha256"]
    return summary
