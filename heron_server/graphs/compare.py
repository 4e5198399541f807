"""Is a graph what torch computes? Asked of every graph before a client gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from heron_core.arrays import Array
from heron_core.errors import ModelError
from heron_server.graphs.passes import Pass
from heron_server.graphs.tracing import exporting

TOLERANCE = 1e-4
"""Largest difference, as a share of the tensor's largest value: what another order of float32 sums explains."""
LEAST = 1e-6
"""A difference below it is none."""


def compare(what: str, graph: bytes, by_torch: Pass, given: Mapping[str, Tensor]) -> None:
    """Runs `graph` and `by_torch` on the same tensors. ModelError names the first that differs, and by how much."""
    with torch.no_grad():
        wanted = {name: tensor.numpy() for name, tensor in by_torch(given).items()}
    with exporting():
        found = _run(graph, {name: tensor.numpy() for name, tensor in given.items()}, list(wanted))
    for name, array in wanted.items():
        _same(what, name, array, found[name])


def _run(graph: bytes, given: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    taken = {each.name: given[each.name] for each in session.get_inputs()}
    return dict(zip(outputs, session.run(list(outputs), taken), strict=True))


def _same(what: str, name: str, wanted: Array, found: Array) -> None:
    if (wanted.dtype, wanted.shape) != (found.dtype, found.shape):
        kinds = [f"{each.dtype} {list(each.shape)}" for each in (found, wanted)]
        raise _refusal(what, name, f"is {kinds[0]}, by torch {kinds[1]}")
    if wanted.dtype.kind != "f":
        if not np.array_equal(wanted, found):
            raise _refusal(what, name, "has other values than by torch")
        return
    difference = float(np.max(np.abs(wanted - found), initial=0.0))
    allowed = max(LEAST, TOLERANCE * float(np.max(np.abs(wanted), initial=0.0)))
    if not difference <= allowed:  # NaN is no agreement
        raise _refusal(what, name, f"differs from torch's by {difference:.3g}, allowed is {allowed:.3g}")


def _refusal(what: str, name: str, how: str) -> ModelError:
    return ModelError(
        f"{what} for clients without torch is not what torch computes: {name} {how}; give every client torch, "
        "or take what computes it out of the model"
    )
