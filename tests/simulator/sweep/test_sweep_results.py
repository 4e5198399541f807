"""From rows to results.csv, picture and page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from heron_core.errors import ConfigError, RunDirectoryBusy
from heron_core.version import __version__
from heron_simulator.sweep.command import write
from heron_simulator.sweep.figures import Gathered, csv_rows, gather, spread_of
from heron_simulator.sweep.page import command_of
from heron_simulator.sweep.picture import _curves
from heron_simulator.sweep.plan import Sweep, load_sweep
from heron_simulator.sweep.pool import without_machine
from heron_simulator.sweep.store import Row, Store, read_csv, write_csv

TEXT = """
title = "Length | of mu"
question = "Does mu matter?"
seeds = 2
metrics = ["accuracy", "bytes_per_round"]
[run]
rounds = 4
[axes]
"method.zo.mu" = [1e-3, 1e-2]
"""


def row(accuracy: float) -> dict[str, Any]:
    return {
        "method": "heron", "accuracy": accuracy, "auxiliary_accuracy": None, "majority_accuracy": 0.1,
        "bytes_per_round": 2048.0, "messages_per_round": 44.5, "accuracy_by_round": f"0.1 {accuracy}", "failed": "",
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "out")) as store:
        yield store


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    path = tmp_path / "mu.toml"
    path.write_text(TEXT)
    return load_sweep(path)


def fill(sweep: Sweep, store: Store) -> None:
    for point, base in zip(sweep.points, (0.8, 0.9), strict=True):
        for i, (run, control) in enumerate(zip(point.runs, point.controls, strict=True)):
            store.add(run.fingerprint, row(base + 0.02 * i))
            store.add(control.fingerprint, row(0.5 + 0.1 * i))


def test_page_has_question_spread_control_majority_command_and_version(
    sweep: Sweep, store: Store, tmp_path: Path
) -> None:
    fill(sweep, store)
    write(sweep, store, "heron-simulate --sweep mu.toml")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Does mu matter?" in page
    assert "| 0.001 | 81.0 ± 1.4 % | 55.0 ± 7.1 % | +26.0 (-24.8 to +76.8), 2 of 2 | 10.0 ± 0.0 % | - |" in page
    assert "| 0.01 | 91.0 ± 1.4 % | 55.0 ± 7.1 % |" in page
    assert f"heron-simulate --sweep mu.toml\n```\n\nHeron {__version__}" in page
    assert "rounds = 4" in page
    assert "missing" not in page
    assert str(tmp_path) not in page
    assert (tmp_path / "out" / "mu.png").read_bytes().startswith(b"\x89PNG")


def test_page_says_what_is_missing_and_what_failed(sweep: Sweep, store: Store, tmp_path: Path) -> None:
    store.add(sweep.points[1].runs[0].fingerprint, {"failed": "data.alpha leaves a client empty"})
    write(sweep, store, "...")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "5 runs are missing" in page
    assert "- heron, mu = 0.01: data.alpha leaves a client empty" in page


def test_csv_has_a_row_for_every_run_and_comes_back_as_it_was(sweep: Sweep, store: Store, tmp_path: Path) -> None:
    fill(sweep, store)
    rows = list(csv_rows(sweep, store.rows))
    write_csv(tmp_path / "a.csv", rows)
    back = read_csv(tmp_path / "a.csv")
    assert len(back) == 6
    assert [r["accuracy"] for r in back] == [r["accuracy"] for r in rows]
    assert [r["method.zo.mu"] for r in back if not r["control"]] == ["0.001", "0.01", "0.001", "0.01"]
    assert [r["method.zo.mu"] for r in back if r["control"]] == ["", ""], "the control is the same for both"
    assert back[0]["auxiliary_accuracy"] is None
    write_csv(tmp_path / "b.csv", back)
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        store.add("a", row(0.5))
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"fingerprint": "b", "accu')
    with closing(Store(tmp_path)) as again:
        assert (again.has("a"), again.has("b")) == (True, False)
        again.add("c", row(0.6))
    with closing(Store(tmp_path)) as third:
        assert set(third.rows) == {"a", "c"}


def test_a_failed_run_is_not_done(store: Store) -> None:
    store.add("a", {"failed": "no"})
    assert not store.has("a")


def test_a_second_sweep_in_the_same_folder_is_refused(store: Store) -> None:
    with pytest.raises(RunDirectoryBusy, match="another sweep works in"):
        Store(store.folder)


def test_spread_is_the_sample_standard_deviation_of_known_figures() -> None:
    rows = [{"accuracy": value} for value in (0.1, 0.3, None, float("nan"))]
    found = spread_of(rows, "accuracy")
    assert found is not None
    assert (found.mean, found.deviation, found.seeds) == (pytest.approx(0.2), pytest.approx(0.02**0.5), 2)
    assert spread_of([{"accuracy": None}], "accuracy") is None


def test_points_are_drawn_over_any_kind_of_axis(tmp_path: Path) -> None:
    for x in ("label", "round", "bytes", "model.cut", "bytes_per_round"):
        path = tmp_path / f"{x.replace('.', '-')}.toml"
        path.write_text(f'x = "{x}"\nseeds = 1\n[[variants]]\nlabel = "one"\n[[variants]]\nlabel = "two"\n'
                        'set = {"model.cut" = "conv1"}\n')  # fmt: skip
        sweep = load_sweep(path)
        with closing(Store(tmp_path / path.stem)) as store:
            for run in sweep.runs.values():
                store.add(run.fingerprint, row(0.7))
            write(sweep, store, "...")
            assert (store.folder / f"{path.stem}.png").exists()
            assert not any(g.missing for g in gather(sweep, store.rows))


def test_neither_command_nor_reason_names_a_place_of_this_machine(tmp_path: Path) -> None:
    assert command_of(Path("sweeps/mu.toml"), ["seeds=5"]).endswith("--sweep sweeps/mu.toml --set 'seeds=5'")
    assert str(tmp_path) not in command_of(tmp_path / "mu.toml", [])
    assert without_machine(f"not in {Path.home()}/x nor in {tmp_path}/y", tmp_path) == "not in ~/x nor in <run>/y"


def test_accuracy_over_rounds_and_bytes_is_drawn_of_those_that_were_evaluated(sweep: Sweep) -> None:
    point: Any = SimpleNamespace(name="each third")
    rows: list[Row] = [
        {"accuracy_by_round": f"None None {a} None None {a} None", "bytes_by_round": f"1 2 {100 * a} 4 5 6 7"}
        for a in (0.5, 0.7)
    ]
    for x, places in (("round", [3, 6]), ("bytes", [60, 6])):
        axes = Figure().subplots()
        drawn = replace(sweep, file=sweep.file.model_copy(update={"x": x}))
        _curves(axes, drawn, [Gathered(point, rows, [{"accuracy_by_round": "None None"}], [], [], frozenset())])
        (line,) = axes.get_lines()
        assert list(line.get_xdata()) == places and list(line.get_ydata()) == [pytest.approx(0.6)] * 2


def test_bytes_to_the_targets_accuracy_are_those_of_the_first_round_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "to.toml"
    path.write_text('control = "slow"\ntarget = "slow"\ncolumns = ["bytes_to_target"]\nseeds = 2\n'
                    '[[variants]]\nlabel = "slow"\n[[variants]]\nlabel = "fast"\n'
                    'set = {"model.cut" = "conv1"}\n[[variants]]\nlabel = "never"\n'
                    'set = {"model.cut" = "conv2"}\n')  # fmt: skip
    sweep = load_sweep(path)
    curves = {"slow": ["0.2 None 0.6", "0.2 None 0.5"], "fast": ["0.7 0.8 0.7", "0.1 0.2 0.3"], "never": ["0 0 0"] * 2}
    with closing(Store(tmp_path / "out")) as store:
        for point in sweep.points:
            for run, curve in zip(point.runs, curves[point.label], strict=True):
                at_the_end = float(curve.split()[-1])
                store.add(run.fingerprint, {
                    **row(at_the_end), "accuracy_by_round": curve, "bytes_by_round": "1024 2048 3072",
                })  # fmt: skip
        write(sweep, store, "...")
        page = (store.folder / "README.md").read_text()
    assert "|  | accuracy | slow | above it |" in page and "clients that never train" not in page
    assert "| slow | 55.0 ± 7.1 % | is one | - | 10.0 ± 0.0 % | 3.00 KiB |" in page
    assert "10.0 ± 0.0 % | 1.00 KiB (1 of 2 seeds) |" in page and "10.0 ± 0.0 % | not reached |" in page
    assert "after its last round, seed by seed" in page


@pytest.mark.parametrize(("line", "says"), [
    ('target = "other"', "target"), ('columns = ["bytes_to_target"]', "needs target"),
])  # fmt: skip
def test_a_target_that_is_no_variant_is_refused(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "to.toml"
    path.write_text(f'{line}\n[[variants]]\nlabel = "one"\n')
    with pytest.raises(ConfigError, match=says):
        load_sweep(path)
