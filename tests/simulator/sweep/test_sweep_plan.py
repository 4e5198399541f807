"""What a sweep file comes to: points, seeds, controls, and every file in benchmarks/sweeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_language import write_decoder

from heron_core.errors import ConfigError, DataError
from heron_core.models import build_split_model
from heron_core.models.saved import save_model
from heron_core.models.weights import weights_folder
from heron_core.spec.run_spec import ModelSpec
from heron_server.planning.checks import check_run, load_test
from heron_server.planning.constraints.check import check_constraints
from heron_server.planning.measuring import measure_model
from heron_simulator.sweep.plan import Run, Sweep, load_sweep

SWEEPS = Path(__file__).parents[3] / "benchmarks" / "sweeps"
LANGUAGE = sorted(SWEEPS.glob("language_*.toml"))
FILES = sorted({*SWEEPS.glob("*.toml")} - {*LANGUAGE})
AXIS = '[axes]\n"method.zo.mu" = [1e-3, 1e-2]\n'


def sweep(folder: Path, text: str) -> Sweep:
    path = folder / "try.toml"
    path.write_text(text)
    return load_sweep(path)


def test_points_are_variants_times_axes_with_three_seeds(tmp_path: Path) -> None:
    variants = (
        '[[variants]]\nlabel = "a"\n[[variants]]\nlabel = "b"\n'
        'set = {"method.optimizer.lr" = 0.1, method = {local_steps = 5}}\n'
    )
    found = sweep(tmp_path, AXIS + '"method.batch_size" = [8, 16]\n' + variants)
    assert [(p.label, *p.axes.values()) for p in found.points] == [
        ("a", 1e-3, 8), ("a", 1e-3, 16), ("a", 1e-2, 8), ("a", 1e-2, 16),
        ("b", 1e-3, 8), ("b", 1e-3, 16), ("b", 1e-2, 8), ("b", 1e-2, 16),
    ]  # fmt: skip
    last = found.points[-1].runs
    assert [run.spec.seed for run in last] == [0, 1, 2]
    method = last[0].spec.method
    assert (method.local_steps, method.optimizer.lr, method.zo.mu, method.batch_size) == (5, 0.1, 1e-2, 16)


def test_a_control_that_points_share_runs_once(tmp_path: Path) -> None:
    found = sweep(tmp_path, AXIS)
    assert len(found.runs) == (2 + 1) * 3
    assert found.points[0].controls[1].fingerprint == found.points[1].controls[1].fingerprint
    assert found.points[0].controls[0].spec.method.name == "frozen"


def test_a_sweep_may_do_without_control_and_begin_at_another_seed(tmp_path: Path) -> None:
    found = sweep(tmp_path, "control = false\nseeds = 2\nfirst_seed = 100\n" + AXIS)
    assert sorted(run.spec.seed for run in found.runs.values()) == [100, 100, 101, 101]


def test_settings_that_a_points_method_does_not_use_are_left_out(tmp_path: Path) -> None:
    found = sweep(tmp_path, 'seeds = 1\n[[variants]]\nlabel = "zo"\n[[variants]]\nlabel = "fo"\n'
                  'set = {"method.name" = "sflv2"}\n' + AXIS)  # fmt: skip
    assert [p.runs[0].spec.method.zo.mu for p in found.points] == [1e-3, 1e-2, 1e-3, 1e-3]
    assert len(found.runs) == 2 + 1 + 1, "sflv2 does not depend on mu, nor does the control"


def test_the_base_may_be_a_file_under_the_sweeps_own_tables(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('rounds = 7\n[method]\nlocal_steps = 9\nbatch_size = 4\n')
    found = sweep(tmp_path, 'base = "base.toml"\n[run.method]\nlocal_steps = 3\n[run.simulate]\ndropout = 0.25\n')
    run = found.points[0].runs[0]
    assert (run.spec.rounds, run.spec.method.local_steps, run.spec.method.batch_size) == (7, 3, 4)
    assert run.simulate.dropout == 0.25


def test_a_fingerprint_is_of_what_results_depend_on(tmp_path: Path) -> None:
    def fingerprint(run: str) -> str:
        return next(iter(sweep(tmp_path, f"control = false\nseeds = 1\n[run]\n{run}\n").runs))

    plain = fingerprint("")
    assert fingerprint('name = "other"') == plain
    assert fingerprint("server = {keep_checkpoints = 5}") == plain
    assert len({plain, fingerprint("rounds = 3"), fingerprint("simulate = {dropout = 0.1}"),
                fingerprint("server = {quorum = 0.1}")}) == 4  # fmt: skip


def test_rows_of_other_weights_or_of_another_heron_are_not_taken_for_this_run_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERON_DATA", str(tmp_path))

    def fingerprints() -> tuple[str, ...]:
        text = "control = false\nseeds = 1\n" + AXIS.replace("1e-3, 1e-2", "1e-3")
        started = text.replace("[axes]", '[run.model]\nweights = "mine"\n[axes]')
        return tuple(next(iter(sweep(tmp_path, each).runs)) for each in (text, started))

    def train(seed: int) -> None:
        spec = ModelSpec()
        model = build_split_model(spec)
        parts = (model.build(part, seed) for part in ("front", "back", "auxiliary"))
        save_model(tmp_path / "mine", spec, *parts)

    found = [fingerprints()]
    for seed in (1, 2, 1):
        train(seed)
        found.append(fingerprints())
    assert len({plain for plain, _ in found}) == 1
    assert len({started for _, started in found}) == 3 and found[1] == found[3]
    monkeypatch.setattr("heron_simulator.sweep.plan.__version__", "next")
    assert not {*fingerprints()} & {*found[3]}


@pytest.mark.parametrize("text, reason", [
    ("seed = 3\n", "unknown key seed"),
    ('[axes]\n"method.zo.nu" = [1, 2]\n', "method.zo.nu"),
    ('[axes]\n"method.batch_size" = [0, 8]\n', "batch_size"),
    ('[axes]\n"method.zo.mu" = []\n', "every axis needs a value"),
    ('[run.method]\nname = "sflv2"\n' + AXIS, "changes no run"),
    ('[[variants]]\nlabel = "a"\n[[variants]]\nlabel = "a"\n', "label of its own"),
    ('[run.simulate]\ndropout = 1.5\n', "dropout"),
    ("[run]\nmethod = 3\n", "method"),
    ("[run]\nsimulate = 3\n", "simulate"),
])  # fmt: skip
def test_a_wrong_sweep_file_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sweep(tmp_path, text)


def trained_here(run: Run) -> set[str]:
    """The run's initial weights, if they lie in the data folder."""
    try:
        weights_folder(run.spec.model.weights, run.server.data_folder)
    except DataError:
        return set()
    return {run.spec.model.weights}


