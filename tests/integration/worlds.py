"""One server and its clients in one process, over either transport: the same tests run in both worlds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.interface import Transport
from heron_client.transport.trust import PLAIN, Trust
from heron_core.errors import HeronError
from heron_core.spec.run_spec import RunSpec
from heron_server.api.server import Port
from heron_server.certs.choice import OPEN, Guard
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observer, Observers
from heron_server.run.coordinator import Coordinator
from heron_server.run.prepare import finish_run, prepare
from heron_server.storage.run_dir import RunDir
from heron_server.training.worker import InlineWorker, Worker, WorkerThread
from heron_simulator.in_process import InProcess
from heron_simulator.simulator import NO_DEADLINES

PATIENCE_S = 60.0
Through = Callable[[Transport], Transport]


class Rounds(Observer):
    """Counts committed rounds, and lets others wait for them and for a client's progress."""

    def __init__(self) -> None:
        self.done = 0
        self._progress: set[tuple[str, int, int, int]] = set()
        self._news = threading.Condition()

    def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
        with self._news:
            self._progress.add((name, number, step, steps))
            self._news.notify_all()

    def hear(self, *progress: Any) -> None:
        """Waits for this progress of a client."""
        with self._news:
            assert self._news.wait_for(lambda: progress in self._progress, PATIENCE_S), f"heard {self._progress}"

    def round_done(self, record: dict[str, Any]) -> None:
        with self._news:
            self.done += 1
            self._news.notify_all()

    def reach(self, number: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.done >= number, PATIENCE_S), f"round {number} did not end"


class Member:
    """One client to be run: its settings, after how many rounds it comes, and what its transport goes through."""

    def __init__(self, name: str, *, after: int = 0, through: Through = lambda t: t, **settings: Any) -> None:
        self.settings = ClientSettings.model_validate({"name": name, **settings})
        self.after, self._through = after, through

    def runner(self, transport: Transport) -> Runner:
        key = self.settings.name.encode().ljust(16)
        return Runner(self.settings, self._through(transport), key, measure_memory=False)


class World(Protocol):
    """A server that runs, until `close`."""

    rounds: Rounds

    def transport(self) -> Transport:
        """A new client's way to the server."""
        ...

    def turn(self) -> None:
        """Lets a server in this thread act."""
        ...

    def run(self, *members: Member) -> dict[str, Any]:
        """Runs these clients to their ends and returns the summary, with each one's HeronError under `errors`."""
        ...

    def close(self) -> None: ...


class MovedClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Base:
    def __init__(
        self, spec: RunSpec, folder: Path, worker: Worker, settings: ServerSettings,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        trainer, checked = prepare(spec, settings)
        self.checked, self.model = checked, checked.facts
        self.directory, self.rounds = RunDir(folder), Rounds()
        observers = Observers([self.rounds])
        self.coordinator = Coordinator(
            spec, settings, trainer, self.directory, worker, observers=observers, clock=clock,
            own_data=self.model.test_data, graphs=checked.graphs,
        )

    def finish(self, errors: dict[str, HeronError]) -> dict[str, Any]:
        assert self.coordinator.finished, self.coordinator.failure or errors
        return {**finish_run(self.coordinator, self.checked, self.directory, curves=False), "errors": errors}


class InProcessWorld(_Base):
    """Everyone in turn in one thread, as in the simulator."""

    def __init__(self, spec: RunSpec, folder: Path, **settings: Any) -> None:
        patient = ServerSettings(**settings).model_copy(update=NO_DEADLINES)
        super().__init__(spec, folder, InlineWorker(), patient)

    def transport(self) -> Transport:
        return InProcess(self.coordinator)

    def turn(self) -> None:
        self.coordinator.tick()

    def run(self, *members: Member) -> dict[str, Any]:
        steps = {m.settings.name: (m.after, m.runner(self.transport()).run()) for m in members}
        errors: dict[str, HeronError] = {}
        deadline = monotonic() + PATIENCE_S
        while steps and monotonic() < deadline:
            self.coordinator.tick()
            for name, (after, step) in list(steps.items()):
                if after > self.rounds.done:
                    continue
                try:
                    next(step)
                except StopIteration:
                    del steps[name]
                except HeronError as error:
                    errors[name] = error
                    del steps[name]
        return self.finish(errors)

    def close(self) -> None:
        self.directory.close()


class GrpcWorld(_Base):
    """The server's loop in a thread, its worker in another, each client in one of its own; loopback between them."""

    def __init__(
        self, spec: RunSpec, folder: Path, clock: Callable[[], float] = monotonic, guard: Guard = OPEN,
        **settings: Any,
    ) -> None:  # fmt: skip
        self._guard, self.trust = guard, PLAIN
        self._loop = asyncio.new_event_loop()
        self._worker = WorkerThread(self._loop.call_soon_threadsafe)
        super().__init__(spec, folder, self._worker, ServerSettings(**settings), clock)
        self._transports: list[GrpcTransport] = []
        ready: Future[str] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(ready)))
        self._thread.start()
        self.address = ready.result(PATIENCE_S)

    async def _serve(self, ready: Future[str]) -> None:
        port = Port(self.coordinator, self._guard)
        address = port.bind("127.0.0.1:0")
        await port.start()
        ready.set_result(address)
        while not self._stop.is_set():
            self.coordinator.tick()
            port.tick()
            try:
                await asyncio.wait_for(self._stop.wait(), 0.05)
            except TimeoutError:
                continue
        await port.stop(1.0)
        if rest := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(rest, timeout=5.0)

    def transport(self, trust: Trust | None = None, address: str = "") -> Transport:
        made = GrpcTransport(address or self.address, rpc_deadline_s=20.0, trust=trust or self.trust)
        self._transports.append(made)
        return self._transports[-1]

    def turn(self) -> None:
        """Its loop has a thread of its own."""

    def tick(self) -> None:
        """Time passes for the server now, whatever its own rhythm."""
        done: Future[None] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(self.coordinator.tick()))
        done.result(PATIENCE_S)

    def run(self, *members: Member) -> dict[str, Any]:
        errors: dict[str, HeronError] = {}

        def live(member: Member, runner: Runner) -> None:
            self.rounds.reach(member.after)
            try:
                for _ in runner.run():
                    pass
            except HeronError as error:
                errors[member.settings.name] = error

        threads = [threading.Thread(target=live, args=(m, m.runner(self.transport()))) for m in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads), f"a client did not end; {errors}"
        return self.finish(errors)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        self._worker.stop()
        self._loop.close()
        self.directory.close()
