"""`heron-client check`: everything a run would need, without taking part in one."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter

import numpy as np

from heron_client.compute.local_round import LocalRound
from heron_client.compute.meter import PeakMeter, resident_bytes
from heron_client.compute.workspace import Workspace
from heron_client.config import ClientSettings
from heron_client.session.answers import check_times, run_spec_of
from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.trust import choose_trust
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import PROTOCOL_VERSION, __version__


def run_check(settings: ClientSettings, say: Callable[[str], None], insecure: bool = False) -> None:
    """Says each thing found to work; raises the HeronError of the first that does not."""
    from heron_client.compute.backends.torch_backend import build_torch_backend  # torch

    transport = GrpcTransport(settings.server, settings.rpc_deadline_s, choose_trust(settings, insecure))
    try:
        reply = transport.join(
            pb.JoinRequest(
                protocol_version=PROTOCOL_VERSION, client_name=settings.name, instance_key=os.urandom(16), dry_run=True
            )
        )
    finally:
        transport.close()
    say(f"server       {settings.server} answers, run {reply.run_id}, protocol {PROTOCOL_VERSION}, Heron {__version__}")
    check_times(reply)
    spec = run_spec_of(reply)
    backend = build_torch_backend(settings, spec)
    workspace, task = Workspace(settings, spec, backend), backend.modules.model.task
    workspace.prepare(0, spec.federation.clients)
    histogram = f", class histogram {workspace.class_histogram}" if task.labels.classes else ""
    say(f"data         {workspace.num_samples} training samples{histogram}")
    say(f"task         {task.name}: labels {task.labels}")
    one_step = spec.model_copy(update={"method": spec.method.model_copy(update={"local_steps": 1, "upload_period": 1})})
    backend = build_torch_backend(settings, one_step)
    dry = Workspace(settings, one_step, backend)
    dry.prepare(0, spec.federation.clients)
    _run_alone(dry.local_round(1, 0, backend.state()))
    local, meter, start = dry.local_round(1, 0, backend.state()), PeakMeter(), perf_counter()
    _run_alone(local)
    say(f"model        {spec.model.name} on {settings.device}, {spec.method.name}, batch {spec.method.batch_size}")
    say(
        f"one step     {perf_counter() - start:.3f} s, {local.figures.forward_passes:g} forward passes, peak "
        f"{meter.above_loaded() / 2**20:.0f} MiB above the loaded process ({resident_bytes() / 2**20:.0f} MiB)"
    )


def _run_alone(local: LocalRound) -> None:
    """A local round to its end without a server; where one would return cut gradients, they are zero."""
    uploads, answer = local.uploads(), None
    while True:
        try:
            upload = uploads.send(answer)
        except StopIteration:
            return
        answer = None
        if upload is not None and upload.wants_gradients:
            answer = (0.0, [np.zeros(shape, dtype) for _, dtype, shape in upload.gradients])
