"""`simulate` from a program or a notebook: objects for names, settings as dicts and paths as text, and its result."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from heron_core import load_model
from heron_core.errors import ConfigError, DataError, ModelError
from heron_core.models import CutModule, SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_simulator import simulate

RUN: dict[str, Any] = {"rounds": 2, "method": {"local_steps": 3, "batch_size": 4}, "data": {"holdout": 0.2}}


def arrays(seed: int, samples: int = 30) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(samples, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def cut_network(width: int = 6) -> CutModule:
    return CutModule(lambda: nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 3)), "1", (5,), 3)


def test_objects_stand_for_model_data_and_test_set() -> None:
    x, y = arrays(0)
    data = [(x, y), (torch.from_numpy(x), torch.from_numpy(y)), TensorDataset(*map(torch.from_numpy, arrays(1)))]
    run = {key: value for key, value in RUN.items() if key != "data"}
    found = simulate(run, model=tiny.mlp(), data=data, test=arrays(2))
    assert found.summary["clients"] == 3 and found.summary["rounds_done"] == 2
    assert [len(step) for step in (found.losses, set(found.losses))] == [2 * 3 * 3] * 2
    assert found.model(torch.from_numpy(x)).shape == (30, 3)


def test_a_cut_module_its_factory_and_one_without_a_name_are_the_same_model() -> None:
    run, data = {**RUN, "rounds": 1}, [arrays(0), arrays(1)]
    options = {**run, "model": {"options": {"width": 6}}}
    found = [
        simulate(run, model=cut_network(), data=data),
        simulate(options, model=cut_network, data=data),
        simulate(options, model=lambda width: cut_network(width), data=data),
    ]
    assert len({each.summary["model_sha256"] for each in found}) == 1
    assert found[0].confusion is None and found[0].accuracy_by_class == {}  # clients evaluated


def test_the_weights_are_the_same_however_rarely_clients_evaluate() -> None:
    run, data = {**RUN, "rounds": 3}, [arrays(0), arrays(1)]
    each, rare = (simulate({**run, "evaluate_every": n}, model=tiny.mlp(), data=data).summary for n in (1, 3))
    assert rare["model_sha256"] == each["model_sha256"] and rare["accuracy"] == each["accuracy"] is not None
    assert [record["samples"] for record in rare["history"]] == [0, 0, each["history"][2]["samples"]]
    assert 3 * rare["ledger"]["evaluation_up"] == each["ledger"]["evaluation_up"]
    assert rare["ledger"]["client_state_down"] == each["ledger"]["client_state_down"], "none is fetched twice"


def test_the_same_bits_as_by_names_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "by_name.py").write_text("import tiny\ndef model(): return tiny.mlp()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for i in (0, 1):
        np.savez(tmp_path / f"{i}.npz", x=arrays(i)[0], y=arrays(i)[1])
    tables = {**RUN, "model": {"name": "by_name:model"}, "federation": {"clients": 2}}
    tables["data"] = {"source": "client", "holdout": 0.2}
    files = [
        {"allow_model_code": ["by_name:model"], "data": {"source": "npz", "path": str(tmp_path / f"{i}.npz")}}
        for i in (0, 1)
    ]
    named = simulate(tables, client_settings=files)
    given = simulate(RUN, model=tiny.mlp, data=[arrays(0), arrays(1)])
    assert given.summary["model_sha256"] == named.summary["model_sha256"]


def test_what_cannot_be_a_model_or_data_says_what_to_give() -> None:
    with pytest.raises(ModelError, match=r"a Sequential says nothing of its cut.*CutModule\(lambda: network"):
        simulate(RUN, model=network(), data=[arrays(0)])
    with pytest.raises(ConfigError, match=r"data wants a list with one entry for each client.*\[\(x0, y0\), "):
        simulate(RUN, model=tiny.mlp(), data=arrays(0))
    with pytest.raises(ConfigError, match=r"data holds 1 entries, clients = 2"):
        simulate(RUN, model=tiny.mlp(), data=[arrays(0)], clients=2)
    with pytest.raises(DataError, match=r"client-0: \(x, y\): x must be \[N, 5\]"):
        simulate(RUN, model=tiny.mlp(), data=[(arrays(0)[0][:, :4], arrays(0)[1])])


@pytest.mark.parametrize(("tables", "said"), [
    ({"metod": {}}, r"run_spec: unknown key metod \(did you mean method\?\)"),
    ({"method": {"local_step": 3}}, r"unknown key method\.local_step \(did you mean local_steps\?\)"),
    ({"server": {"adress": "x"}}, r"server\.adress \(did you mean address\?\)"),
    ({"method": {"name": "frozen", "zo": {"mu": 0.1}}}, r"method\.zo\.mu is not used by frozen"),
    ({"simulate": {"dropout": 0.5}}, r"\[simulate\] is read by the command heron-simulate"),
])  # fmt: skip
def test_a_wrong_setting_is_named_as_in_a_file(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        simulate(tables)


def test_settings_and_paths_may_be_text_and_dicts(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("rounds = 1\n[method]\nlocal_steps = 2\n[data]\ntrain_limit = 96\ntest_limit = 20\n")
    found = simulate(str(file), settings={"device": "cpu"}, run_dir=str(tmp_path / "run"))
    assert (tmp_path / "run" / "model" / "model.json").is_file() and found.summary["rounds_done"] == 1
    with pytest.raises(ConfigError, match=r"settings: unknown key devise \(did you mean device\?\)"):
        simulate(str(file), settings={"devise": "cpu"})
    with pytest.raises(ConfigError, match=r"both as settings= and as the \[server\] table"):
        simulate({"server": {"device": "cpu"}}, settings=ServerSettings())


def test_the_result_counts_right_and_wrong_answers_by_class() -> None:
    x, y = arrays(2, samples=300)
    found = simulate(RUN, model=tiny.mlp(), data=[arrays(0), arrays(1)], test=(x[y < 2], y[y < 2]))
    assert found.confusion is not None and found.confusion.dtype == np.int64
    answers = found.model(torch.from_numpy(x[y < 2])).argmax(1).numpy()
    expected = np.array([[int(((y[y < 2] == a) & (answers == b)).sum()) for b in range(3)] for a in range(3)])
    np.testing.assert_array_equal(found.confusion, expected)
    assert found.confusion.trace() / found.confusion.sum() == pytest.approx(found.summary["accuracy"])
    by_class = found.accuracy_by_class
    assert list(by_class) == ["0", "1", "2"] and by_class["2"] is None
    assert by_class["0"] == found.confusion[0, 0] / found.confusion[0].sum()
    assert "2 of 2 rounds" in repr(found) and len(repr(found)) < 200


def test_the_result_has_the_loss_of_every_local_step() -> None:
    found = simulate(tiny.spec(), settings=ServerSettings(device="cpu"))
    assert [(s.round, s.step, s.client) for s in found.losses] == [
        (number, step, f"client-{i}") for number in (1, 2) for step in range(4) for i in (0, 1)
    ]
    for record in found.summary["history"]:
        mine = [s.loss for s in found.losses if s.round == record["round"]]
        assert np.mean(mine) == pytest.approx(record["client_loss"])


def test_what_its_own_factory_froze_stays_frozen_in_the_model_returned() -> None:
    given = tiny.mlp()

    def front() -> nn.Module:
        module = given.front()
        next(module.parameters()).requires_grad_(False)
        return module

    simulation = simulate(RUN, model=replace(given, front=front), data=[arrays(0), arrays(1)])
    frozen, *others = simulation.model.parameters()
    assert not frozen.requires_grad and all(p.requires_grad for p in others)


@pytest.mark.parametrize("given", [tiny.mlp(), cut_network()])
def test_the_model_returned_can_be_trained_as_it_is(given: SplitModel | CutModule) -> None:
    model = simulate(RUN, model=given, data=[arrays(0), arrays(1)]).model
    parameters = list(model.parameters())
    assert parameters and all(p.requires_grad and p.is_leaf and not p.is_inference() for p in parameters)
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in parameters)
    x, y = map(torch.from_numpy, arrays(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model.train()(x), y)

    before = loss().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss().item() < 0.8 * before


def test_a_saved_model_that_came_as_an_object_says_how_to_load_it(tmp_path: Path) -> None:
    simulate(RUN, model=lambda: tiny.mlp(), data=[arrays(0)], run_dir=tmp_path)
    with pytest.raises(ModelError, match=r"given to simulate\(\) as an object.*heron-server export"):
        load_model(tmp_path / "model", allow_model_code=True)


def test_a_saved_model_whose_factory_has_a_name_is_loaded_by_it(tmp_path: Path) -> None:
    found = simulate(RUN, model=tiny.mlp, data=[arrays(0)], run_dir=tmp_path)
    x = torch.from_numpy(arrays(0)[0])
    assert torch.equal(load_model(tmp_path / "model", allow_model_code=True)(x), found.model(x))


class ZMQInteractiveShell:
    """What IPython's kernel calls its shell."""


@pytest.mark.parametrize(("notebook", "progress", "shown"), [
    (False, None, False), (False, True, True), (True, None, True), (True, False, False),
])  # fmt: skip
def test_progress_is_shown_in_a_notebook_and_where_it_is_wanted(
    notebook: bool, progress: bool | None, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if notebook:
        monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    simulate(tiny.spec(rounds=1), progress=progress)
    assert ("round 1/1" in sys.stdout.getvalue()) == shown  # type: ignore[attr-defined]


def test_a_run_spec_object_is_not_changed() -> None:
    spec = RunSpec.model_validate(RUN)
    was = spec.model_dump()
    simulate(spec, model=tiny.mlp(), data=[arrays(0)], test=arrays(1))
    assert spec.model_dump() == was
