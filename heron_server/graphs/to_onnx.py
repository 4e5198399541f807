"""A traced pass as an ONNX file: the names at its ends are the pass's, and nothing of this machine is in it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from heron_core.errors import ConfigError
from heron_server.graphs.tracing import Traced, exporting

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

OPSET = 18
"""Of the graphs: runtimes of 2023 and later have it."""


def onnx_of(traced: Traced) -> bytes:
    """The same bytes for the same pass. ConfigError: a library is missing. ModelError: ONNX lacks an operation."""
    _need("onnx", "onnxscript")
    sizes = {name: torch.export.Dim(name) for names in traced.opened.values() for name in names if name}
    shapes = tuple(
        {i: sizes[d] for i, d in enumerate(traced.opened.get(name, ())) if d} or None for name in traced.inputs
    )
    with exporting(), _quietly():
        program = torch.onnx.export(
            traced.graph, tuple(traced.inputs.values()), dynamo=True, input_names=list(traced.inputs),
            output_names=list(traced.outputs), dynamic_shapes=shapes, opset_version=OPSET, verbose=False,
        )  # fmt: skip
        assert program is not None
        model: ModelProto = program.model_proto
    return _bare(model).SerializeToString(deterministic=True)


def _bare(model: ModelProto) -> ModelProto:
    """Without the lines of code that each node came from."""
    model.ClearField("metadata_props")
    model.graph.name = "heron"
    _strip(model.graph)
    return model


def _strip(graph: GraphProto) -> None:
    graph.ClearField("metadata_props")
    for each in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        each.ClearField("doc_string")
        each.ClearField("metadata_props")
    for body in (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")):
        _strip(body)


def _need(*libraries: str) -> None:
    for library in libraries:
        try:
            __import__(library)
        except ImportError:
            raise ConfigError(
                f"graphs for clients without torch need {library}, which is not installed here; "
                "pip install 'heron-sfl[export]'"
            ) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter's warnings are for its own makers."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
