"""The lean forward: the same numbers as torch's own layers, fewer maps alive."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heron_core.models import build_split_model, lean
from heron_core.models.families.layers import group_count, make_norm
from heron_core.spec.run_spec import ModelSpec

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 3 + 1


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("mode", ["train", "untracked", "eval"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_in_place_gives_the_bits_and_statistics_of_torch(
    layout: str, mode: str, momentum: float | None
) -> None:
    x = batch(5, 8, 6, 6).contiguous(memory_format=FORMATS[layout])
    ours, torchs = nn.BatchNorm2d(8, momentum=momentum), nn.BatchNorm2d(8, momentum=momentum)
    for norm in (ours, torchs):
        norm.train(mode != "eval")
        norm.track_running_stats = mode != "untracked"
    for _ in range(2):
        expected = torchs(x).detach()
        with torch.inference_mode():
            mine = x.clone()
            assert lean.normalise(ours, mine).data_ptr() == mine.data_ptr()
        assert torch.equal(mine, expected)
        for name, value in torchs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name


def test_batch_norm_of_a_single_value_per_channel_is_refused_as_torch_does() -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match="more than 1 value per channel"):
        lean.normalise(nn.BatchNorm2d(4), torch.ones(1, 4, 1, 1))


@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, 9), rows=st.integers(1, 10), layout=st.sampled_from(sorted(FORMATS)))
def test_pieces_of_any_size_give_the_whole_and_keep_the_layout(size: int, rows: int, layout: str) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.rand(size, 3, 5, 5).contiguous(memory_format=FORMATS[layout])
    conv = conv.to(memory_format=FORMATS[layout])  # type: ignore[call-overload]
    with torch.inference_mode():
        expected, found = conv(x), lean.in_pieces(conv, x, rows)
    torch.testing.assert_close(found, expected)
    assert found.stride() == expected.stride() or size < 2


def test_overwriting_group_norm_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "PIECE_BYTES", 2 * 8 * 36 * 4)
    norm, x = make_norm("group", 8), batch(5, 8, 6, 6)
    with torch.inference_mode():
        expected, mine = norm(x), x.clone()
        assert lean.normalise(norm, mine).data_ptr() == mine.data_ptr()
    assert torch.equal(mine, expected)


@given(channels=st.integers(2, 2048))
def test_groups_divide_the_channels_and_are_at_most_32(channels: int) -> None:
    groups = group_count(channels)
    assert channels % groups == 0 and 1 <= groups <= 32 and channels // groups >= 2


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_gradients_flow_and_equal_those_of_a_smooth_reference(norm: str) -> None:
    model = build_split_model(ModelSpec.model_validate({"name": "resnet18", "norm": norm, "input_shape": (3, 8, 8)}))
    front, head = model.build("front", 0).double(), model.build("auxiliary", 0).double()
    seeded = torch.Generator().manual_seed(1)
    x, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=seeded), torch.tensor([0, 1, 2, 3])
    parameter = front.get_parameter("layer1.0.conv2.weight")
    loss = model.task.losses(head(front(x)), labels).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert parameter.grad is not None
    u = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eps, values = 1e-6, []
    for sign in (1, -1):
        with torch.inference_mode():
            parameter.add_(u, alpha=sign * eps)
            values.append(float(model.task.losses(head(front(x)), labels).sum()))
            parameter.sub_(u, alpha=sign * eps)
    slope = (values[0] - values[1]) / (2 * eps)
    assert slope == pytest.approx(float((parameter.grad * u).sum()), rel=1e-3)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("name", ["digits_cnn", "mlp", "resnet18"])
def test_a_forward_leaves_its_input_alone_and_repeats_bit_for_bit(name: str, norm: str) -> None:
    spec = ModelSpec.model_validate({"name": name, "norm": norm, "input_shape": (3, 8, 8)})
    model = build_split_model(spec)
    front, head = model.build("front", 0), model.build("auxiliary", 0)
    x = batch(40, 3, 8, 8)
    kept = x.clone()
    with torch.inference_mode():
        z = front(x)
        z_before, first = z.clone(), head(z)
        assert torch.equal(x, kept) and torch.equal(z, z_before)
        assert torch.equal(head(front(x)), first)
    assert first.grad_fn is None and z.grad_fn is None


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_inside_whole_batches_each_layer_is_called_once_for_all_rows(norm: str) -> None:
    spec = ModelSpec.model_validate({"name": "resnet18", "norm": norm, "input_shape": (3, 16, 16)})
    front = build_split_model(spec).build("front", 0)
    rows: list[int] = []
    for layer in front.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda _layer, _inputs, out: rows.append(len(out)))
    x = batch(100, 3, 16, 16)
    with torch.inference_mode():
        in_pieces = front(x)
        assert min(rows) < 100
        rows.clear()
        with lean.whole_batches():
            whole = front(x)
    assert rows == [100] * 7  # 3 convolutions, 3 normalisations, 1 identity
    torch.testing.assert_close(whole, in_pieces)


def test_whole_batches_are_this_thread_s_only_and_end_with_the_block() -> None:
    seen: list[bool] = []
    x = torch.rand(1)
    with torch.no_grad():
        with lean.whole_batches():
            assert not lean.keeps_no_graph(x)
            other = threading.Thread(target=lambda: seen.append(lean._whole.get()))
            other.start()
            other.join(timeout=60)
        assert seen == [False] and lean.keeps_no_graph(x)


MEASURE = """
import sys, torch
from heron_core.models import build_split_model
from heron_core.spec.run_spec import ModelSpec
torch.set_num_threads(1)
def kib(key):
    return int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1])
model = build_split_model(ModelSpec(name="resnet18", norm=sys.argv[1]))
front, head = model.build("front", 0), model.build("auxiliary", 0)
x = torch.rand(96, 3, 32, 32)
with torch.inference_mode():
    head(front(x[:2]))
    open("/proc/self/clear_refs", "w").write("5")
    base = kib("VmRSS")
    for _ in range(2):
        head(front(x))
print((kib("VmHWM") - base) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak meter")
@pytest.mark.parametrize(("norm", "maps"), [("batch", 2), ("group", 1)])
def test_the_papers_front_keeps_this_many_maps_alive(norm: str, maps: int) -> None:
    run = subprocess.run([sys.executable, "-c", MEASURE, norm], capture_output=True, text=True, timeout=120, check=True)
    map_mib = 96 * 64 * 32 * 32 * 4 / 2**20
    assert float(run.stdout) < maps * map_mib + 28
