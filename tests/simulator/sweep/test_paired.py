"""What stands above the control, and how sure that is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from heron_core.errors import ConfigError
from heron_simulator.sweep.command import write
from heron_simulator.sweep.paired import Paired, share_text, text
from heron_simulator.sweep.plan import load_sweep
from heron_simulator.sweep.store import Store

TEXT = """
seeds = 3
ceiling = "first order"
[[variants]]
label = "heron"
[[variants]]
label = "first order"
set = { "method.name" = "cse_fsl" }
"""


def test_the_interval_is_students_over_the_seeds() -> None:
    found = Paired((0.01, 0.02, 0.03))
    assert found.half_width == pytest.approx(4.303 * 0.01 / 3**0.5)
    assert text(found) == "+2.0 (-0.5 to +4.5), 3 of 3"
    assert text(Paired((-0.5,))) == "-50.0, 0 of 1"
    assert text(None) == "-"


def test_a_loss_is_better_below_its_control_and_has_no_points(tmp_path: Path) -> None:
    path = tmp_path / "losses.toml"
    path.write_text(TEXT)
    sweep = load_sweep(path)
    loss = {"accuracy": None, "metric_name": "token_loss", "higher_is_better": 0, "failed": ""}
    with closing(Store(tmp_path / "out")) as store:
        for point, metric in zip(sweep.points, (1.5, 1.25), strict=True):
            for run, control in zip(point.runs, point.controls, strict=True):
                store.add(run.fingerprint, {**loss, "metric": metric})
                store.add(control.fingerprint, {**loss, "metric": 1.75})
        write(sweep, store, "...")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| frozen control | below it | of the way to the ceiling |" in page
    assert "| 1.75 | +0.250 (+0.250 to +0.250), 3 of 3 | 50 % |" in page
    assert "the mean difference, seed by seed" in page and "the run was below its control" in page


def test_a_share_of_a_gap_within_its_spread_says_so() -> None:
    assert share_text(Paired((0.01, 0.03)), Paired((0.04, 0.041))) == "49 %"
    assert share_text(Paired((0.01, 0.03)), Paired((0.09, -0.01))) == "50 %, of a gap under twice its spread"
    for ceiling in (Paired((-0.04, -0.04)), Paired((0.0, 0.0))):
        assert share_text(Paired((0.01, 0.03)), ceiling) == "the front does not matter"


def test_the_page_pairs_each_run_with_the_control_of_its_seed(tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    path.write_text(TEXT)
    sweep = load_sweep(path)
    with closing(Store(tmp_path / "out")) as store:
        for point, base in zip(sweep.points, (0.7, 0.9), strict=True):
            for seed, (run, control) in enumerate(zip(point.runs, point.controls, strict=True)):
                store.add(run.fingerprint, {"accuracy": base + 0.1 * seed / 10, "failed": ""})
                store.add(control.fingerprint, {"accuracy": 0.5 + 0.1 * seed / 10, "failed": ""})
        store.add(sweep.points[0].runs[1].fingerprint, {"failed": "no"})
        write(sweep, store, "...")
    lines = (tmp_path / "out" / "README.md").read_text().splitlines()
    assert any(line.startswith("| heron |") and "+20.0 (+20.0 to +20.0), 2 of 2 | 50 % |" in line for line in lines)
    assert any(line.startswith("| first order |") and "3 of 3 | 100 % |" in line for line in lines)


def test_a_ceiling_that_is_no_variant_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('ceiling = "central"\n')
    with pytest.raises(ConfigError, match='ceiling = "central" must be a variant\'s label'):
        load_sweep(path)
    path.write_text('control = "frozen"\n')
    with pytest.raises(ConfigError, match='control = "frozen" must be true, false or a variant\'s label'):
        load_sweep(path)


def test_one_variant_may_be_the_control_of_all(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    frozen = '[[variants]]\nlabel = "frozen"\nset = { "method.name" = "frozen" }\n[axes]\nrounds = [1, 2]\n'
    path.write_text(TEXT + frozen)
    path.write_text('control = "frozen"\n' + path.read_text())
    points = {point.name: point for point in load_sweep(path).points}
    assert points["heron, rounds = 2"].controls == points["frozen, rounds = 2"].runs
    assert points["first order, rounds = 1"].controls == points["frozen, rounds = 1"].runs
    assert not points["frozen, rounds = 1"].controls
    assert len(load_sweep(path).runs) == 3 * 2 * 3
