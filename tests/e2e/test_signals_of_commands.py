"""Whatever a command is at, a signal ends it with the documented code, within five seconds, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import psutil
import pytest
from processes import Bench, Program, Relay, Server

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
HELD = str(HERE / "held.py")
WITHIN_S = 5.0
INTERRUPTED, AT_ONCE = 5, 130
SIGNALS = {
    "TERM": (signal.SIGTERM,), "INT": (signal.SIGINT,), "INT twice": (signal.SIGINT, signal.SIGINT),
    "HUP": (signal.SIGHUP,),
}  # fmt: skip
PHASES = ("start-up", "gathering", "training", "evaluating", "committing")


def run_tables(clients: int = 1) -> dict[str, Any]:
    return {
        "rounds": 2,
        "model": {"name": "own_parts:fitting"},
        "data": {"source": "client"},
        "method": {"local_steps": 4, "batch_size": 8},
        "federation": {"clients": clients},
        "server": {"python_path": [str(HERE)]},
    }


def client_settings(folder: Path) -> dict[str, Any]:
    """Of a client that has data and lets the run's model be imported."""
    rng = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(path, x=rng.normal(size=(40, 5)).astype(np.float32), y=np.arange(40) % 3)
    return {
        "data": {"source": "npz", "path": str(path)}, "python_path": [str(HERE)],
        "allow_model_code": ["own_parts:fitting"],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def ends_no_sooner_than_an_interpreter_does(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal must find a process that has not ended; a forked one, which takes nothing apart, may have."""
    if "INT twice" in request.node.name:
        monkeypatch.setattr(processes, "WARM", [])


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """The address at which a client daemon looks for one server after another."""
    with Bench(tmp_path_factory.mktemp("door")) as bench:
        relay = bench.relay()
        bench.client("a", relay.address, once=False, retry_for_s=0.0, **client_settings(bench.folder))
        yield relay


def at_the_start(bench: Bench, *command: str) -> Program:
    """A command that stands still at the first import that takes time."""
    slow = bench.folder / "slow"
    slow.mkdir()
    for first in ("typer.py", "pydantic.py"):  # a server's, a client's
        (slow / first).write_text("import threading\nprint('held', flush=True)\nthreading.Event().wait()\n")
    path = os.pathsep.join(filter(None, [str(slow), os.environ.get("PYTHONPATH")]))
    program = bench.program(*command, env={"PYTHONPATH": path})
    program.line("^held")
    return program


def a_server(bench: Bench, door: Relay, phase: str) -> Program:
    file = str(bench.run_file(run_tables()))
    arguments = ("heron_server", "run", file, "--log-format", "json")
    if phase == "start-up":
        return at_the_start(bench, "-m", *arguments)
    if phase == "gathering":
        server = bench.server(run_tables())
        server.address()
        return server
    held: Server = bench.keep(Server(Path(file), bench.run_dir, start=(HELD, phase)))
    door.lead_to(held.address())
    held.line("^held")
    return held


def a_client(bench: Bench, phase: str) -> Program:
    if phase == "start-up":
        return at_the_start(bench, "-m", "heron_client", "run", "--set", "name=a", "--set", "server=127.0.0.1:1")
    held_server = (HELD, phase) if phase == "committing" else ("-m",)
    file = bench.run_file(run_tables(clients=2 if phase == "gathering" else 1))
    server = bench.keep(Server(file, bench.run_dir, start=held_server))
    held_client = (HELD, phase) if phase in ("training", "evaluating") else ("-m",)
    own = {"state_dir": str(bench.folder / "state"), **client_settings(bench.folder)}
    client = bench.client("a", server.address(), start=held_client, **own)
    if phase == "gathering":
        client.line("1 of 2 clients are here")
    else:
        (server if phase == "committing" else client).line("^held")
    return client


def end_by(program: Program, signals: tuple[signal.Signals, ...]) -> None:
    """Each signal is sent once the one before has arrived: two that wait at the same time would be one."""
    for number in signals:
        program.signal(number)
        while program.running and is_pending(program.pid, number):
            pass


def is_pending(pid: int, number: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def check_its_end(program: Program, own_folder: Path, phase: str, how: str) -> None:
    started = psutil.Process(program.pid).children(recursive=True)
    end_by(program, SIGNALS[how])
    code = program.ends(WITHIN_S)
    at_once = how == "INT twice" and phase != "start-up"
    assert code == (AT_ONCE if at_once else INTERRUPTED), program.stderr
    assert sum(line.startswith("heron-") for line in program.stderr) == 1, program.stderr
    assert not any("Traceback" in line for line in program.stderr), program.stderr
    assert psutil.wait_procs(started, timeout=WITHIN_S)[1] == []
    assert list(own_folder.rglob("*.tmp")) == []
    assert list(Path(os.environ["TMPDIR"]).glob("heron*")) == []


@pytest.fixture
def own_temporary(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.folder / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))


@pytest.mark.usefixtures("own_temporary")
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_a_server(bench: Bench, door: Relay, phase: str, how: str) -> None:
    check_its_end(a_server(bench, door, phase), bench.run_dir, phase, how)


@pytest.mark.usefixtures("own_temporary")
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_a_client(bench: Bench, phase: str, how: str) -> None:
    check_its_end(a_client(bench, phase), bench.folder / "state", phase, how)


def test_sigusr1_writes_what_the_run_waits_for_and_ends_nobody(bench: Bench) -> None:
    server = bench.server(run_tables(clients=2))
    address = server.address()
    client = bench.client("a", address, **client_settings(bench.folder))
    client.line("1 of 2 clients are here")
    story = bench.run_dir / "story.txt"
    for program in (client, server):
        program.signal(signal.SIGUSR1)
    assert server.event("note", text=f"{story} says what the run waits for")
    assert "a: no rank yet, connected" in story.read_text()
    bench.client("b", address, **client_settings(bench.folder))
    assert server.ends() == 0 and client.ends() == 0


@pytest.mark.parametrize("how", ["TERM", "INT", "HUP"])
def test_a_signal_ends_a_simulation_between_two_local_steps_and_it_can_be_resumed(bench: Bench, how: str) -> None:
    file = str(bench.run_file(simulated(rounds=10_000)))
    simulation = bench.program("-m", "heron_simulator", file, "--log-format", "json")
    simulation.line('"round_done"')
    end_by(simulation, SIGNALS[how])
    assert simulation.ends(WITHIN_S) == INTERRUPTED, simulation.stderr
    assert len(simulation.stderr) == 1 and "go on with --resume" in simulation.stderr[0], simulation.stderr
    done = max((bench.run_dir / "checkpoints").glob("round-*"))
    resumed = bench.program("-m", "heron_simulator", file, "--log-format", "json", "--resume")
    assert int(done.stem.removeprefix("round-")) < int(json.loads(resumed.line('"round_done"'))["round"])


def simulated(rounds: int) -> dict[str, Any]:
    return {
        "rounds": rounds,
        "model": {"name": "mlp", "input_shape": [1, 8, 8]},
        "data": {"train_limit": 100, "test_limit": 20},
        "method": {"local_steps": 2, "batch_size": 8},
        "federation": {"clients": 2},
    }


A_USERS_OWN_PROGRAM = """
import signal, sys
from contextlib import closing
from pathlib import Path
from heron_server.config import load_run_file
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir
from heron_server.metrics.observers import Observer
from heron_simulator import simulate

class Says(Observer):
    def listening(self, address, run_id): print("listening", flush=True)
    def round_done(self, record): print("round_done", flush=True)

spec, settings = load_run_file(Path(sys.argv[1]))
before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
try:
    if sys.argv[2] == "simulate":
        simulate(spec, settings=settings, run_dir=settings.run_dir, observers=[Says()])
    else:
        with closing(RunDir(settings.run_dir)) as directory:
            serve(spec, settings, directory, observers=[Says()])
except KeyboardInterrupt:
    print("interrupted", before == {n: signal.getsignal(n) for n in before})
"""


@pytest.mark.parametrize(("call", "under_way"), [("simulate", "round_done"), ("serve", "listening")])
def test_a_users_own_program_keeps_its_signals_and_gets_its_ctrl_c(bench: Bench, call: str, under_way: str) -> None:
    program = bench.program("-c", A_USERS_OWN_PROGRAM, str(bench.run_file(simulated(rounds=10_000))), call)
    program.line(under_way)
    program.signal(signal.SIGINT)
    assert (program.ends(), program.stdout[-1], program.stderr) == (0, "interrupted True", [])
    assert list(bench.run_dir.rglob("*.tmp")) == []
