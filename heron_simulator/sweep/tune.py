"""`heron-simulate --tune RUN.toml`: learning rates by a grid, for the run's method, those compared and the control.

Every method gets as many tries, the control at the server's rate. What is tried is judged on training samples set apart
(data.validation): the test set, and what clients hold out of their own data, are left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from heron_client.config import ClientSettings
from heron_core.config import load_tables, validate
from heron_core.errors import ConfigError, DataError
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import as_method
from heron_server.beside import methods_beside
from heron_server.config import ServerSettings, load_run_file
from heron_server.control import CONTROL
from heron_server.planning.checks import check_run
from heron_server.storage.run_dir import run_dir_of
from heron_server.text.tables import Section, print_sections
from heron_simulator.settings import SimulateSettings, load_simulate_settings
from heron_simulator.simulator import with_clients
from heron_simulator.sweep.command import run_missing, write
from heron_simulator.sweep.figures import Gathered, headline
from heron_simulator.sweep.file import SweepFile, Tables, Variant, expanded, merged
from heron_simulator.sweep.page import spread_text
from heron_simulator.sweep.plan import Point, Run, Sweep
from heron_simulator.sweep.store import Store

GRID = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Learning rates that every method tries, beside the one that its file says."""
VALIDATION = 0.2
"""Share of the training samples set apart, where the run file names none."""
CHOSEN = "chosen.toml"


@dataclass(frozen=True)
class Wanted:
    """What the command line says beside the run file."""

    overrides: Sequence[str] = ()
    clients: int | None = None
    client_files: Sequence[Path] = ()
    compare: str = ""
    seeds: int = 1
    jobs: int | None = None
    out: Path | None = None
    resume: bool = False
    """Go on with what an earlier call has found; its data must still be the same."""


@dataclass(frozen=True)
class Choice:
    """The best of one method's grid."""

    method: str
    best: Gathered
    at_edge: bool
    """Is it the smallest or the largest rate of the grid?"""

    @property
    def rate(self) -> JsonValue:
        return self.best.point.axes["lr"]

    @property
    def figure(self) -> float:
        return mean_of(self.best)


def run_tune(run_file: Path, wanted: Wanted) -> None:
    """Tries what is missing, prints the table and writes chosen.toml; raises ConfigError before the first run, and
    DataError where no run of a method came to an end."""
    spec, settings = load_run_file(run_file, list(wanted.overrides))
    spec = spec if wanted.clients is None else with_clients(spec, wanted.clients)
    clients: tuple[Tables, ...] = tuple(load_tables(ClientSettings, path) for path in wanted.client_files)
    if spec.data.source == "client" and not clients:
        raise ConfigError('data.source = "client": --tune needs the clients\' data; add --client CLIENT.toml')
    sweep = plan(spec, settings, load_simulate_settings(run_file, wanted.overrides), clients, wanted)
    folder = run_dir_of(spec, settings)
    with closing(Store(wanted.out or folder.with_name(f"{folder.name}-tune"), fresh=not wanted.resume)) as store:
        try:
            run_missing(sweep, store, wanted.jobs)
        finally:  # after a signal too, the page shows the runs that have finished
            gathered = write(sweep, store, f"heron-simulate --tune {run_file.name}")
        choices = choose(gathered)
        print_sections([tuned(choices, gathered, spec)], sys.stdout)
        snippet = chosen_settings(choices, spec)
        (store.folder / CHOSEN).write_text(snippet, encoding="utf-8")
        print(f"\n{snippet}\nwritten to {store.folder / CHOSEN}; every run is in {store.folder / 'README.md'}")


def plan(
    spec: RunSpec, settings: ServerSettings, simulate: SimulateSettings, clients: tuple[Tables, ...], wanted: Wanted
) -> Sweep:
    """A point for each method and rate; raises what would refuse one of the methods."""
    own = spec.method.name
    methods = list(dict.fromkeys([own, *methods_beside(spec, own != CONTROL, wanted.compare)]))
    server = settings.model_copy(update={"test_data": "auto", "test_path": None, "test_options": {}})
    points = []
    for method in methods:
        base = as_method(spec, method).model_dump()
        base["data"]["validation"] = spec.data.validation or VALIDATION
        rates = sorted({*GRID, rate_of(spec, method)})
        for rate in rates:
            seeded = [{"seed": spec.seed + i, **expanded({key_of(method): rate})} for i in range(wanted.seeds)]
            specs = [validate(RunSpec, merged(base, each), f"the run with {method}") for each in seeded]
            points.append(Point(method, {"lr": rate}, [Run(each, server, simulate, clients) for each in specs]))
        check_run(points[-1].runs[0].spec, server)
    file = SweepFile(
        title=f"Learning rates of {spec.name}", seeds=wanted.seeds, control=False, axes={"lr": GRID}, log_x=True,
        question=f"Which learning rate is best for each method: that of its clients, and for {CONTROL} the server's?",
        variants=tuple(Variant(label=method) for method in methods), columns=("auxiliary_accuracy",),
    )  # fmt: skip
    return Sweep(f"{spec.name}-tune", file, points)


