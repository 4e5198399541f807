"""Nothing is lost, whoever is killed, stopped, frozen or cut off in mid-round."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from processes import Bench, Program, Relay, Server, free_address, spec_of

from heron_simulator.simulator import simulate

pytestmark = pytest.mark.slow
CLIENTS, ROUNDS = 3, 4
PART_OF_A_ROUND_BYTES = 400_000
"""Of some 3 MB that three clients upload in one."""
KILLED = -signal.SIGKILL

IN_A_ROUND = ("round_began", "progress")
"""The last event of a server that was ended while clients trained."""


def tables(rounds: int = ROUNDS, min_clients: int = 1, **server: Any) -> dict[str, Any]:
    return {
        "rounds": rounds,
        "method": {"local_steps": 60, "batch_size": 16, "zo": {"mu": 1e-2}},
        "averaged_back": {"decay": 0.99},
        "federation": {"clients": CLIENTS, "min_clients": min_clients, "server_average": {"name": "fedavgm"}},
        "server": server,
    }


@pytest.fixture(scope="module")
def undisturbed_sha() -> str:
    """The simulator's, which test_same_bits.py proves equal to that of three processes."""
    return str(simulate(spec_of(tables())).summary["model_sha256"])


def in_mid_round(server: Server, relay: Relay, number: int) -> None:
    """Waits until uploads of that round have passed."""
    server.event("round_began", round=number)
    relay.carries_up(PART_OF_A_ROUND_BYTES)


def back_with_all(server: Server) -> None:
    """Waits until all clients are present; then they all take part in the round that begins next."""
    server.event("clients", present=CLIENTS)
    began = server.event("round_began")
    assert began["participants"] == CLIENTS
    done = server.event("round_done", round=began["round"])
    assert (done["participants"], done["dropped"]) == (CLIENTS, 0)


def term(bench: Bench) -> int:
    return int((bench.run_dir / "term").read_text())


@pytest.mark.parametrize(
    ("how", "every"), [(signal.SIGKILL, 1), (signal.SIGTERM, 3)], ids=["kill -9", "SIGTERM between two checkpoints"]
)
def test_server_ended_in_mid_round_and_resumed_gives_the_undisturbed_bits(
    bench: Bench, undisturbed_sha: str, how: signal.Signals, every: int
) -> None:
    relay, run = bench.relay(), tables(checkpoint_every=every)
    clients = bench.clients(CLIENTS, relay.address)
    first = bench.server(run)
    relay.lead_to(first.address())
    in_mid_round(first, relay, 2)
    first.signal(how)
    code = first.ends()
    assert first.last_event["event"] in IN_A_ROUND, "it ended between two rounds"
    if how is signal.SIGTERM:
        assert code == 5
        assert len(first.stderr) == 1 and "--resume" in first.stderr[0], first.stderr
    else:
        assert code == KILLED

    second = bench.server(run, "--resume")
    relay.lead_to(second.address())
    assert second.event("round_began")["round"] == 2
    summary = second.summary()
    assert [client.ends() for client in clients] == [0] * CLIENTS
    assert [record["participants"] for record in summary["history"]] == [CLIENTS] * ROUNDS
    assert summary["model_sha256"] == undisturbed_sha
    assert summary["repeated"]["rounds"] == 0


def test_server_killed_between_two_checkpoints_repeats_what_was_not_saved_with_the_undisturbed_bits(
    bench: Bench, undisturbed_sha: str
) -> None:
    """Right after a round, and then in mid-round, with a client that comes back without its identity. The others have
    seen rounds end to which they go back."""
    relay, run = bench.relay(), tables(checkpoint_every=3)
    clients = bench.clients(CLIENTS, relay.address)
    first = bench.server(run)
    relay.lead_to(first.address())
    first.event("round_done", round=2)
    first.kill()
    second = bench.server(run, "--resume")
    relay.lead_to(second.address())
    in_mid_round(second, relay, 2)
    for program in (second, clients[1]):
        program.kill()
    clients[1] = bench.client("client-1", relay.address)
    third = bench.server(run, "--resume")
    relay.lead_to(third.address())
    summary = third.summary()
    assert [client.ends() for client in clients] == [0] * CLIENTS
    assert [record["round"] for record in summary["history"]] == list(range(1, ROUNDS + 1))
    assert [record["participants"] for record in summary["history"]] == [CLIENTS] * ROUNDS
    assert summary["model_sha256"] == undisturbed_sha
    assert summary["repeated"]["rounds"] == 3 and summary["repeated"]["wire_up"] > 0


