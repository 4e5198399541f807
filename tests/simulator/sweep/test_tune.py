"""`heron-simulate --tune`: what it tries, on which samples, and what it makes of what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.errors import ConfigError, DataError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings, load_run_file
from heron_server.text.tables import plain_text
from heron_simulator.cli import simulate
from heron_simulator.settings import SimulateSettings
from heron_simulator.sweep import tune
from heron_simulator.sweep.figures import gather
from heron_simulator.sweep.job import perform
from heron_simulator.sweep.plan import Sweep
from heron_simulator.sweep.pool import job_of
from heron_simulator.sweep.store import Row, Store
from heron_simulator.sweep.tune import Wanted, choose, chosen_settings, plan, tuned

TEXT = """
name = "mine"
rounds = 1
[model]
name = "digits_cnn"
[method]
local_steps = 2
batch_size = 8
[method.optimizer]
lr = 0.02
[federation]
clients = 2
"""


def spec(**more: Any) -> RunSpec:
    return RunSpec.model_validate({"method": {"optimizer": {"lr": 0.01}}, **more})


def planned(run: RunSpec, **wanted: Any) -> Sweep:
    return plan(run, ServerSettings(), SimulateSettings(), (), Wanted(**wanted))


def test_the_run_its_control_and_those_compared_try_as_many_rates() -> None:
    found = planned(spec(), compare="sflv2", seeds=2)
    assert [(p.label, p.axes["lr"]) for p in found.points] == [
        (method, lr) for method, rates in (
            ("heron", tune.GRID), ("frozen", tune.GRID), ("sflv2", tune.GRID)
        ) for lr in rates
    ]  # fmt: skip
    for point in found.points:
        assert [run.spec.seed for run in point.runs] == [0, 1]
        run = point.runs[0].spec
        assert (run.method.name, run.data.validation) == (point.label, tune.VALIDATION)
        rates = run.method.optimizer.lr, run.server_optimizer.lr
        assert rates[run.method.name == "frozen"] == point.axes["lr"]
        assert run.method.name == "frozen" or run.server_optimizer.lr == spec().server_optimizer.lr


def test_the_files_own_rate_is_tried_too_and_its_own_share_is_kept() -> None:
    found = planned(spec(data={"validation": 0.3}, method={"optimizer": {"lr": 0.02}}))
    assert [p.axes["lr"] for p in found.points if p.label == "heron"] == sorted([*tune.GRID, 0.02])
    assert {run.spec.data.validation for run in found.runs.values()} == {0.3}


def test_a_frozen_run_is_its_own_control() -> None:
    assert {p.label for p in planned(spec(method={"name": "frozen"})).points} == {"frozen"}


def row(figure: float | None, **more: Any) -> Row:
    return {"metric": figure, "metric_name": "accuracy", "higher_is_better": 1, "accuracy": figure,
            "majority_accuracy": 0.1, "failed": "", **more}  # fmt: skip


def filled(sweep: Sweep, figures: dict[str, list[Row]]) -> dict[str, Row]:
    """Rows by fingerprint: each method's by rate, the same for all its seeds."""
    found: dict[str, Row] = {}
    for method, rows in figures.items():
        points = [p for p in sweep.points if p.label == method]
        found |= {run.fingerprint: each for p, each in zip(points, rows, strict=True) for run in p.runs}
    return found


def test_the_best_rate_of_each_method_is_chosen_and_what_failed_is_not(tmp_path: Path) -> None:
    run, sweep = spec(), planned(spec(), seeds=2)
    failed = row(0.99, failed="NaN")
    rows = filled(sweep, {
        "heron": [row(0.5), row(0.8), failed, row(None), row(0.7)],
        "frozen": [row(0.3), row(0.3), row(0.4), row(0.6), row(0.65)],
    })  # fmt: skip
    choices = choose(gather(sweep, rows))
    assert [(c.method, c.rate, c.at_edge) for c in choices] == [("heron", 0.003, False), ("frozen", 0.1, True)]
    text = plain_text([tuned(choices, gather(sweep, rows), run)])
    assert "heron           method.optimizer.lr = 0.003" in text and "80.0 ± 0.0 %" in text
    assert "majority class" in text and "10.0 ± 0.0 %" in text
    assert "frozen: its best rate is the last of the grid" in text
    assert "tune again with --set server_optimizer.lr=0.1" in text
    assert "no better than frozen" not in text

    path = tmp_path / "run.toml"
    path.write_text(chosen_settings(choices, run))
    assert load_run_file(path)[0].method.optimizer.lr == 0.003
    assert "# frozen: --set method.name=frozen --set server_optimizer.lr=0.1" in path.read_text()


