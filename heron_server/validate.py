"""`heron-server validate`: what a run will do and cost, counted without running it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from heron_core import data
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.models.split_model import SplitModel, TensorSpec
from heron_core.run_spec import RunSpec
from heron_server import plan
from heron_server.cautions import method_cautions, server_cautions, share_cautions
from heron_server.config import ServerSettings
from heron_server.setup import check_run
from heron_server.tables import Section, plain_text
from heron_server.units import bytes_text, macs_text, number_text, percent_text


def describe(spec: RunSpec, settings: ServerSettings) -> str:
    """The plan as text; raises ConfigError, ModelError or DataError where the run itself would."""
    return plain_text(plan_sections(spec, settings))


def plan_sections(spec: RunSpec, settings: ServerSettings) -> list[Section]:
    """Model, compute, traffic, server, data, and what to be careful about."""
    model, device, test = check_run(spec, settings)
    parameters = plan.client_parameters(spec, model)
    change = plan.perturbation(spec, parameters["perturbed"], model.classes)
    sizes, missing = _share_sizes(spec, settings)
    evaluator = _evaluator(spec, test)
    cautions = [
        *method_cautions(spec, change),
        *(share_cautions(spec, sizes) if sizes else ()),
        *([missing] if missing else ()),
        *server_cautions(spec, settings, evaluator is not None),
    ]
    return [
        _model(spec, model, parameters),
        _local_step(spec, model, change),
        _traffic(spec, model, parameters),
        _server(spec, settings, model, str(device), evaluator),
        _data(spec, model, sizes, test),
        Section("Warnings", text=cautions or ["none"]),
    ]


def _model(spec: RunSpec, model: SplitModel, parameters: dict[str, int]) -> Section:
    chosen, rows = spec.model, spec.method.batch_size
    ratio = parameters["auxiliary"] / max(1, parameters["front"])
    return Section(f"{spec.name}: {spec.method.name} on {chosen.name}", [
        ("input", _shape(model.input, rows)),
        ("cut", f"after {chosen.cut}" if chosen.cut else "the family's default"),
        *(("" if i else "crosses the cut", f"{s.name} {_shape(s, rows)}") for i, s in enumerate(model.activations)),
        ("front", f"{parameters['front']:,} parameters, normalisation: {chosen.norm}"),
        ("auxiliary head", f"{parameters['auxiliary']:,} parameters, {chosen.auxiliary}: {ratio:.1f} times the front"),
        ("back", f"{parameters['back']:,} parameters, on the server"),
    ])  # fmt: skip


def _local_step(spec: RunSpec, model: SplitModel, change: plan.Perturbation) -> Section:
    method, zo = spec.method, spec.method.zo
    macs, passes = plan.client_forward_macs(spec, model), plan.forward_passes(spec)
    forward = sum(macs.values())
    rows = [
        ("one forward pass", f"front {macs_text(macs['front'])} + auxiliary {macs_text(macs['auxiliary'])} MACs"),
        ("forward passes", f"{passes}{_passes_formula(spec)}"),
        ("one local step", f"{macs_text(forward * passes)} MACs"),
        ("with backpropagation", f"{macs_text(3 * forward)} MACs, backward counted as two forward passes"),
        ("whole run, each client", f"{macs_text(forward * passes * method.local_steps * spec.rounds)} MACs"),
    ]
    if method.name != "frozen":
        rows += [
            ("perturbed parameters", f"d = {change.size:,}"),
            ("perturbation", f"mu = {zo.mu:g} on {zo.distribution}: length {number_text(change.length, 3)}"),
            ("RMS change per weight", number_text(change.rms, 3)),
            ("float32 rounding", f"about {percent_text(change.rounding)} of a loss difference (gradient of norm 1)"),
        ]
    return Section(f"Local step of {method.batch_size} samples", rows)


def _passes_formula(spec: RunSpec) -> str:
    if spec.method.name == "frozen":
        return " (clients never update)"
    probes = "2q + 1" if spec.method.zo.difference == "central" else "q + 1"
    return f" ({probes}, q = {spec.method.zo.num_directions})"


def _traffic(spec: RunSpec, model: SplitModel, parameters: dict[str, int]) -> Section:
    activations, labels = plan.activation_bytes(spec, model), spec.method.batch_size * plan.LABEL_BYTES
    state = parameters["state_bytes"]
    a_round = plan.round_traffic(spec, model, state)
    paper = plan.paper_round_bytes(spec, model, parameters["front_bytes"])

    def row(name: str, once: int | None, per_round: int) -> tuple[str, ...]:
        return name, bytes_text(once), bytes_text(per_round), bytes_text(per_round * spec.rounds)

    return Section(
        f"Payload between the server and {spec.federation.clients} clients",
        [
            row("activations up", activations, a_round.activations_up),
            row("labels up", labels, a_round.labels_up),
            row("client state up", state, a_round.client_state_up),
            row("client state down", state, a_round.client_state_down),
            row("all, as Heron charges", None, a_round.total),
            row("as the paper charges", None, paper),
        ],
        ("", "one transfer", "each round", "whole run"),
        ["The paper charges activations and the front's weights both ways; no head, buffers or labels.",
         "Heron's ledger adds framing, heartbeats and calls as control, and evaluation by clients."],
    )  # fmt: skip


def _server(
    spec: RunSpec, settings: ServerSettings, model: SplitModel, device: str, evaluator: str | None
) -> Section:
    clients, uploads, step = spec.federation.clients, plan.uploads_per_round(spec), plan.upload_bytes(spec, model)
    slots = plan.upload_slots(settings.byte_budget, step, clients)
    steps = clients * uploads
    return Section("Server", [
        ("rounds", f"{spec.rounds} of {spec.method.local_steps} local steps, {clients} clients "
                   f"({spec.federation.min_clients} at least)"),
        ("uploads", f"{uploads} a client and round, every {_ordinal(spec.method.upload_period)}local step"),
        ("optimiser steps", f"{steps:,} a round, {steps * spec.rounds:,} in all, on {device}"),
        ("holds at most", f"{slots} whole uploads, {bytes_text(slots * step)} of a budget of "
                          f"{bytes_text(settings.byte_budget)}"),
        ("order of uploads", settings.order),
        ("evaluation", evaluator or "none"),
    ])  # fmt: skip


def _data(spec: RunSpec, model: SplitModel, sizes: list[int], test: Source | None) -> Section:
    rows = [("source", spec.data.source if not sizes else f"{spec.data.source}, {spec.data.partition} partition")]
    if sizes:
        low, middle, high = (f"{n:,.0f}" for n in (min(sizes), median(sizes), max(sizes)))
        rows.append(("samples a client", f"smallest {low}, median {middle}, largest {high}"))
    if test is not None:
        share = max(data.class_histogram(test.labels, model.classes)) / max(1, len(test))
        rows.append(("majority-class accuracy", f"{percent_text(share)} on the test set"))
    return Section("Data", rows)


def _share_sizes(spec: RunSpec, settings: ServerSettings) -> tuple[list[int], str]:
    """Samples by rank, or none and why: a server without test set need not have the clients' data."""
    if spec.data.source == "client":
        return [], ""
    try:
        experiment = data.load_experiment(spec.data, spec.seed, settings.data_folder)
    except DataError as error:
        return [], f"the clients' shares are not checked here: {error}"
    return data.share_sizes(experiment, spec.data, spec.seed, spec.federation.clients), ""


def _evaluator(spec: RunSpec, test: Source | None) -> str | None:
    """Who evaluates after each round; None: nobody."""
    if test is not None:
        return f"by the server, on its own {len(test):,} samples"
    if spec.data.source == "client" and spec.data.holdout:
        return f"by the clients, on {percent_text(spec.data.holdout)} of their own samples, held out"
    return None


def _shape(spec: TensorSpec, rows: int) -> str:
    return f"{spec.dtype} {_list((rows, *spec.shape))}"


def _list(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _ordinal(number: int) -> str:
    """`5th `, or nothing for 1."""
    if number == 1:
        return ""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix} "
