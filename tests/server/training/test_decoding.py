"""Uploads are decoded into memory that they are trained on, and what cannot be decoded is its client's fault."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
import toy_codecs

from heron_core.errors import TensorError
from heron_server.training.decoding import decoded, encoded_gradients
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload

CUT = tiny.mlp().activations
CPU = torch.device("cpu")


def upload(rows: int = 4) -> Upload:
    rng = np.random.default_rng(0)
    return Upload(0, (torch.from_numpy(rng.standard_normal((rows, 6)).astype(np.float32)),), torch.zeros(rows).long())


def test_raw_uploads_are_trained_on_where_they_were_received() -> None:
    sent = upload()
    found = decoded(sent, "uploads", CUT)
    assert found.activations[0].data_ptr() == sent.activations[0].data_ptr()
    assert found.labels_B is sent.labels_B and found.number == 0


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_what_is_computed_lies_in_torch_s_aligned_memory(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_codecs.use(monkeypatch, "half", "uploads")
    sent = upload(rows)
    encoded = Upload(0, (sent.activations[0].half(),), sent.labels_B)
    (found,) = decoded(encoded, "uploads", CUT).activations
    assert found.data_ptr() % 64 == 0 and found.dtype is torch.float32
    torch.testing.assert_close(found, sent.activations[0], rtol=1e-3, atol=1e-3)


def test_what_cannot_be_decoded_leaves_the_back_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_codecs.use(monkeypatch, "bytes", "uploads", "evaluation")
    trainer = Trainer(tiny.spec(), tiny.mlp(), CPU)
    before = trainer.back_tensors()
    steps, limits = torch.zeros(4, 6, dtype=torch.uint8), torch.tensor([[0.0, -1.0]]).repeat(4, 1)
    bad = Upload(0, (steps, limits), torch.zeros(4).long())
    with pytest.raises(TensorError, match="the range of activations must not be negative, got -1"):
        trainer.train("edge-1", 0, 1, bad)
    with pytest.raises(TensorError, match="must not be negative"):
        trainer.evaluate_upload("edge-1", bad)
    assert all(np.array_equal(before[name], now) for name, now in trainer.back_tensors().items())


def test_infinite_numbers_are_seen_once_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_codecs.use(monkeypatch, "half", "uploads")
    sent = upload()
    too_large = Upload(0, ((sent.activations[0] * 1e6).half(),), sent.labels_B)
    with pytest.raises(TensorError, match="client 'edge-1', upload 0: activations must be finite"):
        Trainer(tiny.spec(), tiny.mlp(), CPU).train("edge-1", 0, 1, too_large)


def test_gradients_go_down_as_their_codec_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = torch.arange(24.0).reshape(4, 6).t().contiguous().t()
    raw = encoded_gradients([gradient], CUT)
    assert list(raw) == ["activations"] and raw["activations"].flags.c_contiguous
    assert np.array_equal(raw["activations"], gradient.numpy())
    toy_codecs.use(monkeypatch, "bytes", "cut_gradients")
    squeezed = encoded_gradients([gradient], CUT)
    assert {n: (a.dtype.name, a.shape) for n, a in squeezed.items()} == {
        "activations": ("uint8", (4, 6)), "activations.range": ("float32", (4, 2)),
    }  # fmt: skip
