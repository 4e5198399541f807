"""The simulator: the product's server and N of its clients in one process and one thread, over an in-process transport.

Clients take turns whenever they wait.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

from torch import nn

from heron_client.compute.backend import BuildBackend
from heron_client.compute.backends.torch_backend import build_torch_backend
from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.transport.interface import Transport
from heron_core.config import validate
from heron_core.data import Shares
from heron_core.errors import ConfigError, HeronError, Internal, Interrupted
from heron_core.models.split_model import AssembledModel
from heron_core.process import signals
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.metrics.figures import Summary
from heron_server.metrics.observers import Observer, Observers
from heron_server.planning.facts import ModelFacts
from heron_server.run.coordinator import Coordinator
from heron_server.run.prepare import finish_run, prepare
from heron_server.storage.run_dir import RunDir
from heron_server.training.worker import InlineWorker
from heron_simulator.in_process import InProcess

NO_DEADLINES = {
    "silence_s": inf, "step_deadline_s": inf, "round_deadline_s": inf, "space_wait_s": 0.0, "abandoned_pause_s": 0.0,
}  # fmt: skip
"""In one thread a client is never late: it waits for its turn to compute. A full disk ends the run at once, and an
abandoned round begins again at once."""
ClientTables = Mapping[str, object]
"""What a client's file may say, not yet checked."""


@dataclass(frozen=True)
class Simulation:
    """What a simulated run leaves: its summary (as in summary.json), the assembled model in evaluation mode, and what
    planning knows of it."""

    summary: Summary
    model: nn.Module
    facts: ModelFacts


def simulate(
    run_spec: RunSpec,
    *,
    clients: int | None = None,
    settings: ServerSettings | None = None,
    client_settings: ClientTables | Sequence[ClientTables] | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    around: Callable[[Transport], Transport] | None = None,
) -> Simulation:
    """Runs `run_spec` with N simulated clients; `clients` overrides federation.clients.

    `client_settings` are keys of the client's file (such as data) for every client, or one such table for each.
    The observers hear what happens, and are closed at the end. `around` may wrap each client's transport. Without
    `run_dir` nothing is left on the disk. Raises the HeronError that ended the run or one of the clients; Interrupted,
    within a local step, where this is a command that a signal ends. A program of your own gets its KeyboardInterrupt.
    """
    if clients is not None:
        run_spec = with_clients(run_spec, clients)
    participants = _participants(run_spec.federation.clients, client_settings or {})
    stopped = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(signals.stopping(stopped.set))
        told = stack.enter_context(Observers(observers))
        folder = run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heron-")))
        settings = (settings or ServerSettings()).model_copy(update={"run_dir": folder, **NO_DEADLINES})
        directory = RunDir(folder, settings.keep_checkpoints)
        stack.callback(directory.close)
        trainer, facts = prepare(run_spec, settings)
        coordinator = Coordinator(
            run_spec, settings, trainer, directory, InlineWorker(), resume, told, own_data=facts.test_data
        )
        try:
            build = partial(build_torch_backend, weights_folder=settings.start_from)
            _run_clients(coordinator, participants, around or (lambda transport: transport), stopped, build)
        except _Stopped:
            raise _interrupted(coordinator, run_dir) from None
        summary = finish_run(coordinator, facts, directory, curves=run_dir is not None)
        trained = trainer.trained()
        return Simulation(summary, AssembledModel(trained.front, trained.back).eval(), facts)


def with_clients(run_spec: RunSpec, clients: int) -> RunSpec:
    """The same run for another number of clients; raises ConfigError where its settings forbid that."""
    tables = run_spec.model_dump()
    tables["federation"]["clients"] = clients
    tables["federation"]["min_clients"] = min(clients, run_spec.federation.min_clients)
    return validate(RunSpec, tables, f"the run with {clients} clients")


def _participants(count: int, given: ClientTables | Sequence[ClientTables]) -> list[ClientSettings]:
    """Every client's settings; raises ConfigError. Where one table serves all, they are called client-0 and so on."""
    width = len(str(count - 1))
    if isinstance(given, Mapping):
        tables = [{**given, "name": f"client-{i:0{width}d}"} for i in range(count)]
    else:
        tables = [{"name": f"client-{i:0{width}d}", **table} for i, table in enumerate(given)]
    found = [validate(ClientSettings, table, f"the settings of {table['name']}") for table in tables]
    if len(found) != count:
        raise ConfigError(f"federation.clients = {count} wants as many client files, or one for all, got {len(given)}")
    if len({settings.name for settings in found}) != count:
        raise ConfigError(f"every client needs a name of its own, got {', '.join(s.name for s in found)}; change one")
    return found


def _interrupted(coordinator: Coordinator, run_dir: Path | None) -> Interrupted:
    done, rounds = coordinator.rounds_done, coordinator.spec.rounds
    kept = f"everything up to there is saved in {run_dir}: go on with --resume" if run_dir else "nothing is kept"
    return Interrupted(f"stopped by a signal after round {done} of {rounds}; {kept}")


class _Stopped(Exception):
    """A signal has come. No error of Heron's: a client would tell its server of that."""


def _run_clients(
    coordinator: Coordinator, participants: list[ClientSettings], around: Callable[[Transport], Transport],
    stopped: threading.Event, build: BuildBackend,
) -> None:  # fmt: skip
    def go_on() -> None:
        if stopped.is_set():
            raise _Stopped

    runners, shares = [], Shares()
    for settings in participants:
        key = hashlib.blake2b(settings.name.encode(), digest_size=16).digest()
        transport = around(InProcess(coordinator, settings.name))
        client = Runner(settings, transport, key, measure_memory=False, on_alive=go_on, shares=shares, build=build)
        runners.append((settings.name, client.run()))
    while runners:
        coordinator.tick()
        still = []
        for name, runner in runners:
            if coordinator.failure is not None:
                raise coordinator.failure
            try:
                next(runner)
                still.append((name, runner))
            except StopIteration:
                pass
            except HeronError as error:
                if coordinator.failure is not None:
                    raise coordinator.failure from None
                raise type(error)(f"{name}: {error}") from error
        runners = still
    if coordinator.failure is not None:
        raise coordinator.failure
    if not coordinator.finished:
        raise Internal("every simulated client stopped before the run was over")
