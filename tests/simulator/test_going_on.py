"""A run that begins with the model of an earlier one, and one that goes on for more rounds."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.worlds import InProcessWorld, Member
from safetensors.numpy import load_file

from heron_core.errors import ConfigError, DataError
from heron_server.cli import starting
from heron_server.config import load_run_file
from heron_simulator.cli import simulate

TEXT = """
rounds = 1
[model]
name = "mlp"
input_shape = [1, 8, 8]
widths = [8, 8, 8]
cut = "hidden2"
[method]
local_steps = 2
batch_size = 8
[data]
train_limit = 100
test_limit = 20
[federation]
clients = 2
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(TEXT)
    return path


def run(run_file: Path, name: str, *overrides: str, **arguments: Any) -> Path:
    """The run directory of a simulated run."""
    folder = run_file.parent / name
    simulate(run_file, overrides=[f"server.run_dir={folder}", *overrides], **arguments)
    return folder


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.mark.parametrize("trainable", ["all", "last_n_layers"])
def test_front_head_and_back_of_a_run_begin_where_an_earlier_one_ended(run_file: Path, trainable: str) -> None:
    model = run(run_file, "earlier") / "model"
    later = run(run_file, "later", f"model.trainable={trainable}", start_from=model)
    ended = load_file(model / "model.safetensors")
    began = load_file(later / "checkpoints" / "round-000000.safetensors")
    common = {name.removeprefix("client."): name for name in began if name.removeprefix("client.") in ended}
    assert {name.split(".")[0] for name in common} == {"front", "auxiliary", "back"}
    for name, saved_as in common.items():
        np.testing.assert_array_equal(began[saved_as], ended[name], err_msg=name)
    whole = load_file(later / "model" / "model.safetensors")
    stayed = [name for name in ended if name.startswith("front.") and np.array_equal(ended[name], whole[name])]
    assert bool(stayed) == (trainable != "all")  # what does not travel came to both sides from the folder


def test_the_run_spec_says_what_it_began_with_and_going_on_wants_the_same(run_file: Path, tmp_path: Path) -> None:
    model = run(run_file, "earlier") / "model"
    description = json.loads((model / "model.json").read_text())
    spec, settings = load_run_file(run_file, starting(model, ["model.weights_parts=['front']"]))
    assert (spec.model.weights, spec.model.weights_sha256) == (
        description["extra"]["run_id"],
        description["state_sha256"],
    )
    assert spec.model.weights_parts == ("front",) and settings.start_from == model
    whole, _ = load_run_file(run_file, starting(model, []))
    assert whole.model.weights_parts == ("front", "auxiliary", "back")
    with pytest.raises(
        ConfigError, match=r"either with the weights of model\.weights_sha256 = '0+'.*leave one of the two"
    ):
        load_run_file(run_file, starting(model, [f"model.weights_sha256={'0' * 64}", "model.weights=other"]))
    with pytest.raises(DataError, match=r"cannot begin with .*nothing"):
        load_run_file(run_file, starting(tmp_path / "nothing", []))


def test_classes_keep_the_places_that_they_have_in_the_model(run_file: Path) -> None:
    model = run(run_file, "earlier") / "model"
    names = [f"class {number}" for number in range(10)]
    description = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**description, "class_names": names}))
    run_file.write_text(TEXT.replace("train_limit = 100\ntest_limit = 20", 'source = "client"'))
    assert load_run_file(run_file, starting(model, []))[0].data.class_names == tuple(names)
    other = json.dumps(names[::-1])
    with pytest.raises(ConfigError, match=r"class_names = \['class 9', .*tells \['class 0', .*in this order"):
        load_run_file(run_file, starting(model, [f"data.class_names={other}"]))


def test_clients_without_the_folder_come_to_the_same_bits(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run(run_file, "earlier") / "model"
    later = run(run_file, "later", start_from=model)
    monkeypatch.delenv("HERON_DATA", raising=False)
    spec, _ = load_run_file(run_file, starting(model, []))
    with closing(InProcessWorld(spec, tmp_path / "world", start_from=model)) as world:
        found = world.run(Member("client-0"), Member("client-1"))
    assert found["errors"] == {} and found["model_sha256"] == summary(later)["model_sha256"]


@pytest.mark.parametrize("method", [["method.moments=kept"], ["method.name=sflv1"], ["method.name=fsl_sage"]])
def test_more_rounds_of_a_finished_run_end_with_the_bits_of_a_run_that_had_them_from_the_start(
    run_file: Path, method: list[str]
) -> None:
    first = run(run_file, "run", *method)
    assert summary(first)["rounds_done"] == 1
    run(run_file, "run", *method, "rounds=3", resume=True)
    straight = run(run_file, "straight", *method, "rounds=3")
    assert summary(first)["rounds_done"] == 3
    assert summary(first)["model_sha256"] == summary(straight)["model_sha256"]
