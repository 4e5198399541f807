"""From the [model] table to a SplitModel, with the user's own code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from heron_core.errors import ModelError
from heron_core.models import SplitModel, build_split_model, check_parts, save_model
from heron_core.spec.methods import Part
from heron_core.spec.run_spec import ModelSpec

CODE = """
from torch import nn
from heron_core.models import CutModule, build_split_model
from heron_core.spec.run_spec import ModelSpec

def net(width=8):
    return CutModule(lambda: nn.Sequential(nn.Linear(5, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 3)),
                     "2", (5,), 3)

WHOLE_NETWORKS = []

def counted():
    def build():
        WHOLE_NETWORKS.append(1)
        return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
    return CutModule(build, "2", (5,), 3)

def whole():
    return build_split_model(ModelSpec(name="mlp"))

def number():
    return 7

def broken():
    raise KeyError("weights")
"""


@pytest.fixture(autouse=True)
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models.py").write_text(CODE)
    (tmp_path / "bad_models.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_models", "bad_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def build(**table: object) -> SplitModel:
    return build_split_model(ModelSpec.model_validate(table))


def test_a_users_module_is_cut_and_takes_its_options() -> None:
    model = build(name="own_models:net", options={"width": 6})
    check_parts(model)
    assert (model.activations[0].shape, model.classes) == ((6,), 3)


def test_the_run_files_cut_takes_the_place_of_the_factorys() -> None:
    assert set(build(name="own_models:net", cut="0").build("front", 0).state_dict()) == {"0.weight", "0.bias"}


def test_a_users_split_model_is_taken_as_it_is() -> None:
    check_parts(build(name="own_models:whole"))


def test_trainable_norm_finds_a_users_normalisation() -> None:
    model = build(name="own_models:net", trainable="norm")
    names = ("front.0.weight", "front.1.weight", "front.1.bias", "auxiliary.linear.weight")
    assert [model.trainable(name) for name in names] == [False, True, True, True]


TRAINABLE = ["all", "norm", "last_n_layers", "lora"]


@pytest.mark.parametrize("trainable", TRAINABLE)
@pytest.mark.parametrize("weights", ["", "mine"])
def test_the_network_that_was_cut_is_the_one_that_is_looked_at(trainable: str, weights: str, tmp_path: Path) -> None:
    own = build(name="own_models:counted")
    save_model(tmp_path / "mine", ModelSpec(name="own_models:counted"), own.build("front", 0), own.build("back", 0))
    networks: list[int] = sys.modules["own_models"].WHOLE_NETWORKS
    networks.clear()
    spec = ModelSpec.model_validate({"name": "own_models:counted", "trainable": trainable, "weights": weights})
    build_split_model(spec, data_folder=tmp_path)
    assert len(networks) == 1


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_family_s_front_is_built_once_where_it_must_be_looked_at(
    trainable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, really = list[str](), SplitModel.build

    def counted(model: SplitModel, part: Part, seed: int) -> nn.Module:
        built.append(part)
        return really(model, part, seed)

    monkeypatch.setattr(SplitModel, "build", counted)
    build(trainable=trainable)
    assert built == ["front"] * (trainable != "all")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"name": "resnet81"}, "unknown model 'resnet81'.*did you mean 'resnet18'"),
        ({"name": "own_models:nett"}, "own_models has no callable 'nett'.*did you mean 'net'"),
        ({"name": "no_such_package.x:net"}, "cannot import 'no_such_package.x'"),
        ({"name": "bad_models:net"}, "cannot import 'bad_models'.*No module named 'no_such_package'"),
        ({"name": "own_models:net", "options": {"widht": 3}}, "unexpected keyword argument 'widht'"),
        ({"name": "own_models:broken"}, "own_models:broken failed.*KeyError: 'weights'"),
        ({"name": "own_models:number"}, "must return a SplitModel or a CutModule, it returned int"),
        ({"name": "own_models:whole", "cut": "hidden2"}, "model.cut = 'hidden2' has no effect"),
        ({"name": "own_models:net", "classes": 4}, "model.classes is 4, own_models:net has 3"),
        ({"name": "own_models:net", "input_shape": (6,)}, r"model.input_shape is \[6\], own_models:net takes \[5\]"),
    ],
)
def test_own_code_that_does_not_work_says_what_to_do(table: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build(**table)


@pytest.mark.parametrize("allowed", [[], ["own_models:whole"]])
def test_code_that_is_not_allowed_is_refused_and_never_imported(allowed: list[str]) -> None:
    with pytest.raises(ModelError, match=r"'own_models:net'.*add it to allow_model_code in the client's file"):
        build_split_model(ModelSpec(name="own_models:net"), allowed=allowed)
    assert "own_models" not in sys.modules


def test_allowed_code_and_built_in_names_pass() -> None:
    build_split_model(ModelSpec(name="own_models:net"), allowed={"own_models:net"})
    build_split_model(ModelSpec(), allowed=())


def test_the_digest_needs_no_torch_and_a_family_imports_no_other() -> None:
    code = """
import sys
import heron_core.models.digest
assert "torch" not in sys.modules, "digest imports torch"
from heron_core.models import build_split_model
from heron_core.spec.run_spec import ModelSpec
build_split_model(ModelSpec()).build("front", 0)
bad = {"heron_core.models.families.resnet", "heron_core.models.saved", "torch._dynamo", "torchvision", "sympy"}
assert not bad & set(sys.modules), bad & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)


def test_every_public_name_resolves_and_another_does_not() -> None:
    import heron_core.models as models

    for name in models.__all__:
        assert getattr(models, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'build_model'"):
        _ = models.build_model
