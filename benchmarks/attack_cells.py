"""The cells of the table of attacks: their settings, their order, and how one is run."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hostile_clients import PLACES, TWISTS, Plot, Stalled, around

Row = dict[str, object]
Tables = dict[str, Any]

PARTS = ("task", "partition", "rule", "allowed", "attack", "hostile", "seed")
"""Of a cell: what a result says of it."""
CLIENTS, TAIL = 10, 3
"""Clients of each run; accuracy is the mean over the last TAIL rounds."""
SAMPLES = {"train": 2000, "test": 500}
"""Of CIFAR-10: the first of each half, which `--prepare` writes."""
ZO = {"scope": "micro_batch", "distribution": "rademacher", "mu": 1e-2}
METHOD = {"name": "heron", "local_steps": 3, "batch_size": 32, "moments": "averaged", "auxiliary_update": "first_order"}
TASKS: dict[str, Tables] = {
    "digits": {
        "rounds": 40,
        "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [16, 32], "cut": "hidden1"},
        "data": {"source": "digits"},
        "method": {**METHOD, "micro_batch": 16, "zo": ZO, "optimizer": {"lr": 2e-2}},
        "server_optimizer": {"lr": 1e-2},
    },
    "cifar": {
        "rounds": 15,
        "model": {"name": "cifar_cnn", "widths": [4, 8, 16], "cut": "conv2"},
        "data": {"source": "cifar10", "train_limit": SAMPLES["train"], "test_limit": 400},
        "method": {**METHOD, "micro_batch": 16, "zo": ZO, "optimizer": {"lr": 2e-2}},
        "server_optimizer": {"lr": 1e-2},
    },
}
PARTITIONS: dict[str, Tables] = {"iid": {"partition": "iid"}, "dirichlet": {"partition": "dirichlet", "alpha": 0.5}}
NEEDS = {"uniform": (0, 1), "samples": (0, 1), "median": (2, 1), "trimmed_mean": (2, 1), "krum": (2, 3),
         "multi_krum": (2, 3), "geometric_median": (2, 1), "nearest_mixing": (2, 1), "norm_clipping": (2, 1),
         "bulyan": (4, 3)}  # fmt: skip
"""n >= a f + b of each rule, as `heron-server validate` asks."""
ASKS_F = ("trimmed_mean", "krum", "multi_krum", "nearest_mixing", "bulyan")
"""Rules whose result without hostile clients depends on how many there may be."""
UNDEFENDED = ("uniform", "samples", "frozen")
"""No rule that bears hostile clients, and no guard of the back; all others have GUARD."""
CANDIDATES = ("nearest_mixing", "trimmed_mean", "norm_clipping", "geometric_median", "multi_krum", "median")
"""For the recommended setting; the page says which it is."""
GUARD = {"clip_gradient": 5.0, "loss_outlier": 6.0}
UPDATE_ATTACKS = ("sign_flip", "scaled", "noise", "inner_product")
UPLOAD_ATTACKS = ("label_flip", "activations")
FORBIDDEN = ("replay", "impersonation")
"""Nothing that a member may send: refused, with every rule alike."""
ATTACKS = (*UPDATE_ATTACKS, *UPLOAD_ATTACKS, "nan", *FORBIDDEN)
MOST_SECONDS = 120
"""Of one cell; a longer one counts as stalled."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    partition: str
    rule: str
    """Of federation.aggregation; or `frozen`, the control whose client never learns."""
    allowed: int
    """federation.hostile."""
    attack: str
    hostile: int
    seed: int
    short: bool = False

    @property
    def name(self) -> str:
        """Its parts, for people and `--only`."""
        parts = (self.task, self.partition, self.rule, f"f{self.allowed}", self.attack, f"h{self.hostile}")
        return "/".join((*parts, f"s{self.seed}", *(["short"] if self.short else [])))

    @property
    def tables(self) -> Tables:
        """The run's settings."""
        task = TASKS[self.task]
        rule = "uniform" if self.rule == "frozen" else self.rule
        each, more = NEEDS[rule]
        method = task["method"] if self.rule != "frozen" else {k: METHOD[k] for k in ("local_steps", "batch_size")}
        federation = {"clients": CLIENTS, "aggregation": rule, "hostile": self.allowed,
                      "min_clients": min(CLIENTS, each * self.allowed + more)}  # fmt: skip
        tables = {**task, "seed": self.seed, "data": {**task["data"], **PARTITIONS[self.partition]},
                  "method": {**method, "name": "frozen" if self.rule == "frozen" else "heron"},
                  "federation": federation, "guard": {} if self.rule in UNDEFENDED else GUARD}  # fmt: skip
        return {**tables, "rounds": 2, "method": {**tables["method"], "local_steps": 1}} if self.short else tables

    @property
    def settings(self) -> str:
        """A fingerprint: a result of other settings is not this cell's."""
        parts = [self.tables, self.attack, TWISTS.get(self.attack), self.hostile]
        if self.rule == "geometric_median" and self.attack in UPDATE_ATTACKS:
            parts.append("moments within reach")  # a result from before is another rule's
        said = json.dumps(parts, sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()


def honest_cell(cell: Cell) -> Cell:
    """The same setting and seed without hostile clients."""
    allowed = cell.allowed if cell.rule in ASKS_F else _allowed(cell.rule, 3)
    return Cell(cell.task, cell.partition, cell.rule, allowed, "none", 0, cell.seed, cell.short)


def cells(seeds: int = 5, *, short: bool = False) -> Iterator[Cell]:
    """Every cell once, by importance: what the promise is about, its controls, Dirichlet, then the other rules."""
    if short:
        for attack, hostile in (("none", 0), ("replay", 3), ("impersonation", 3), ("scaled", 3), ("nan", 3)):
            yield Cell("digits", "iid", "trimmed_mean", 3, attack, hostile, 0, short)
        return
    seen = set()
    for order in _ORDER:
        for seed in range(1, seeds + 1):  # seed 0 is what the tasks were chosen by
            for rule, partition, attack, hostile in order():
                for task in TASKS:
                    wanted = Cell(task, partition, rule, _allowed(rule, hostile), attack, hostile, seed)
                    for cell in _with_control(wanted):
                        if cell.name not in seen:
                            seen.add(cell.name)
                            yield cell


def _allowed(rule: str, hostile: int) -> int:
    return 0 if rule in UNDEFENDED else hostile


def _with_control(cell: Cell) -> Iterator[Cell]:
    yield honest_cell(cell)
    if cell.hostile:
        yield cell


Some = Iterator[tuple[str, str, str, int]]


def _promise() -> Some:
    for rule in (*CANDIDATES, "uniform"):
        for attack in UPDATE_ATTACKS:
            yield rule, "iid", attack, 3
    yield "frozen", "iid", "none", 0


def _refused() -> Some:
    """By a rule's own condition on the number of clients, before anybody joins; and messages of no member."""
    for partition in PARTITIONS:
        yield "bulyan", partition, "sign_flip", 3
    for rule in ("trimmed_mean", "uniform"):
        for attack in FORBIDDEN:
            yield rule, "iid", attack, 3


def _beside() -> Some:
    """Uploads, and skewed data."""
    for rule in (*CANDIDATES, "uniform"):
        for attack in (*UPLOAD_ATTACKS, "nan"):
            yield rule, "iid", attack, 3
    yield "frozen", "dirichlet", "none", 0
    for rule in (*CANDIDATES, "uniform"):
        for attack in (*UPDATE_ATTACKS, *UPLOAD_ATTACKS, "nan"):
            yield rule, "dirichlet", attack, 3


def _rules(hostile: int) -> Some:
    for partition in PARTITIONS:
        for rule in NEEDS:
            for attack in (*UPDATE_ATTACKS, *UPLOAD_ATTACKS, "nan"):
                if (rule, hostile) != ("bulyan", 3):
                    yield rule, partition, attack, hostile


def _forbidden() -> Some:
    for partition in PARTITIONS:
        for rule in ("trimmed_mean", "uniform"):
            for attack in FORBIDDEN:
                for hostile in (1, 3):
                    yield rule, partition, attack, hostile


_ORDER = (_promise, _refused, _beside, lambda: _rules(3), _forbidden, lambda: _rules(1))


# -- running one -------------------------------------------------------------------------------------------------------


def run_cell(cell: Cell) -> Row:
    """Its line in the results."""
    began, plot = time.process_time(), Plot(cell.seed, hostile=PLACES[cell.hostile], clients=CLIENTS)
    try:
        with _at_most(MOST_SECONDS):
            found = _simulated(cell, plot)
    except Stalled as error:
        found = {"outcome": "stalled", "reason": str(error)}
    except Exception as error:
        found = {"outcome": "refused" if type(error).__name__ == "ConfigError" else "failed", "reason": str(error)}
    return {"name": cell.name, **{part: getattr(cell, part) for part in PARTS},
            "settings": cell.settings, "accuracy": None, **found,
            "messages_refused": plot.refused, "messages_accepted": plot.accepted,
            "seconds": round(time.process_time() - began, 2)}  # fmt: skip


def _simulated(cell: Cell, plot: Plot) -> Row:
    from heron_core.spec.run_spec import RunSpec
    from heron_simulator.simulator import simulate

    summary = simulate(RunSpec.model_validate(cell.tables), around=around(cell.attack, plot)).summary
    history = summary["history"]
    curve = [record["accuracy"] or 0.0 for record in history]
    tail = curve[-TAIL:]
    return {"outcome": "ended", "accuracy": round(sum(tail) / len(tail), 5), "last": curve[-1],
            "majority": summary["majority_accuracy"], "model_sha256": summary["model_sha256"],
            "dropped": sum(r["dropped"] for r in history),
            "quarantined": sum(r["quarantined"] for r in history)}  # fmt: skip


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stalled(f"not over after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
