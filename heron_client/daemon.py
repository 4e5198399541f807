"""The client process: one Runner after another over gRPC, signals, identity, a sign of life."""

from __future__ import annotations

import gc
import logging
import os
import re
import threading
from pathlib import Path
from time import monotonic

from heron_client.compute.backends.choice import runtime_of
from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.session.session import State
from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.trust import choose_trust
from heron_core.errors import ConfigError, Interrupted
from heron_core.files import replace_file
from heron_core.process import signals
from heron_core.process.heap import give_memory_back
from heron_core.trust.addresses import is_loopback

log = logging.getLogger("heron.client")

IDLE_S = 0.05
BETWEEN_RUNS_S = 5.0


def run_daemon(settings: ClientSettings, *, once: bool, insecure: bool = False) -> None:
    """Runs until the run ends (`once`), a signal comes, or an error is final. Raises that error, or Interrupted."""
    trust = choose_trust(settings, insecure)
    if insecure and not is_loopback(settings.server):
        log.warning("INSECURE: labels and activations pass in plain text to %s, whoever that is", settings.server)
    key = instance_key(settings.state_dir)
    alive = SignOfLife(settings.state_dir)
    if runtime_of(settings) == "onnx":
        give_memory_back()  # of 132 MiB for the paper's front it is 3; before the transport's threads begin
    transport = GrpcTransport(settings.server, settings.rpc_deadline_s, trust)
    stop = threading.Event()
    try:
        runner = Runner(settings, transport, key, on_alive=alive)  # loads torch: a signal meanwhile ends the process
        gc.freeze()  # what is loaded by now stays: a full collection would walk all of it, within a round
        with signals.stopping(stop.set):
            while not stop.is_set():
                _drive(runner, alive, stop)
                if runner.session.state is State.DONE:
                    if once:
                        return
                    log.info("waiting for the next run")
                    stop.wait(BETWEEN_RUNS_S)
                runner = Runner(settings, transport, key, on_alive=alive)
    finally:
        transport.close()
    raise Interrupted("stopped by a signal; the server goes on without this client until it comes back")


def _drive(runner: Runner, alive: SignOfLife, stop: threading.Event) -> None:
    with signals.stopping(runner.stop):
        for _ in runner.run():
            alive()
            stop.wait(IDLE_S)


def instance_key(state_dir: Path | None) -> bytes:
    """This client's identity: 16 random bytes, kept in the state folder if there is one. Raises ConfigError."""
    if state_dir is None:
        return os.urandom(16)
    path = state_dir / "instance_key"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            replace_file(path, _write_new_key)
        found = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"state_dir {state_dir} cannot be used: {error}; make it writable or take another") from None
    if not re.fullmatch(rb"[0-9A-Fa-f]{32}", found):
        what = f"got {len(found)} bytes that are not" if found else "it is empty, as an early power cut leaves it"
        raise ConfigError(f"{path} must hold 32 hex digits, {what}; remove it, and this client gets a new identity")
    return bytes.fromhex(found.decode())


def _write_new_key(path: Path) -> None:
    """Nobody else may read it, from its first byte on."""
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(os.urandom(16).hex())


class SignOfLife:
    """Touches `state_dir/alive` at most once a second, for health checks."""

    def __init__(self, state_dir: Path | None) -> None:
        self._path = state_dir / "alive" if state_dir is not None else None
        self._last = 0.0

    def __call__(self) -> None:
        now = monotonic()
        if self._path is not None and now - self._last >= 1.0:
            self._last = now
            try:
                self._path.touch()
            except OSError as error:
                log.warning("cannot touch %s: %s", self._path, error)
