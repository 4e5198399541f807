"""Inputs of a graph are made constants by its protobuf alone, and what is no graph is refused."""

from __future__ import annotations

import numpy as np
import pytest

from heron_client.compute.backends.onnx_constants import with_constants
from heron_core.errors import ModelError

onnx = pytest.importorskip("onnx")
HELD = {"w": np.zeros((3, 300), np.float32), "n": np.zeros((), np.int64)}


def graph() -> bytes:
    kinds = {"x": (1, ["B", 3]), "w": (1, [3, 300]), "n": (7, [])}
    inputs = [onnx.helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    output = onnx.helper.make_tensor_value_info("y", 1, ["B", 300])
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    made: bytes = onnx.helper.make_model(onnx.helper.make_graph([node], "g", inputs, [output])).SerializeToString()
    return made


def test_they_are_no_inputs_any_more_and_their_values_come_from_outside() -> None:
    before, after = onnx.load_from_string(graph()), onnx.load_from_string(with_constants(graph(), HELD))
    assert [each.name for each in after.graph.input] == ["x"]
    assert {t.name: (list(t.dims), t.data_type, t.data_location) for t in after.graph.initializer} == {
        "w": ([3, 300], 1, 1), "n": ([], 7, 1),
    }  # fmt: skip
    assert (after.graph.node, after.graph.output) == (before.graph.node, before.graph.output)
    assert with_constants(graph(), {}) == graph()


@pytest.mark.parametrize("harm", [b"\xff" * 12, b"\x3a\xff\xff\x7f", b"\x3b", b"\x3a", b"\x3a\x04\x5a\x02\x0a\x09"])
def test_what_is_no_graph_is_refused(harm: bytes) -> None:
    with pytest.raises(ModelError, match=r"is no ONNX file: .*; let the server export anew"):
        with_constants(harm, HELD)
