"""Each kind of model trains with clients that run graphs: over gRPC as in the simulator, to the same bits."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.worlds import GrpcWorld, Member

from heron_core.errors import ModelError
from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_server.planning import checks
from heron_simulator.simulator import simulate

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from heron_server.graphs.export import export_graphs

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
CUT = {"objective": "cut_gradient", "micro_batch": 2, "zo": {"scope": "micro_batch", "mu": 1e-2}}
MODELS: dict[str, dict[str, Any]] = {
    "the demo's": {"model": {"name": "digits_cnn", "widths": [8, 16, 4], "cut": "conv3"}, "method": CUT},
    "MLP": {"model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]}},
    "CIFAR CNN": {"model": {"name": "cifar_cnn"}, "method": CUT},
    "ResNet-18, BatchNorm": {"model": {"name": "resnet18", "cut": "layer1.0", "norm": "batch"}},
    "ResNet-18, GroupNorm": {
        "model": {"name": "resnet18", "cut": "layer1.0", "norm": "group", "auxiliary": "gap_linear"},
        "method": {"auxiliary_update": "zo", "micro_batch": 1},
    },
}


def spec_of(setting: str) -> RunSpec:
    """One round of one local step, each client's data its own; half of them are for the evaluation."""
    tables = MODELS[setting]
    method = {"local_steps": 1, "batch_size": 4, **tables.get("method", {})}
    data = {"source": "client", "holdout": 0.5}
    return RunSpec.model_validate(
        {"rounds": 1, "model": tables["model"], "method": method, "data": data, "federation": {"clients": 2}}
    )


def members(folder: Path, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """The files' tables of two clients: eight samples of noise each."""
    rng = np.random.default_rng(0)
    made = []
    for name in ("client-0", "client-1"):
        path = folder / f"{name}.npz"
        np.savez(path, x=rng.random((8, *shape), np.float32), y=rng.integers(0, 10, 8))
        made.append({"name": name, "backend": "onnx", "data": {"source": "npz", "path": str(path)}})
    return made


@pytest.mark.parametrize("setting", MODELS)
def test_clients_with_graphs_train_it_over_grpc_as_in_the_simulator(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(setting)
    exported = cache(lambda: export_graphs(spec, build_split_model(spec.model)))
    monkeypatch.setattr(checks, "export_graphs", lambda *_: exported())
    own = members(tmp_path, build_split_model(spec.model).inputs[0].shape)
    simulated = simulate(spec, client_settings=own, progress=False).summary
    world = GrpcWorld(spec, tmp_path / "run", graphs=True)
    try:
        summary = world.run(*(Member(**tables) for tables in own))
    finally:
        world.close()
    assert not summary["errors"]
    assert summary["model_sha256"] == simulated["model_sha256"]
    assert summary["history"][-1]["samples"] == 8
    assert summary["metrics"] == simulated["metrics"], "the evaluation's graph, too"


def test_a_recurrent_layer_over_sentences_of_any_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TASKS))
    spec = RunSpec.model_validate({"model": {"name": "own_tasks.next_token:model", "options": {"width": 4}}})
    with pytest.raises(ModelError, match=r"cannot be exported for clients without torch: .*or give every client torch"):
        export_graphs(spec, build_split_model(spec.model))
