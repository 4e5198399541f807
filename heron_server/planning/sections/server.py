"""What the server does in a round, and the memory that it needs."""

from __future__ import annotations

from collections.abc import Sequence

from heron_core.graphs.graph_set import GraphSet
from heron_core.process.memory import total_memory, whose_memory
from heron_core.spec.methods import uploads_per_round
from heron_core.spec.optimizer import schedule_text
from heron_core.spec.run_spec import FederationSpec, RunSpec
from heron_server.aggregation.rules import RULES
from heron_server.config import ServerSettings
from heron_server.planning.checks import CheckedRun
from heron_server.planning.memory import Item
from heron_server.planning.traffic import transfer_of
from heron_server.text.tables import Section
from heron_server.text.units import bytes_text
from heron_server.uploads.turns import patience


def server_section(spec: RunSpec, settings: ServerSettings, checked: CheckedRun, evaluator: str | None) -> Section:
    """`evaluator`: who evaluates, in words; None where nobody does."""
    method, clients, drawn = spec.method, spec.federation.clients, spec.federation.participants
    uploads, upload_bytes = uploads_per_round(method), transfer_of(spec, checked.facts).upload
    steps, slots, decay = drawn * uploads, checked.slots, spec.averaged_back.decay
    who = f"{clients} clients" if drawn == clients else f"{drawn} of {clients} clients, drawn anew for each"
    received = [
        ("uploads", f"{uploads} a client and round, every {_ordinal(method.upload_period)}local step"),
        ("optimiser steps", f"{steps:,} a round, {steps * spec.rounds:,} in all, on {checked.device}"),
        ("its learning rate", schedule_text(spec.server_optimizer, "uploads a client")),
        *([("averaged back", f"evaluated and saved beside the trained one, decay {decay:g}")] if decay else []),
        ("holds at most", f"{slots} whole uploads, {bytes_text(slots * upload_bytes)} of a budget of "
                          f"{bytes_text(settings.byte_budget)}"),
        ("order of uploads", "one of each, mixed" if method.mixing else settings.order),
    ]  # fmt: skip
    return Section("Server", [
        ("rounds", f"{spec.rounds} of {method.local_steps} local steps, {who} "
                   f"({spec.federation.min_clients} at least)"),
        *(received if uploads else [("uploads", f"none with {method.name}")]),
        ("aggregation", _aggregation(spec.federation)),
        ("a slow client", str(patience(spec, settings))),
        ("evaluation", _evaluation(evaluator, spec.evaluate_every)),
        *_graphs(checked.graphs),
        *_checkpoints(settings.checkpoint_every),
    ])  # fmt: skip


def _evaluation(evaluator: str | None, every: int) -> str:
    rare = "" if every == 1 else f", after every {_ordinal(every)}round and the last"
    return f"{evaluator}{rare}" if evaluator else "none"


def _graphs(graphs: GraphSet | None) -> list[tuple[str, str]]:
    """What clients without torch get."""
    size = sum(file.nbytes for file in graphs.files().values()) if graphs else 0
    return [("graphs", f"{bytes_text(size)} for clients without torch, compared with torch here")] if graphs else []


def _checkpoints(every: int) -> list[tuple[str, str]]:
    """What rare ones cost."""
    if every == 1:
        return []
    lost = "the round before it" if every == 2 else f"up to {every - 1} rounds"
    return [("checkpoints", f"every {_ordinal(every)}round, after the last and at a stop; a kill -9 or a power cut "
                            f"takes back {lost}, which clients train and send again")]  # fmt: skip


def _aggregation(federation: FederationSpec) -> str:
    rule, hostile = federation.aggregation, federation.hostile
    needed = RULES[rule].fewest(hostile)
    step = federation.server_average
    then = "" if step.name == "plain" else f", then {step.name} at learning rate {step.rate:g}"
    return f"{rule}{f', bears {hostile} hostile clients with {needed} in a round or more' if hostile else ''}{then}"


def memory_section(items: Sequence[Item], memory_limit: int) -> Section:
    """`memory_limit`: 0 for the memory of this machine, or of its container."""
    rows = [(item.name, bytes_text(item.size_bytes), item.formula) for item in items]
    whose = "server.memory_limit" if memory_limit else f"{whose_memory()}'s memory"
    limit = bytes_text(memory_limit or total_memory())
    total = ("all", bytes_text(sum(item.size_bytes for item in items)), f"of {limit}, {whose}")
    return Section("Server memory, counted: without Python, torch and the test set", [*rows, total])


def _ordinal(number: int) -> str:
    """`5th `, or nothing for 1."""
    if number == 1:
        return ""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix} "
