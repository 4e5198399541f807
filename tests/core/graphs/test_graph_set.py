"""A set of graphs in a folder: it comes back as it was, and what is not it is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import BadReply
from heron_core.graphs.graph_set import GraphSet, constants_of, read_graphs, stored_files
from heron_core.graphs.manifest import HeldTensor, Manifest, made_for, read_manifest
from heron_core.labels import LabelSpec

FROZEN: dict[str, Array] = {
    "front.frozen": np.arange(6, dtype=np.float32).reshape(2, 3),
    "front.table": np.array([3, 1, 2], dtype=np.int64),
}


def made(training: bytes = b"training") -> GraphSet:
    """With one tensor that travels and two that do not."""
    constants = constants_of(FROZEN)
    files = {"training.onnx": training, "evaluation.onnx": b"evaluation", "constants.bin": constants.data}
    manifest = Manifest(
        made_for=made_for(tiny.spec()), opset=18, inputs=(TensorSpec("input", (5,)),), labels=LabelSpec(count=3),
        activations=(TensorSpec("activations", (6,)),),
        tensors=(
            HeldTensor(name="front.weight", dtype="float32", shape=(4,), kind="parameter"),
            HeldTensor(name="front.frozen", dtype="float32", shape=(2, 3), kind="frozen"),
            HeldTensor(name="front.table", dtype="int64", shape=(3,), kind="local_buffer", changes=True),
        ),
        files=stored_files(files),
    )  # fmt: skip
    return GraphSet(manifest, training, b"evaluation", constants)


def test_a_set_comes_back_from_its_folder_with_its_constants(tmp_path: Path) -> None:
    home = made().write(tmp_path)
    assert home.name == made().manifest.sha256
    found = read_graphs(home)
    assert (found.manifest, found.training, found.evaluation) == (made().manifest, b"training", b"evaluation")
    for name, array in FROZEN.items():
        assert found.values()[name].dtype == array.dtype and np.array_equal(found.values()[name], array)
    assert all(array.ctypes.data % 64 == 0 for array in found.values().values())


@pytest.mark.parametrize("name", ["training.onnx", "evaluation.onnx", "constants.bin"])
def test_a_file_that_is_another_is_refused_by_name(tmp_path: Path, name: str) -> None:
    home = made().write(tmp_path)
    content = bytearray((home / name).read_bytes())
    content[0] ^= 1
    (home / name).write_bytes(content)
    with pytest.raises(BadReply, match=f"{name} is not what its manifest says"):
        read_graphs(home)


@pytest.mark.parametrize(
    "change", [b"", b"[]", b'{"format":2}', made().manifest.text().replace(b"parameter", b"pointer")]
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(change: bytes) -> None:
    with pytest.raises(BadReply, match="manifest of the run's graphs cannot be used"):
        read_manifest(change)


def test_constants_that_end_early_are_refused() -> None:
    short = GraphSet(made().manifest, b"", b"", constants_of(FROZEN)[:-1])
    with pytest.raises(BadReply, match=r"must hold \d+ bytes for front.table"):
        short.values()


def test_what_decides_the_graphs_decides_the_hash_and_nothing_else_does() -> None:
    assert made_for(tiny.spec(rounds=7, data={"source": "cifar10"})) == made_for(tiny.spec())
    others = [{"seed": 1}, {"model": {"norm": "batch"}}, {"method": {"auxiliary_update": "zo"}},
              {"method": {"name": "frozen"}}, {"method": {"logit_adjustment": 1.0}}]  # fmt: skip
    assert len({made_for(tiny.spec()), *(made_for(tiny.spec(**each)) for each in others)}) == 1 + len(others)