def data_absent(run: Run) -> str:
    """The experiment's file or folder, where it is not there."""
    name = {"arrays": run.spec.data.file, "cifar10": "cifar10"}.get(run.spec.data.source, "")
    folder = run.server.data_folder or os.environ.get("HERON_DATA")
    return "" if not name or (folder and (Path(folder) / name).exists()) else name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_run_of_a_sweep_here_could_start(path: Path) -> None:
    found = load_sweep(path)
    assert found.file.title and found.file.question
    if "." in found.x:
        found.points[0].runs[0].setting(found.x)
    first = {run.spec.model_dump_json(): run for point in found.points for run in point.runs[:1]}
    missing = {run.spec.model.weights for run in first.values()} - {""} - trained_here(found.points[0].runs[0])
    if missing:
        pytest.skip(f"begins with weights that another run trains: {', '.join(missing)}, in $HERON_DATA")
    absent = data_absent(found.points[0].runs[0])
    if absent:
        pytest.skip(f"{absent} is not in $HERON_DATA (see benchmarks/public_data.py)")
    checked = [check_run(run.spec, run.server) for run in first.values()]
    shares = {(run.spec.data, run.spec.federation, run.spec.method.batch_size, run.spec.seed): run
              for run in found.runs.values() if run.spec.data.partition != "iid"}  # fmt: skip
    for run in shares.values():
        load_test(run.spec, run.server, checked[0].facts)


@pytest.mark.parametrize("path", LANGUAGE, ids=lambda path: path.stem)
def test_every_run_of_a_language_model_s_sweep_could_start(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_decoder(tmp_path / "smollm2", num_hidden_layers=30, max_position_embeddings=128)
    monkeypatch.setenv("HERON_DATA", str(tmp_path))
    for point in load_sweep(path).points:
        run = point.runs[0]
        model = build_split_model(run.spec.model, data_folder=tmp_path)
        check_constraints(run.spec, run.server, True, measure_model(model, run.spec.seed))