@pytest.mark.parametrize(("higher", "said"), [(1, False), (0, True)])
def test_it_says_so_where_the_control_does_as_well(higher: int, said: bool) -> None:
    run, sweep = spec(), planned(spec())
    high, low = (row(figure, accuracy=None, metric_name="mae", higher_is_better=higher) for figure in (0.8, 0.2))
    found = gather(sweep, filled(sweep, {"heron": [high] * 5, "frozen": [low] * 5}))
    text = plain_text([tuned(choose(found), found, run)])
    assert ("no better than frozen" in text) is said
    assert "MAE" in text


def test_a_method_without_any_result_ends_it_with_the_reason() -> None:
    sweep = planned(spec())
    rows = filled(sweep, {"heron": [row(None, failed="no such data")] * 5, "frozen": [row(0.3)] * 5})
    with pytest.raises(DataError, match="no run of heron has a result: no such data"):
        choose(gather(sweep, rows))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process, and few of them."""

    def run_here(sweep: Sweep, store: Store, jobs: int | None) -> None:
        for fingerprint, run in sweep.runs.items():
            if not store.has(fingerprint):
                store.add(fingerprint, {**perform(json.loads(job_of(run))), "failed": ""})

    monkeypatch.setattr(tune, "run_missing", run_here)
    monkeypatch.setattr(tune, "GRID", (0.02,))


@pytest.mark.usefixtures("here")
def test_own_data_is_tuned_on_what_each_client_trains_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, data = np.random.default_rng(0), tmp_path / "pay $5"
    data.mkdir()
    for name in "ab":
        x, y = rng.normal(size=(50, 1, 8, 8)).astype(np.float32), np.arange(50) % 10
        np.savez(data / f"{name}.npz", x=x, y=y)
        (data / f"{name}.toml").write_text(f'name = "{name}"\n[data]\nsource = "npz"\npath = "{name}.npz"\n')
    run_file = tmp_path / "run.toml"
    run_file.write_text(TEXT + '[data]\nsource = "client"\n[server]\ntest_data = "npz"\ntest_path = "not-there.npz"\n')
    files = [data / "a.toml", data / "b.toml"]
    out = tmp_path / "out"
    simulate(run_file, tune=True, client_files=files, out=out)
    rows = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert [r["method"] for r in rows] == ["heron", "frozen", "frozen"]
    for found in rows:  # nothing is held out beside a test set of the server's; a fifth of 50: 10 of each client
        assert 20 * found["accuracy"] == pytest.approx(round(20 * found["accuracy"]), abs=1e-9)
    assert "method.optimizer.lr = 0.02" in capsys.readouterr().out
    assert (out / "chosen.toml").exists() and "frozen" in (out / "README.md").read_text()

    (out / "runs.jsonl").write_text("")
    simulate(run_file, tune=True, client_files=files, out=out)
    assert len((out / "runs.jsonl").read_text().splitlines()) == 3, "begins anew"
    simulate(run_file, tune=True, client_files=files, out=out, resume=True)
    assert len((out / "runs.jsonl").read_text().splitlines()) == 3, "nothing is missing"


def test_what_does_not_go_with_tune_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TEXT + '[data]\nsource = "client"\n')
    with pytest.raises(ConfigError, match=r"add --client CLIENT\.toml"):
        simulate(tmp_path / "run.toml", tune=True)
    with pytest.raises(ConfigError, match="--resume-after is for one run"):
        simulate(tmp_path / "run.toml", tune=True, resume_after=1)
    with pytest.raises(ConfigError, match="for one run"):
        simulate(sweep=tmp_path / "sweep.toml", tune=True)
