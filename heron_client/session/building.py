"""From a run's spec to the backend that runs its model here: built by torch, or over graphs of the server's."""

from __future__ import annotations

from functools import partial

from heron_client.compute.backend import Backend, BuildBackend
from heron_client.compute.backends.choice import load, provider_of, runtime_of
from heron_client.config import ClientSettings
from heron_client.session.graphs import graphs_for
from heron_client.transport.interface import Transport
from heron_core.process.heap import give_memory_back
from heron_core.spec.run_spec import RunSpec


class Building:
    """By what one client's settings say. The runtime is loaded at once: before Join, not within its wait."""

    def __init__(self, settings: ClientSettings, transport: Transport, build: BuildBackend | None = None) -> None:
        """`build`: how a torch client makes its backend; None: with what the settings say. ConfigError: the runtime is
        not installed here."""
        self._settings, self._transport, self._build = settings, transport, build
        self.runtime = runtime_of(settings)
        self.said = load(settings)
        """Such as `torch 2.10.0`, for people."""
        if self._build is None and self.runtime == "torch":
            from heron_client.compute.backends.torch_backend import build_torch_backend

            self._build = partial(_frugally, build_torch_backend)

    def backend(self, spec: RunSpec, graphs: str) -> Backend:
        """`graphs`: the hash that the server has named. Raises ModelError, DataError, ConfigError, BadReply, and as
        `Transport.fetch_graphs`."""
        if self.runtime == "torch":
            assert self._build is not None
            return self._build(self._settings, spec)
        from heron_client.compute.backends.onnx_backend import OnnxBackend
        from heron_client.compute.backends.onnx_session import OnnxOptions

        options = OnnxOptions(provider=provider_of(self._settings))
        return OnnxBackend(graphs_for(self._settings, self._transport, graphs), spec, options)


def _frugally(build: BuildBackend, settings: ClientSettings, spec: RunSpec) -> Backend:
    """As a client builds that has a process to itself: one of many in a simulator would slow the others."""
    from heron_core.models.registry import CAUSAL_LM

    if spec.model.name == CAUSAL_LM:
        give_memory_back()  # a pass over a long sequence frees far more than it leaves
    return build(settings, spec)
