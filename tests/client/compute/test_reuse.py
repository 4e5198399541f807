"""Whether a client's activations may be used again, looked at on its own samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from client.compute.made import backend_of
from numpy.typing import NDArray
from torch import Tensor, nn

from heron_client.compute.reuse.check import check_reuse
from heron_core.arrays import Array
from heron_core.data.source import ArraySource
from heron_core.errors import ModelError
from heron_core.models.split_model import SplitModel

SPEC = tiny.spec(method={"name": "frozen"})


def of_each_alone(*more: nn.Module) -> SplitModel:
    """A front that looks at each number alone, with `more` behind it: where a product of matrices gives a row the same
    bits in each place, and where it does not, is up to the processor."""
    return replace(tiny.mlp(), front=lambda: nn.Sequential(nn.ConstantPad1d((0, 1), 0.5), nn.Tanh(), *more))


class PlaceInBatch(nn.Module):
    """As a kernel does that sums the last rows of a block in another order."""

    def forward(self, z: Tensor) -> Tensor:
        return z + 1e-6 * (torch.arange(len(z)) == 2)[:, None]


class Noisy(ArraySource):
    """Augments its samples."""

    drawn = 0

    def batch(self, indices: NDArray[np.int64]) -> tuple[tuple[Array, ...], Array]:
        self.drawn += 1
        (x,), labels = super().batch(indices)
        return (x + np.float32(self.drawn),), labels


@pytest.mark.parametrize("samples", [4, 5, 24])
def test_a_front_that_gives_each_sample_the_same_is_taken_and_its_buffers_stay(samples: int) -> None:
    backend = backend_of(SPEC, of_each_alone())
    check_reuse(backend, tiny.source(tiny.mlp(), samples), 4)
    norm = backend_of(tiny.spec(method={"name": "frozen"}), tiny.conv("batch"))
    before = norm.buffers()
    with pytest.raises(ModelError, match=r"front\.1 gives a sample other activations"):
        check_reuse(norm, tiny.source(tiny.conv("batch")), 4)
    assert all(np.array_equal(array, before[name]) for name, array in norm.buffers().items())


def test_the_first_layer_is_named_that_draws_or_looks_at_the_place_in_the_batch() -> None:
    with pytest.raises(ModelError, match=r"^front\.2 gives a sample other .* set codec\.exact = false"):
        check_reuse(backend_of(SPEC, of_each_alone(nn.Dropout(0.5))), tiny.source(tiny.mlp()), 4)
    placed = of_each_alone(nn.Tanh(), PlaceInBatch(), nn.Tanh())
    with pytest.raises(ModelError, match=r"^front\.3 gives a sample other"):
        check_reuse(backend_of(SPEC, placed), tiny.source(placed), 4)


def test_data_that_is_augmented_is_named_and_not_the_model() -> None:
    plain = tiny.source(tiny.mlp())
    (x,), labels = plain.batch(np.arange(len(plain)))
    with pytest.raises(ModelError, match=r"this client's data gives another sample each time .*augmentation"):
        check_reuse(backend_of(SPEC, tiny.mlp()), Noisy(x, labels), 4)