def key_of(method: str) -> str:
    """The setting that is tuned: where clients never train, the server's rate."""
    return "server_optimizer.lr" if method == CONTROL else "method.optimizer.lr"


def rate_of(spec: RunSpec, method: str) -> float:
    """What the run's file says of it."""
    return spec.server_optimizer.lr if method == CONTROL else spec.method.optimizer.lr


def mean_of(g: Gathered) -> float:
    """Of the figure that judges the runs; NaN where it is not known, or one of the runs has failed."""
    spread = g.spread("metric")
    return float("nan") if spread is None or g.failed else spread.mean


def is_higher_better(gathered: Sequence[Gathered]) -> bool:
    return any(row.get("higher_is_better") for g in gathered for row in g.rows)


def choose(gathered: Sequence[Gathered]) -> list[Choice]:
    """The best rate of each method, the smaller of equals. DataError: none of a method's runs came to an end."""
    by_method: dict[str, list[Gathered]] = {}
    for g in gathered:
        by_method.setdefault(g.point.label, []).append(g)
    return [_best(method, tried, -1.0 if is_higher_better(gathered) else 1.0) for method, tried in by_method.items()]


def _best(method: str, tried: Sequence[Gathered], sign: float) -> Choice:
    known = [g for g in tried if mean_of(g) == mean_of(g)]
    if not known:
        reason = next((reason for g in tried for reason in g.failed), "the figure that judges them is not a number")
        raise DataError(f"no run of {method} has a result: {reason}; mend that, or leave {method} out")
    best = min(known, key=lambda g: sign * mean_of(g))
    return Choice(method, best, best in (tried[0], tried[-1]))


def tuned(choices: Sequence[Choice], gathered: Sequence[Gathered], spec: RunSpec) -> Section:
    """Each method at its best rate, the majority class, and what to make of it."""
    column, figure = headline(gathered)
    rows = [[c.method, f"{key_of(c.method)} = {c.rate}", spread_text(column, c.best.spread(column))] for c in choices]
    majority = choices[0].best.spread("majority_accuracy")
    if majority is not None:
        rows.append(["majority class", "", spread_text("majority_accuracy", majority)])
    share = spec.data.validation or VALIDATION
    seeds = len(choices[0].best.point.runs)
    over = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed (--seeds 3 shows a spread)"
    where = f"on {share:.0%} of the training samples, set apart by the run's seed; {over}"
    text = [where, *_remarks(choices, is_higher_better(gathered), spec.server_optimizer.lr)]
    return Section("Tuned", rows, ("method", "best of the grid", figure), text)


def _remarks(choices: Sequence[Choice], higher_is_better: bool, server_lr: float) -> list[str]:
    """In sentences: which grid was too small, and whether training the clients was worth it."""
    remarks = [f"{c.method}: its best rate is the last of the grid; try beyond it" for c in choices if c.at_edge]
    own, control = choices[0], next((c for c in choices if c.method == CONTROL), None)
    sign = 1.0 if higher_is_better else -1.0
    if control is not None and own is not control and control.rate != server_lr:
        remarks.append(
            f"the others ran with the file's server_optimizer.lr = {server_lr:g}, which is not the best for {CONTROL}: "
            f"to compare, tune again with --set server_optimizer.lr={control.rate}"
        )
    if control is not None and own is not control and sign * own.figure <= sign * control.figure:
        remarks.append(
            f"{own.method} is no better than {CONTROL}: on this data clients that never train do as well. A narrower "
            "cut or a longer run may show more"
        )
    return remarks


def chosen_settings(choices: Sequence[Choice], spec: RunSpec) -> str:
    """TOML to lay over the run file; how to run the others, as comments."""
    own, *others = choices
    lines = [f"# Chosen by heron-simulate --tune on training samples of {spec.name} set apart."]
    lines += [f"# {c.method}: --set method.name={c.method} --set {key_of(c.method)}={c.rate}" for c in others]
    table, _, key = key_of(own.method).rpartition(".")
    return "\n".join([*lines, f"[{table}]", f"{key} = {own.rate}"]) + "\n"
