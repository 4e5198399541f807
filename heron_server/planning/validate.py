"""`heron-server validate`: what a run will do and cost, counted without running it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from heron_core import data
from heron_core.arrays import TensorSpec
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.models.split_model import SplitModel
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning import macs, plan
from heron_server.planning.checks import check_run
from heron_server.planning.memory import machine_memory, server_memory
from heron_server.planning.paper import paper_round_bytes
from heron_server.planning.warnings import method_warnings, model_warnings, server_warnings, share_warnings
from heron_server.text.tables import Section, plain_text
from heron_server.text.units import bytes_text, macs_text, number_text, percent_text
from heron_server.uploads.scheduler import upload_slots


def describe(spec: RunSpec, settings: ServerSettings) -> str:
    """The plan as text; raises ConfigError, ModelError or DataError where the run itself would."""
    return plain_text(plan_sections(spec, settings))


def plan_sections(spec: RunSpec, settings: ServerSettings) -> list[Section]:
    """Model, compute, traffic, server, data, and what to be careful about."""
    model, device, test = check_run(spec, settings)
    parameters = plan.client_parameters(spec, model)
    change = plan.perturbation(spec, parameters["perturbed"], model.task.output_shape[-1])
    sizes, missing = _share_sizes(spec, settings)
    evaluator = _evaluator(spec, test)
    warnings = [
        *method_warnings(spec, change),
        *model_warnings(spec),
        *(share_warnings(spec, sizes) if sizes else ()),
        *([missing] if missing else ()),
        *server_warnings(spec, settings, evaluator is not None),
    ]
    return [
        _model(spec, model, parameters),
        _local_step(spec, model, change),
        _traffic(spec, model),
        _server(spec, settings, model, str(device), evaluator),
        _memory(spec, settings, model),
        _data(spec, model, sizes, test),
        Section("Warnings", text=warnings or ["none"]),
    ]


def _model(spec: RunSpec, model: SplitModel, parameters: dict[str, int]) -> Section:
    chosen, rows, method = spec.model, spec.method.batch_size, method_of(spec.method)
    ratio = parameters["auxiliary"] / max(1, parameters["front"])
    head = f"{parameters['auxiliary']:,} parameters, {chosen.auxiliary}: {ratio:.1f} times the front"
    beside = "averaged, and run whole on the clients" if method.front == "whole_model" else "on the server"
    return Section(f"{spec.name}: {spec.method.name} on {chosen.name}", [
        *(("" if i else "input", _shape(s, rows)) for i, s in enumerate(model.inputs)),
        ("cut", f"after {chosen.cut}" if chosen.cut else "the family's default"),
        *(("" if i else "crosses the cut", f"{s.name} {_shape(s, rows)}") for i, s in enumerate(model.activations)),
        ("front", f"{parameters['front']:,} parameters, normalisation: {chosen.norm}"),
        ("front learns by", FRONTS[method.front]),
        ("trainable", _trainable(spec, model)),
        ("auxiliary head", head if "auxiliary" in method.client_parts else f"none with {spec.method.name}"),
        *((("head learns by", HEADS[method.head]),) if "auxiliary" in method.client_parts else ()),
        ("back", f"{parameters['back']:,} parameters, {beside}{BACKS[method.backs]}"),
    ])  # fmt: skip


FRONTS = {
    "zeroth_order": "losses of random probes, forward passes only",
    "auxiliary_loss": "backpropagation of the auxiliary head's loss",
    "cut_gradients": "backpropagation of the gradient that the server returns",
    "whole_model": "backpropagation through the whole model",
    "none": "nothing: the control",
}
HEADS = {
    "joint": "what the front learns by, together with it",
    "detached": "its own gradient, on detached activations",
    "server": "the server's steps on what it receives",
    "aligned": "the server, which aligns each client's to the back",
    "none": "nothing",
}
BACKS = {"shared": ", one for all", "per_client": ", one for each client, averaged each round", "none": ""}


def _trainable(spec: RunSpec, model: SplitModel) -> str:
    """`norm: 112 of 1,272 parameters of the front`."""
    front = model.build("front", spec.seed)
    sizes = {name: p.numel() for name, p in front.named_parameters()}
    moving = sum(size for name, size in sizes.items() if model.trainable(f"front.{name}"))
    return f"{spec.model.trainable}: {moving:,} of the front's {sum(sizes.values()):,} parameters"


def _local_step(spec: RunSpec, model: SplitModel, change: plan.Perturbation) -> Section:
    method, zo = spec.method, spec.method.zo
    parts, step = macs.client_forward_macs(spec, model), macs.step_macs(spec, model)
    forward = sum(parts.values())
    rows = [
        ("one forward pass", " + ".join(f"{part} {macs_text(count)}" for part, count in parts.items()) + " MACs"),
        ("forward passes", f"{number_text(macs.forward_passes(spec, model))}{_passes_formula(spec, model)}"),
        ("one local step", f"{macs_text(step.exact)} MACs, of needed gradients only"),
        ("as the paper counts", f"{macs_text(step.paper)} MACs"),
        ("whole run, each client", f"{macs_text(step.exact * method.local_steps * spec.rounds)} MACs"),
    ]
    if method.name == "heron":
        rows += [
            ("with backpropagation", f"{macs_text(3 * forward)} MACs, backward counted as two forward passes"),
            ("one direction for", _scope(spec)),
            ("perturbed parameters", f"d = {change.size:,}"),
            ("perturbation", f"mu = {zo.mu:g} on {zo.distribution}: length {number_text(change.length, 3)}"),
            ("RMS change per weight", number_text(change.rms, 3)),
            ("float32 rounding", f"about {percent_text(change.rounding)} of a loss difference (gradient of norm 1)"),
        ]
    return Section(f"Local step of {method.batch_size} samples", rows)


def _passes_formula(spec: RunSpec, model: SplitModel) -> str:
    method = method_of(spec.method)
    if method.front != "zeroth_order":
        return " and a backward pass" if method.client_learns else " (clients never update)"
    zo = spec.method.zo
    central = zo.difference == "central"
    if zo.block_wise:
        stages, probed = macs.probed_blocks(spec, model)
        values = "2q" if central else "q"
        return (
            f" (1 whole, and {values} from each of {len(probed)} stages on, counted as shares of {stages} stages; "
            f"q = {zo.num_directions})"
        )
    return f" ({'2q + 1' if central else 'q + 1'}, q = {zo.num_directions})"


def _scope(spec: RunSpec) -> str:
    zo, rows = spec.method.zo, spec.method.micro_batch_rows
    if zo.block_wise:
        return "each stage of the front in turn, over the whole batch"
    return {"batch": "the whole batch", "micro_batch": f"each micro-batch of {rows}", "sample": "each sample"}[zo.scope]


def _traffic(spec: RunSpec, model: SplitModel) -> Section:
    activations, labels = plan.activation_bytes(spec, model), plan.label_bytes(spec, model)
    tensors = plan.client_state(spec, model)
    state, a_round = plan.state_bytes(spec, tensors), plan.round_traffic(spec, model)

    def row(name: str, once: int | None, per_round: int) -> tuple[str, ...]:
        return name, bytes_text(once), bytes_text(per_round), bytes_text(per_round * spec.rounds)

    rows = [
        row("activations up", activations, a_round.activations_up),
        row("labels up", labels, a_round.labels_up),
        row("cut gradients down", activations, a_round.cut_gradients_down),
        row("client state up", state.up, a_round.client_state_up),
        row("client state down", state.down, a_round.client_state_down),
        row("all, as Heron charges", None, a_round.total),
        row("as the paper charges", None, paper_round_bytes(spec, model)),
    ]
    return Section(
        f"Payload between the server and the {plan.participants(spec)} clients of a round",
        [cells for cells in rows if cells[2] != bytes_text(0)],
        ("", "one transfer", "each round", "whole run"),
        [f"The client state: {_places(tensors)}.", PAPER_CHARGE[spec.method.name == "fedavg"],
         "Heron's ledger adds framing, heartbeats and calls as control, and evaluation by clients."],
    )  # fmt: skip


PLACES = {
    "averaged": "up, and down as the mean",
    "kept": "up, and down to the same client",
    "shared": "down only, the same for all",
    "own": "down only, another for each client",
}
PAPER_CHARGE = (
    "The paper charges activations, cut gradients, and the front's weights both ways; no head, buffers, labels or "
    "moments.",
    "The paper has no fedavg; charged as it would: the whole model's weights both ways.",
)


def _places(tensors: Sequence[plan.StateTensor]) -> str:
    """`3.05 MiB averaged (up, and down as the mean), ...`."""
    held = {place: sum(t.size_bytes for t in tensors if t.place == place) for place in PLACES}
    return ", ".join(f"{bytes_text(held[p])} {p} ({meaning})" for p, meaning in PLACES.items() if held[p])


def _server(spec: RunSpec, settings: ServerSettings, model: SplitModel, device: str, evaluator: str | None) -> Section:
    clients, uploads, step = spec.federation.clients, plan.uploads_per_round(spec), plan.upload_bytes(spec, model)
    drawn = plan.participants(spec)
    slots, steps = upload_slots(settings.byte_budget, step, drawn), drawn * uploads
    who = f"{clients} clients" if drawn == clients else f"{drawn} of {clients} clients, drawn anew for each"
    received = [
        ("uploads", f"{uploads} a client and round, every {_ordinal(spec.method.upload_period)}local step"),
        ("optimiser steps", f"{steps:,} a round, {steps * spec.rounds:,} in all, on {device}"),
        ("holds at most", f"{slots} whole uploads, {bytes_text(slots * step)} of a budget of "
                          f"{bytes_text(settings.byte_budget)}"),
        ("order of uploads", settings.order),
    ]  # fmt: skip
    return Section("Server", [
        ("rounds", f"{spec.rounds} of {spec.method.local_steps} local steps, {who} "
                   f"({spec.federation.min_clients} at least)"),
        *(received if uploads else [("uploads", f"none with {spec.method.name}")]),
        ("evaluation", evaluator or "none"),
    ])  # fmt: skip


def _memory(spec: RunSpec, settings: ServerSettings, model: SplitModel) -> Section:
    items = server_memory(spec, settings, model)
    limit = settings.memory_limit or machine_memory()
    rows = [(item.name, bytes_text(item.size_bytes), item.formula) for item in items]
    whose = "server.memory_limit" if settings.memory_limit else "this machine's memory"
    total = ("all", bytes_text(sum(item.size_bytes for item in items)), f"of {bytes_text(limit)}, {whose}")
    return Section("Server memory, counted: without Python, torch and the test set", [*rows, total])


def _data(spec: RunSpec, model: SplitModel, sizes: list[int], test: Source | None) -> Section:
    rows = [("source", spec.data.source if not sizes else f"{spec.data.source}, {spec.data.partition} partition")]
    if sizes:
        low, middle, high = (f"{n:,.0f}" for n in (min(sizes), median(sizes), max(sizes)))
        rows.append(("samples a client", f"smallest {low}, median {middle}, largest {high}"))
    if test is not None and model.classes:
        share = max(data.class_histogram(test.labels, model.classes)) / max(1, len(test))
        rows.append(("majority-class accuracy", f"{percent_text(share)} on what is evaluated"))
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


VALIDATION = "training samples set apart (data.validation):"


def _evaluator(spec: RunSpec, test: Source | None) -> str | None:
    """Who evaluates after each round; None: nobody."""
    if test is not None:
        return f"by the server, on {VALIDATION if spec.data.validation else 'its own'} {len(test):,} samples"
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
