"""The product's compute side over models that need no registry."""

from __future__ import annotations

import numpy as np
import tiny
import torch

from heron_client.compute.backends.torch_backend import TorchBackend
from heron_client.compute.batch import Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.local_round import LocalRound
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.data.source import Source
from heron_core.models.split_model import SplitModel
from heron_core.spec.role import role_of
from heron_core.spec.run_spec import RunSpec

CPU = torch.device("cpu")


def backend_of(spec: RunSpec, model: SplitModel) -> TorchBackend:
    """As a client of the run builds it."""
    return TorchBackend(model, role_of(spec), CPU)


def round_of(
    spec: RunSpec, backend: TorchBackend, *, source: Source | None = None, rank: int = 0, round_number: int = 1,
    state: dict[str, Array] | None = None,
) -> LocalRound:  # fmt: skip
    """A local round from `state`, or from the parameters as they are."""
    source = source or tiny.source(backend.modules.model)
    client_state = ClientState(backend, spec.method)
    if state is not None:
        client_state.load(state)
    order = BatchOrder(spec.seed, rank, len(source), spec.method.batch_size)
    batches = Batches(source, order, spec.method, round_number, rank, spec.rounds)
    return LocalRound(spec.method, spec.seed, client_state, batches)


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    """The same names, dtypes and values, NaN included."""
    equal = (a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n], equal_nan=True) for n in a)
    return a.keys() == b.keys() and all(equal)
