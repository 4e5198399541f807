"""What the [simulate] table means for one run: what stands around each client, and how long the network would take."""

from __future__ import annotations

from heron_client.transport.interface import Transport
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.wire.window import rows_together
from heron_server.planning.facts import ModelFacts
from heron_server.planning.macs import base_macs, step_macs
from heron_server.planning.traffic import transfer_of
from heron_simulator.faults import DroppingOut
from heron_simulator.network_model import Compute, Figures, Link, Recording, figures, window_of
from heron_simulator.recording import RecordingTransport
from heron_simulator.settings import NetworkSettings, SimulateSettings


class Conditions:
    """Those of one simulated run; give `around` to `simulate`, and ask for the figures after it."""

    def __init__(self, spec: RunSpec, settings: SimulateSettings) -> None:
        self._spec, self._settings = spec, settings
        self.recording: Recording = {}

    def around(self, transport: Transport) -> Transport:
        """The client's transport, recorded, with faults where the settings want them."""
        recorded = RecordingTransport(transport, self.recording)
        dropout = self._settings.dropout
        return DroppingOut(recorded, self._spec.seed, dropout) if dropout else recorded

    def figures(self, facts: ModelFacts, byte_budget: int) -> Figures:
        """Messages, and seconds of each round on the virtual clock."""
        method, network = self._spec.method, self._settings.network
        whole_bytes = transfer_of(self._spec, facts).upload
        return figures(
            self.recording, link_of(network), compute_of(network, method, facts),
            local_steps=method.local_steps, upload_period=method.upload_period, byte_budget=byte_budget,
            upload_bytes=whole_bytes, window=window_of(whole_bytes * together_of(method, facts) // method.batch_size),
            mixing=method.mixing,
        )  # fmt: skip


def link_of(network: NetworkSettings) -> Link:
    """Each client's link; a rate of 0 in both settings is no limit."""
    rates = (rate or network.mbit_per_s or float("inf") for rate in (network.up_mbit_per_s, network.down_mbit_per_s))
    return Link(network.latency_ms / 1e3, *(1e6 * rate for rate in rates))


def compute_of(network: NetworkSettings, method: MethodSpec, facts: ModelFacts) -> Compute:
    """A local step takes as long as its multiply-accumulates, or as the settings say."""
    step_s = network.compute_s_per_step
    if not step_s and network.client_gmacs_per_s:
        step_s = step_macs(method, facts).exact / (network.client_gmacs_per_s * 1e9)
    answer_share = float(method_of(method).front == "zeroth_order")  # the probes do not need what is waited for
    return Compute(step_s, upload_shares(method, facts), answer_share, network.server_s_per_step)


def upload_shares(method: MethodSpec, facts: ModelFacts) -> tuple[float, ...]:
    """Share of a local step's multiply-accumulates after which activations leave: those of each micro-batch, or of the
    last of several that travel together.

    Cut gradients: after the forward pass. Losses alone: after the micro-batch's base pass, and the probes of the
    micro-batches before it where each is probed before the next begins. Else: after all that there is to do for it.
    """
    count, front = method.batch_size // method.micro_batch_rows, method_of(method).front
    together = together_of(method, facts) // method.micro_batch_rows
    last = range(together - 1, count, together)
    base = base_macs(method, facts) / step_macs(method, facts).exact
    if front not in ("zeroth_order", "cut_gradients"):
        return tuple((number + 1) / count for number in last)
    if method.zo.scope == "batch":
        return tuple(base * (number + 1) / count for number in last)
    return tuple((number + base) / count for number in last)


def together_of(method: MethodSpec, facts: ModelFacts) -> int:
    """Rows of an upload that travel together."""
    return rows_together(method.batch_size, method.micro_batch_rows, facts.activation_bytes + facts.label_bytes)
