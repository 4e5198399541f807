"""The server process: event loop, worker thread, signals, from start to summary."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from heron_core.errors import Interrupted
from heron_core.process import signals
from heron_core.spec.run_spec import RunSpec
from heron_server.api.server import Port, listen
from heron_server.certs.choice import Guard, choose_guard
from heron_server.config import ServerSettings, fitting_holdout
from heron_server.metrics.figures import Summary
from heron_server.metrics.observers import Observer, Observers
from heron_server.planning.checks import CheckedRun
from heron_server.run.clock import RunClock
from heron_server.run.coordinator import Coordinator
from heron_server.run.failure import failing
from heron_server.run.prepare import finish_run, prepare
from heron_server.storage.run_dir import RunDir
from heron_server.training.trainer import Trainer
from heron_server.training.worker import WorkerThread

TICK_S = 0.25
FAREWELL_S = 5.0
"""How long clients may take to hear that the run is over."""
STOP_S = 2.0
"""How long the server may take to end the calls of those who have not."""
_ended: list[Port] = []
"""Never taken apart: gRPC does that on the event loop, and waits without a limit for what is pending in them."""


def serve(
    spec: RunSpec, settings: ServerSettings, directory: RunDir, *, resume: bool = False,
    observers: Sequence[Observer] = (), insecure: bool = False,
) -> Summary:
    """Serves one run to its end and returns its summary.

    Raises Interrupted, state saved, where this is a command that a signal ends, and RunFailed where a part of the
    server or its storage has failed. In a program of your own, signals do what you have set up, and the
    KeyboardInterrupt of Ctrl-C ends the run with its state saved. The observers hear what happens, and are closed at
    the end. `insecure`: without certificates also where other machines reach the address; a public one must have
    server.insecure beside it.
    """
    spec, guard = fitting_holdout(spec, settings), choose_guard(settings, insecure)
    with failing(), Observers(observers) as told:
        trainer, checked = prepare(spec, settings)
        return asyncio.run(_serve(spec, settings, directory, trainer, checked, resume, told, guard))


async def _serve(
    spec: RunSpec, settings: ServerSettings, directory: RunDir, trainer: Trainer, checked: CheckedRun, resume: bool,
    observers: Observers, guard: Guard,
) -> Summary:
    stopped, post = asyncio.Event(), asyncio.get_running_loop().call_soon_threadsafe
    with signals.stopping(lambda: post(stopped.set)):  # before anything is written
        return await _run(spec, settings, directory, trainer, checked, resume, observers, guard, stopped)


async def _run(
    spec: RunSpec, settings: ServerSettings, directory: RunDir, trainer: Trainer, checked: CheckedRun, resume: bool,
    observers: Observers, guard: Guard, stopped: asyncio.Event,
) -> Summary:
    post = asyncio.get_running_loop().call_soon_threadsafe
    worker, clock = WorkerThread(post), RunClock()
    try:
        coordinator = Coordinator(
            spec, settings, trainer, directory, worker, resume, observers, clock, checked.facts.test_data,
            checked.long_rounds, checked.graphs,
        )  # fmt: skip
        port, address = await listen(coordinator, settings.address, settings.reflection, guard)
        _ended.append(port)
        observers.listening(address, coordinator.run_id)
        save = partial(_save_what_is_done, coordinator)
        try:
            with signals.on_user_signal(lambda: post(_write_story, coordinator, directory, observers)):
                await _until_over(coordinator, port, clock, stopped)
            worker.end(save)
            await _farewell(coordinator, stopped)
        finally:
            worker.end(save)
            with suppress(TimeoutError):
                await asyncio.wait_for(port.stop(0.5), STOP_S)
            await _last_calls()
    finally:
        worker.stop()
    if coordinator.failure is not None:
        raise coordinator.failure
    if not coordinator.finished:
        done, saved = coordinator.rounds_done, coordinator.checkpoints.all_saved
        what = "everything up to there" if saved else "the last checkpoint, of an earlier round,"
        raise Interrupted(
            f"stopped by a signal after round {done} of {spec.rounds}; {what} is saved in "
            f"{directory.path}: go on with --resume"
        )
    return finish_run(coordinator, checked, directory, texts=settings.written_samples)


def _save_what_is_done(coordinator: Coordinator) -> None:
    """On the worker, after its last command, however the run ends."""
    try:
        coordinator.checkpoints.save_held()
    except Exception as error:
        coordinator.fail(error)


def _write_story(coordinator: Coordinator, directory: RunDir, observers: Observers) -> None:
    """As somebody asked for it. It is only for people to read: what fails here costs the story, not the run."""
    try:
        said = f"{directory.write_story(coordinator.story())} says what the run waits for"
    except Exception as error:
        said = f"the run's story cannot be written: {error!r}"
    observers.note(said)


async def _last_calls() -> None:
    """gRPC ends the calls that `stop` cancelled a moment later; cut off before, each prints a traceback."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        await asyncio.wait(rest, timeout=1.0)


async def _until_over(coordinator: Coordinator, port: Port, clock: RunClock, stopped: asyncio.Event) -> None:
    """Ticks until the run is finished, has failed, or a signal came."""
    while not (coordinator.finished or coordinator.failure or stopped.is_set()):
        clock.turn()
        coordinator.tick()
        port.tick()
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), TICK_S)


async def _farewell(coordinator: Coordinator, stopped: asyncio.Event) -> None:
    """Lets the clients hear how it ended."""
    if coordinator.failure is not None:
        coordinator.drain(f"the server has failed: {coordinator.failure}")
    elif not coordinator.finished:
        coordinator.drain("the server was stopped; it keeps its state")
    finished, time = coordinator.finished, asyncio.get_running_loop().time
    deadline = time() + (FAREWELL_S if finished else 1.0)
    while coordinator.clients_present and time() < deadline and not (finished and stopped.is_set()):
        await asyncio.sleep(0.02)
