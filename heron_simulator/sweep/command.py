"""`heron-simulate --sweep`: runs what is missing, then writes results.csv, the picture and the page."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from heron_core.errors import DataError
from heron_core.process.children import at_once
from heron_core.process.signals import stopping
from heron_server.display.report import MISSING_PLOTS
from heron_simulator.sweep.figures import Gathered, csv_rows, gather
from heron_simulator.sweep.page import command_of, page
from heron_simulator.sweep.plan import Run, Sweep, load_sweep
from heron_simulator.sweep.pool import Pool
from heron_simulator.sweep.progress import Progress
from heron_simulator.sweep.store import Store, write_csv

RESULTS = Path("docs/results")
PAGE_WITHIN_S = 20.0
"""After a signal: to draw the picture and write the page of what has finished."""


def run_sweep(path: Path, overrides: Sequence[str], out: Path | None = None, jobs: int | None = None) -> None:
    """Raises ConfigError before the first run, Interrupted after a signal, and DataError at the end where runs have
    failed."""
    sweep = load_sweep(path, list(overrides))
    runs = sweep.runs
    with closing(Store(out or RESULTS / sweep.name)) as store:
        try:
            run_missing(sweep, store, jobs)
        finally:  # after a signal too, the page shows the runs that have finished
            gathered = write(sweep, store, command_of(path, overrides))
        failed = [reason for g in gathered for reason in g.failed]
        print(f"{store.folder / 'README.md'}", flush=True)
    if failed:
        count = sum(bool(store.rows[key].get("failed")) for key in runs)
        raise DataError(f"{count} of {len(runs)} runs failed, the first: {failed[0]}; mend it and call again: what is "
                        "done stays done")  # fmt: skip


def run_missing(sweep: Sweep, store: Store, jobs: int | None = None) -> None:
    """Runs what the store does not have, so many at a time (None: by cores); raises Interrupted after a signal."""
    runs = sweep.runs
    missing = {key: run for key, run in runs.items() if not store.has(key)}
    names = {run.fingerprint: f"{point.name}, seed {run.spec.seed}" for point in sweep.points for run in point.runs}
    for point in sweep.points:
        for run in point.controls:
            names.setdefault(run.fingerprint, f"frozen control of {point.name}, seed {run.spec.seed}")
    with (
        Progress(sys.stdout, len(runs), len(runs) - len(missing)) as progress,
        Pool(jobs or default_jobs(runs.values())) as pool,
        stopping(pool.stop, PAGE_WITHIN_S),
    ):  # fmt: skip
        for fingerprint, row in pool.results(missing):
            store.add(fingerprint, row)
            progress.finished(names[fingerprint], row)


def default_jobs(runs: Iterable[Run]) -> int:
    """As many as the cores carry at the runs' compute threads."""
    return at_once(max((max(run.spec.threads.client, run.spec.threads.server) for run in runs), default=1))


def write(sweep: Sweep, store: Store, command: str) -> list[Gathered]:
    """Everything that is made of the rows."""
    gathered = gather(sweep, store.rows)
    write_csv(store.folder / "results.csv", csv_rows(sweep, store.rows))
    picture = _picture(sweep, store, gathered)
    (store.folder / "README.md").write_text(page(sweep, gathered, picture, command), encoding="utf-8")
    return gathered


def _picture(sweep: Sweep, store: Store, gathered: list[Gathered]) -> str | None:
    try:
        from heron_simulator.sweep.picture import draw
    except ImportError:
        print(MISSING_PLOTS.replace("curves.png", "picture"), file=sys.stderr)
        return None
    return draw(store.folder / f"{sweep.name}.png", sweep, gathered).name
