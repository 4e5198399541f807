"""The simulator: the product's server and N of its clients in one process and one thread, over an in-process transport.

Clients take turns whenever they wait.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from math import inf
from pathlib import Path

from heron_client.compute.backend import BuildBackend
from heron_client.compute.backends.torch_backend import build_torch_backend
from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.transport.interface import Transport
from heron_core.config import expanded, validate
from heron_core.data import Shares
from heron_core.errors import ConfigError, HeronError, Internal, Interrupted
from heron_core.models.split_model import AssembledModel
from heron_core.process import signals
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings, fitting_holdout
from heron_server.display.choose import in_notebook, make_display
from heron_server.metrics.figures import Summary
from heron_server.metrics.observers import Observer, Observers
from heron_server.planning.checks import CheckedRun
from heron_server.run.coordinator import Coordinator
from heron_server.run.prepare import finish_run, prepare
from heron_server.storage.run_dir import RunDir
from heron_server.training.commands import TrainedModel
from heron_server.training.worker import InlineWorker
from heron_simulator.in_process import InProcess
from heron_simulator.notebook.arguments import ClientTables, RunTables, client_tables, settings_of
from heron_simulator.notebook.given import as_given, handed_over
from heron_simulator.notebook.simulation import MOST_CLASSES, Losses, Simulation, confusion_of

NO_DEADLINES = {
    "silence_s": inf, "step_deadline_s": inf, "round_deadline_s": inf, "space_wait_s": 0.0, "abandoned_pause_s": 0.0,
}  # fmt: skip
"""In one thread a client is never late: it waits for its turn to compute. A full disk ends the run at once, and an
abandoned round begins again at once."""


def simulate(
    run_spec: RunTables,
    *,
    model: object = None,
    data: object = None,
    test: object = None,
    clients: int | None = None,
    settings: ServerSettings | Mapping[str, object] | None = None,
    client_settings: ClientTables | Sequence[ClientTables] | None = None,
    run_dir: Path | str | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    around: Callable[[Transport], Transport] | None = None,
    progress: bool | None = None,
) -> Simulation:
    """Runs a run spec (an object, the tables of a run file as a dict, or a file's path) with N simulated clients.

    Objects may stand where settings name code and data: `model`, a SplitModel, a CutModule or a function that returns
    one; `data`, a list with a dataset or (x, y) for each client; `test`, the server's. (x, y) mean what they mean in an
    .npz file. `clients` overrides federation.clients. `client_settings` are keys of the client's file (such as data)
    for every client, or one such table for each. The observers hear what happens, and are closed at the end. `around`
    may wrap each client's transport. `progress`: show it; None: where this is a notebook. Without `run_dir` nothing is
    left on the disk. Raises the HeronError that ended the run or one of the clients, and ConfigError for wrong
    settings; Interrupted, within a local step, where this is a command that a signal ends. A program of your own gets
    its KeyboardInterrupt.
    """
    given = as_given(model, data, test)
    spec, server = settings_of(run_spec, settings, given)
    tables = client_tables(clients, given, client_settings)
    spec = fitting_holdout(spec, server)
    spec = spec if clients is None else with_clients(spec, clients)
    participants = _participants(spec.federation.clients, tables)
    folder = expanded(run_dir) if isinstance(run_dir, str) else run_dir
    shows = in_notebook() if progress is None else progress
    told = [*observers, *([make_display("text", sys.stdout)] if shows else [])]
    with handed_over(given):
        return _simulated(spec, server, participants, folder, resume, told, around or (lambda transport: transport))


def _simulated(
    spec: RunSpec, settings: ServerSettings, participants: list[ClientSettings], run_dir: Path | None, resume: bool,
    observers: Sequence[Observer], around: Callable[[Transport], Transport],
) -> Simulation:  # fmt: skip
    stopped, losses = threading.Event(), Losses()
    with ExitStack() as stack:
        stack.enter_context(signals.stopping(stopped.set))
        told = stack.enter_context(Observers(observers))
        folder = run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heron-")))
        graphs = any(client.backend == "onnx" for client in participants)  # those beside a run may need no such clients
        settings = settings.model_copy(update={"run_dir": folder, "graphs": graphs, **NO_DEADLINES})
        directory = RunDir(folder, settings.keep_checkpoints)
        stack.callback(directory.close)
        trainer, checked = prepare(spec, settings)
        coordinator = Coordinator(
            spec, settings, trainer, directory, InlineWorker(), resume, told, own_data=checked.facts.test_data,
            long_rounds=checked.long_rounds, graphs=checked.graphs,
        )  # fmt: skip
        try:
            build = partial(build_torch_backend, weights_folder=settings.start_from)
            _run_clients(coordinator, participants, around, stopped, build, losses)
        except _Stopped:
            coordinator.checkpoints.save_held()
            raise _interrupted(coordinator, run_dir) from None
        except BaseException:
            with suppress(HeronError):  # the error in hand is the one that counts
                coordinator.checkpoints.save_held()
            raise
        curves, texts = run_dir is not None, settings.written_samples
        summary = finish_run(coordinator, checked, directory, curves=curves, texts=texts)
        return _result(summary, checked, trainer.trained(), losses)


def _result(summary: Summary, checked: CheckedRun, trained: TrainedModel, losses: Losses) -> Simulation:
    """The parts are nobody else's any more, so they are handed out as they are, to be trained on."""
    model, classes = AssembledModel(trained.front, trained.back).eval(), checked.facts.labels.classes
    confusion, test = None, checked.test
    if test is not None and 0 < classes <= MOST_CLASSES:
        confusion = confusion_of(model, test, classes, checked.model.channels_last)
    names = tuple(summary.get("class_names", ())) or tuple(map(str, range(classes)))
    for part in ("front", "back"):  # as the user's factory leaves it, and model.trainable: the trainer froze its front
        fresh = dict(checked.model.build(part, 0).named_parameters())
        for name, parameter in getattr(model, part).named_parameters():
            parameter.requires_grad_(fresh[name].requires_grad)
    return Simulation(summary, model, checked.facts, losses.table(), names, confusion)


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


def _note_losses(losses: Losses, name: str, client: Runner, round_number: int) -> None:
    losses.heard(name, round_number, client.losses)


class _Stopped(Exception):
    """A signal has come. No error of Heron's: a client would tell its server of that."""


def _run_clients(
    coordinator: Coordinator, participants: list[ClientSettings], around: Callable[[Transport], Transport],
    stopped: threading.Event, build: BuildBackend, losses: Losses,
) -> None:  # fmt: skip
    def go_on() -> None:
        if stopped.is_set():
            raise _Stopped

    runners, shares = [], Shares()
    for settings in participants:
        key = hashlib.blake2b(settings.name.encode(), digest_size=16).digest()
        within = InProcess(coordinator, settings.name)
        client = Runner(
            settings, around(within), key, measure_memory=False, on_alive=go_on, shares=shares, build=build
        )
        within.on_step = partial(_note_losses, losses, settings.name, client)
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
