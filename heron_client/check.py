"""`heron-client check`: everything a run would need, without taking part in one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from heron_client.check_data import check_samples
from heron_client.compute.backend import Backend, ModelBackend
from heron_client.compute.backends.choice import kind_of
from heron_client.compute.local_round import LocalRound
from heron_client.compute.meter import PeakMeter, resident_bytes
from heron_client.compute.workspace import Workspace, load_own_data
from heron_client.config import ClientSettings
from heron_client.session.answers import check_times, class_names_of, run_spec_of
from heron_client.session.building import Building
from heron_client.session.joining import doubts_of, join_request
from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.trust import Trust
from heron_client.trust import choose_trust
from heron_core.data.facts import DataFacts
from heron_core.data.source import Source
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_core.version import PROTOCOL_VERSION, __version__
from heron_core.wire.software import Software, differences


def run_check(settings: ClientSettings, say: Callable[[str], None], insecure: bool = False) -> None:
    """Says each thing found to work; raises the HeronError of the first that does not."""
    trust = choose_trust(settings, insecure)
    reply = ask_server(settings, trust)
    say(f"server       {settings.server} answers, run {reply.run_id}, protocol {PROTOCOL_VERSION}, Heron {__version__}")
    say(f"software     {software_here(settings)}")
    if other := other_software(settings, reply):
        say(f"             {other}")
    trial = trial_of(settings, trust, reply)
    trial.check_data(say)
    say(f"data         {trial.load_data()}")
    if trial.facts is not None:
        compared = ask_server(settings, trust, reply.run_id, trial.facts)
        for text in doubts_of(compared):
            say(f"compared     {text}")
    say(f"task         {trial.task}")
    step = trial.step()
    say(f"model        {trial.model}")
    for warning in trial.warnings:
        say(f"warning      {warning}")
    say(f"one step     {step}")


def software_here(settings: ClientSettings) -> Software:
    """What computes at this client."""
    return Software.here(kind_of(settings))


def other_software(settings: ClientSettings, reply: pb.JoinReply) -> str:
    """What is another at the server, one line; empty where nothing is."""
    different = differences(software_here(settings), Software.read(reply.software), "the server")
    return f"{different}: the bits may differ" if different else ""


def ask_server(
    settings: ClientSettings, trust: Trust, run_id: str = "", facts: DataFacts | None = None
) -> pb.JoinReply:
    """The server's answer to a Join that takes no place. `facts`: of data that was loaded for this run. Raises
    ConfigError, PeerError, or DataError where the data cannot be that of the run."""
    transport = GrpcTransport(settings.server, settings.rpc_deadline_s, trust)
    try:
        reply = transport.join(join_request(settings, os.urandom(16), run_id, facts, dry_run=True))
    finally:
        transport.close()
    check_times(reply)
    return reply


def trial_of(settings: ClientSettings, trust: Trust, reply: pb.JoinReply) -> Trial:
    """One local step of the server's run, with its graphs where this client has no torch. Raises ModelError,
    ConfigError, or PeerError."""
    spec = run_spec_of(reply)
    one_step = {"method": spec.method.model_copy(update={"local_steps": 1, "upload_period": 1})}
    spec = spec.model_copy(update=one_step)
    transport = GrpcTransport(settings.server, settings.rpc_deadline_s, trust)
    try:
        building = Building(settings, transport)
        return Trial(settings, spec, building.backend(spec, reply.graphs), building.said, class_names_of(reply))
    finally:
        transport.close()


@dataclass(frozen=True)
class OneStep:
    """What one local step took."""

    seconds: float
    forward_passes: float
    above_loaded_bytes: int
    """Its peak, above the process that has model and data loaded."""
    loaded_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:.3f} s, {self.forward_passes:g} forward passes, peak {self.above_loaded_bytes / 2**20:.0f} "
            f"MiB above the loaded process ({self.loaded_bytes / 2**20:.0f} MiB)"
        )


class Trial:
    """One local step of a run, tried on this machine by itself."""

    def __init__(
        self, settings: ClientSettings, spec: RunSpec, backend: Backend, runtime: str, class_names: Sequence[str] = ()
    ) -> None:
        """`runtime`: what runs the model, such as `torch 2.10.0`; `class_names`: the run's, as far as they are known.
        Raises ModelError."""
        self._settings, self._spec, self._backend, self._runtime = settings, spec, backend, runtime
        self._class_names = class_names
        self.warnings = backend.lint() if isinstance(backend, ModelBackend) and ":" in spec.model.name else ()
        """Of a user's own model: what is probably not meant."""
        self._own: Source | None = None
        self._workspace: Workspace | None = None

    @property
    def facts(self) -> DataFacts | None:
        """Of own data, after `load_data`."""
        return self._workspace.facts if self._workspace else None

    @property
    def task(self) -> str:
        """Its labels, and its name where the model is known here."""
        name = f"{self._backend.task_name}: " if isinstance(self._backend, ModelBackend) else ""
        return f"{name}labels {self._backend.labels}"

    @property
    def model(self) -> str:
        """What runs where."""
        method = self._spec.method
        where = f"{self._settings.device} by {self._runtime}"
        return f"{self._spec.model.name} on {where}, {method.name}, batch {method.batch_size}"

    def check_data(self, say: Callable[[str], None]) -> None:
        """Opens every sample of own data once, and says what is in them. Raises DataError, after all that is wrong."""
        if self._spec.data.source != "client":
            return
        self._own = load_own_data(self._settings, self._spec, self._backend, self._class_names)
        for line in check_samples(self._own, self._backend.inputs, self._backend.labels, say):
            say(f"samples      {line}")

    def load_data(self) -> str:
        """Says what this client trains on, as the first of the run's clients; own data is not loaded again. Raises
        DataError."""
        workspace = Workspace(self._settings, self._spec, self._backend, class_names=self._class_names, own=self._own)
        workspace.prepare(0, self._spec.federation.clients)
        self._workspace = workspace
        histogram = f", class histogram {text}" if (text := workspace.class_histogram_text) else ""
        return f"{workspace.num_samples} training samples{histogram}"

    def step(self) -> OneStep:
        """The second of two, for the first one warms up; after `load_data`. Raises DataError."""
        workspace, state = self._workspace, self._backend.state()
        assert workspace is not None, "load_data comes first"
        _run_alone(workspace.local_round(1, 0, state))
        local, meter, start = workspace.local_round(1, 0, state), PeakMeter(), perf_counter()
        _run_alone(local)
        seconds = perf_counter() - start
        return OneStep(seconds, local.figures.forward_passes, meter.above_loaded(), resident_bytes())


def _run_alone(local: LocalRound) -> None:
    """A local round to its end without a server; where one would return cut gradients, they are zero."""
    uploads, answer, owed = local.uploads(), None, None
    while True:
        try:
            upload = uploads.send(answer)
        except StopIteration:
            return
        answer = None
        if upload is not None and upload.wants_gradients:
            owed = upload.gradients
        elif upload is None and owed:
            answer, owed = (0.0, [np.zeros(shape, dtype) for _, dtype, shape in owed]), None
