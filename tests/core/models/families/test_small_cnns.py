"""The small convolutional families: their default sizes, and widths of one's own."""

from __future__ import annotations

import pytest
import torch

from heron_core.errors import ModelError
from heron_core.models import build_split_model, check_parts
from heron_core.spec.run_spec import ModelSpec


def test_cifar_cnn_gives_32_maps_of_8_by_8_to_a_pooled_linear_back() -> None:
    model = build_split_model(ModelSpec(name="cifar_cnn"))
    check_parts(model)
    assert model.activations[0].shape == (32, 8, 8)
    sizes = {p: sum(t.numel() for t in model.build(p, 0).parameters()) for p in ("front", "auxiliary", "back")}  # type: ignore[arg-type]
    convolutions, scales = 9 * (3 * 16 + 16 * 32 + 32 * 32), 2 * (16 + 32 + 32)
    assert sizes == {"front": convolutions + scales, "auxiliary": 330, "back": 330}


@pytest.mark.parametrize("cut", ["conv1", "conv2", "conv3"])
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("name", ["digits_cnn", "cifar_cnn"])
def test_every_cut_of_either_fits_also_with_odd_sizes_and_other_widths(name: str, norm: str, cut: str) -> None:
    for shape in ((2, 8, 8), (1, 9, 13)):
        table = {"name": name, "norm": norm, "cut": cut, "widths": (4, 6, 4), "input_shape": shape, "classes": 3}
        model = build_split_model(ModelSpec.model_validate(table))
        check_parts(model)
        assert model.build("front", 0)(torch.zeros(2, *shape)).shape[1] == {"conv1": 4, "conv2": 6, "conv3": 4}[cut]


@pytest.mark.parametrize("name", ["digits_cnn", "cifar_cnn", "series_cnn"])
def test_widths_of_another_number_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=rf"widths of {name} are the channels of three convolutions, got \[8, 16\]"):
        build_split_model(ModelSpec(name=name, widths=(8, 16)))