def test_server_is_stopped_cleanly_beside_a_client_that_does_not_answer(bench: Bench) -> None:
    server = bench.server(tables())
    relay = bench.relay(server.address())
    frozen = bench.clients(CLIENTS, relay.address)[2]
    in_mid_round(server, relay, 2)
    frozen.signal(signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    assert server.ends() == 5
    assert len(server.stderr) == 1, server.stderr


def test_killed_client_costs_the_round_its_update_and_is_back_in_the_next(bench: Bench) -> None:
    """Restarted with its identity, as client-2, or without one, as client-1."""
    server = bench.server(tables(rounds=1000, grace_s=0.2))
    relay = bench.relay(server.address())
    settings: dict[str, dict[str, Any]] = {"client-0": {}, "client-1": {}, "client-2": {"state_dir": str(bench.folder)}}
    clients = {name: bench.client(name, relay.address, **own) for name, own in settings.items()}
    number = 2
    for name in ("client-2", "client-1"):
        in_mid_round(server, relay, number)
        clients[name].kill()
        done = server.event("round_done", dropped=1)
        assert done["participants"] == CLIENTS - 1
        assert list(done["dropped_reasons"]) == [name]
        clients[name] = bench.client(name, relay.address, **settings[name])
        back_with_all(server)
        number = server.event("round_began")["round"] + 1


@pytest.mark.parametrize(
    ("patience", "reason"),
    [({"silence_s": 3.0, "grace_s": 0.2}, "lost"), ({"step_deadline_s": 2.0}, "late")],
    ids=["silent", "late"],
)
def test_frozen_client_is_dropped_and_comes_back_once_it_thaws(
    bench: Bench, patience: dict[str, float], reason: str
) -> None:
    server = bench.server(tables(rounds=1000, **patience))
    relay = bench.relay(server.address())
    frozen = bench.clients(CLIENTS, relay.address)[2]
    in_mid_round(server, relay, 2)
    frozen.signal(signal.SIGSTOP)
    done = server.event("round_done", dropped=1)
    assert done["dropped_reasons"]["client-2"].startswith(reason)
    assert done["participants"] == CLIENTS - 1

    frozen.signal(signal.SIGCONT)
    assert server.event("round_done", participants=CLIENTS)["dropped"] == 0


def test_client_started_before_its_server_waits_and_joins(bench: Bench) -> None:
    run = tables(rounds=1)
    run["federation"] = {"clients": 1}
    run["server"] = {"address": free_address()}
    client = bench.client("early", run["server"]["address"])
    client.line("waiting for the server")
    assert bench.server(run).summary()["rounds_done"] == 1
    assert client.ends() == 0


def test_round_below_min_clients_is_abandoned_and_done_again_with_the_same_bits(
    bench: Bench, undisturbed_sha: str
) -> None:
    run = tables(min_clients=CLIENTS, grace_s=0.2)
    server = bench.server(run)
    relay = bench.relay(server.address())
    clients = bench.clients(CLIENTS, relay.address)
    in_mid_round(server, relay, 2)
    assert term(bench) == 1
    clients[2].kill()
    server.event("note", text=abandoned(2, "client-2"))
    clients[2] = bench.client("client-2", relay.address)
    summary = server.summary()
    assert [client.ends() for client in clients] == [0] * CLIENTS
    assert term(bench) == 2
    assert [record["dropped"] for record in summary["history"]] == [0] * ROUNDS
    assert summary["model_sha256"] == undisturbed_sha


def abandoned(number: int, name: str) -> str:
    return (
        f"round {number} is abandoned: fewer than {CLIENTS} clients are left: {name}: lost: nothing heard from it; "
        "it begins again after 1 s"
    )


def test_cut_connection_is_restored_and_the_same_round_goes_on_with_the_same_bits(
    bench: Bench, undisturbed_sha: str
) -> None:
    server = bench.server(tables(grace_s=60.0))
    address = server.address()
    relay = bench.relay(address)
    clients = bench.clients(CLIENTS, relay.address)
    in_mid_round(server, relay, 2)
    relay.cut()
    relay.turns_away()
    relay.lead_to(address)
    summary = server.summary()
    assert [client.ends() for client in clients] == [0] * CLIENTS
    assert all(was_cut_off(client) for client in clients)
    assert term(bench) == 1, "the round was abandoned instead"
    assert [record["dropped"] for record in summary["history"]] == [0] * ROUNDS
    assert summary["model_sha256"] == undisturbed_sha


def was_cut_off(client: Program) -> bool:
    return any("lost the server" in line for line in client.stderr)
