"""A trained model in files that need no Heron."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from heron_core import load_model
from heron_core.errors import CheckpointError, ConfigError, ModelError
from heron_core.models import CutModule, build_split_model, save_model
from heron_core.spec.run_spec import ModelSpec
from heron_server.cli import Exported, export
from heron_server.display.report import final_table
from heron_server.export import export_model, own_state
from heron_simulator import simulate

X = torch.rand(5, 4)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))  # type: ignore[no-any-return]


def factory() -> CutModule:
    return CutModule(Own, cut="first", input_shape=(4,), classes=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a short run of `factory`."""
    run_dir = tmp_path_factory.mktemp("run")
    samples = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32), np.arange(16) % 3
    run = {"rounds": 1, "method": {"local_steps": 2, "batch_size": 4}}
    simulate(run, model=factory, data=[samples], test=samples, run_dir=run_dir)
    return run_dir / "model"


def outputs(folder: Path) -> Tensor:
    return load_model(folder, allow_model_code=True)(X)


def test_of_a_run_with_an_averaged_back_either_one_is_exported_and_the_average_is_the_runs_figure(
    tmp_path: Path,
) -> None:
    samples = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32), np.arange(16) % 3
    run = {"rounds": 2, "method": {"local_steps": 3, "batch_size": 4}, "server_optimizer": {"lr": 0.1}}
    run |= {"averaged_back": {"decay": 0.9}}
    found = simulate(run, model=factory, data=[samples], test=samples, run_dir=tmp_path)
    x, shares = torch.from_numpy(samples[0]), {}
    for averaged in (True, False):
        path = export_model(tmp_path / "model", "safetensors", tmp_path / "file", averaged=averaged)
        module = Own().eval()
        module.load_state_dict(load_file(path))
        loaded = load_model(tmp_path / "model", allow_model_code=True, averaged=averaged)
        assert torch.equal(module(x), loaded(x))
        shares[averaged] = float((loaded(x).argmax(1).numpy() == samples[1]).mean())
        assert torch.equal(found.model.eval()(x), loaded(x)) is averaged
    assert shares == {True: found.summary["accuracy"], False: found.summary["trained_accuracy"]}
    described = json.loads((tmp_path / "model" / "model.json").read_text())
    assert described["averaged_back"] and described["extra"]["trained_metrics"] == {"accuracy": shares[False]}
    assert "load_model(..., averaged=False) loads the trained one" in final_table([found.summary])


@pytest.mark.parametrize("format_", ["module-state", "safetensors"])
def test_the_user_s_own_module_takes_its_weights(folder: Path, tmp_path: Path, format_: str) -> None:
    path = export_model(folder, format_, tmp_path / "file")
    state = torch.load(path, weights_only=True) if format_ == "module-state" else load_file(path)
    module = Own().eval()
    module.load_state_dict(state)
    assert torch.equal(module(X), outputs(folder))


def test_a_program_of_torch_export_takes_any_batch_and_has_the_user_s_names(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs the model code '.*test_export:factory'.*export --allow-model-code"):
        export_model(folder, "torch-export", tmp_path / "file.pt2")
    program = torch.export.load(export_model(folder, "torch-export", tmp_path / "file.pt2", allow_model_code=True))
    torch.testing.assert_close(program.module()(X), outputs(folder))
    assert set(program.state_dict) == set(Own().state_dict())


def test_a_built_in_family_is_exported_as_front_and_back_without_adapters(tmp_path: Path) -> None:
    spec = ModelSpec(name="mlp", input_shape=(4,), widths=(6, 6), classes=3, trainable="lora")
    split = build_split_model(spec)
    front, back = split.build("front", 1), split.build("back", 1)
    for parameter in front.parameters():
        nn.init.normal_(parameter)
    save_model(tmp_path, spec, front, back)
    state = own_state(tmp_path)
    assert {name.split(".")[0] for name in state} == {"front", "back"} and not [n for n in state if "lora" in n]
    expected = back.eval()(front.eval()(X))
    program = torch.export.load(export_model(tmp_path, "torch-export"))
    torch.testing.assert_close(program.module()(X), expected)
    assert set(program.state_dict) == set(state)


def test_the_command_says_where_the_file_is_and_how_to_load_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(folder, Exported.safetensors)
    out = capsys.readouterr().out
    assert f"{folder}/module.safetensors\n  module.load_state_dict(safetensors.torch.load_file(" in out


@pytest.mark.parametrize("format_", ["module-state", "safetensors"])
def test_a_place_that_cannot_be_written_and_a_folder_without_a_model_are_named(
    folder: Path, tmp_path: Path, format_: str
) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/file cannot be written: .*--out"):
        export_model(folder, format_, tmp_path / "nowhere" / "file")
    with pytest.raises(CheckpointError, match=r"no model here: .*pass the model/ folder"):
        export_model(tmp_path, format_)
