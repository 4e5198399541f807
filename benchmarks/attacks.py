"""The table of attacks: what hostile clients cost, by aggregation rule, attack, data and number of them.

    python benchmarks/attacks.py --prepare FOLDER              # the data of all cells, 8 MB, for a machine without it
    python benchmarks/attacks.py --jobs 16 --out attacks.jsonl # every cell; again: those that are missing
    python benchmarks/attacks.py --out attacks.jsonl --render docs/results/robustness.md

A cell is one simulated run of ten clients with a thread of its own. The most important come first, so that a time limit
leaves a usable table. `--only` takes words of a cell's name, such as `--only digits iid krum`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_threads] = "1"  # before NumPy or torch is loaded, here and in every worker
BENCHMARKS = Path(__file__).resolve().parent
sys.path[:0] = [str(place) for place in (BENCHMARKS, BENCHMARKS.parent) if str(place) not in sys.path]

from attack_cells import SAMPLES, Cell, cells, run_cell  # noqa: E402

Row = dict[str, object]
PARTS = ("x_train", "y_train", "x_test", "y_test")


def read(out: Path) -> dict[str, Row]:
    """Results by the names of their cells; a line that was cut short is none."""
    found: dict[str, Row] = {}
    for line in out.read_text(encoding="utf-8").splitlines() if out.is_file() else ():
        try:
            row = json.loads(line)
            found[row["name"]] = row
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return found


def run(todo: Iterable[Cell], out: Path, jobs: int, time_limit_s: float, data: str) -> int:
    """Runs them in order, `jobs` at a time, and appends a line for each; starts none after the limit. How many ran."""
    left, running, done = iter(todo), set[Future[Row]](), 0
    began = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=use_data, initargs=(data,))
    with pool, out.open("a", encoding="utf-8") as file:
        while True:
            while len(running) < jobs + 2 and time.monotonic() - began < time_limit_s:
                cell = next(left, None)
                if cell is None:
                    break
                running.add(pool.submit(run_cell, cell))
            if not running:
                return done
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                row = future.result()
                file.write(json.dumps(row) + "\n")
                file.flush()
                done += 1
                print(f"{time.monotonic() - began:7.1f} s  {done:5}  {row['seconds']:5.1f} s  {row['name']}  "
                      f"{row['accuracy']} {row['outcome']}", flush=True)  # fmt: skip


def use_data(folder: str) -> None:
    """In each worker: where the data lies. scikit-learn's digits are read from there if it is not installed."""
    logging.disable(logging.CRITICAL)  # what hostile clients are told fills screens
    from importlib.util import find_spec

    os.environ["HERON_DATA"] = folder
    os.environ.setdefault("XDG_CACHE_HOME", str(Path(folder) / "cache") if os.access(folder, os.W_OK) else "/tmp")
    if find_spec("sklearn") is None:
        sys.path.append(folder)


def prepare(folder: Path, origin: Path) -> None:
    """Writes what the cells read: the first samples of CIFAR-10, and scikit-learn's file of digits."""
    import shutil
    from importlib.util import find_spec

    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    npz = next(p for p in (origin / "cifar10.npz", origin / "cifar10" / "cifar10.npz") if p.is_file())
    with np.load(npz) as held:
        np.savez(folder / "cifar10.npz", **{part: held[part][: SAMPLES[part[2:]]] for part in PARTS})
    spec = find_spec("sklearn")
    assert spec is not None and spec.submodule_search_locations, "the digits come from scikit-learn; install it"
    place = Path("datasets", "data", "digits.csv.gz")
    (folder / "sklearn" / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(spec.submodule_search_locations[0]) / place, folder / "sklearn" / place)
    print(f"{sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 1e6:.1f} MB in {folder}")


def wanted(only: list[str], short: bool, seeds: int) -> Iterator[Cell]:
    """The cells, most important first, whose names have all of the words."""
    for cell in cells(seeds, short=short):
        if all(word in cell.name.split("/") for word in only):
            yield cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("attacks.jsonl"), help="results, a line a cell")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds after which no cell starts")
    parser.add_argument("--only", nargs="*", default=[], help="words that a cell's name must have")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", default=os.environ.get("HERON_DATA", ""), help="default: $HERON_DATA")
    parser.add_argument("--short", action="store_true", help="a few cells of two rounds")
    parser.add_argument("--list", action="store_true", help="the names of the cells, and no more")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER")
    parser.add_argument("--render", type=Path, metavar="PAGE.md")
    given = parser.parse_args()
    if given.prepare:
        prepare(given.prepare, Path(given.data))
        return
    todo, rows = list(wanted(given.only, given.short, given.seeds)), read(given.out)
    if given.list:
        print("\n".join(cell.name for cell in todo))
        return
    if given.render:
        from attack_table import page

        given.render.write_text(page(rows.values()), encoding="utf-8")
        print(f"{len(rows)} cells in {given.render}")
        return
    missing = [cell for cell in todo if rows.get(cell.name, {}).get("settings") != cell.settings]
    print(f"{len(missing)} of {len(todo)} cells to run, {given.jobs} at a time", flush=True)
    done = run(missing, given.out, given.jobs, given.time_limit, given.data)
    print(f"{done} done, {len(missing) - done} left", flush=True)


if __name__ == "__main__":
    main()
