"""Uploads are decoded into memory that they are trained on, and what cannot be decoded is its client's fault."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from heron_core.errors import TensorError
from heron_core.wire.activation_codec import CODECS
from heron_server.training.decoding import decoded, encoded_gradients
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload

CUT = tiny.mlp().activations
CPU = torch.device("cpu")
RAW, INT8 = CODECS["raw"], CODECS["int8"]


def upload(rows: int = 4) -> Upload:
    rng = np.random.default_rng(0)
    return Upload(0, (torch.from_numpy(rng.standard_normal((rows, 6)).astype(np.float32)),), torch.zeros(rows).long())


def encoded(sent: Upload, name: str = "int8") -> Upload:
    arrays = CODECS[name].encode([t.numpy() for t in sent.activations], CUT, 0, "upload")
    return Upload(sent.number, tuple(map(torch.from_numpy, arrays)), sent.labels_B)


def test_raw_uploads_are_trained_on_where_they_were_received() -> None:
    sent = upload()
    found = decoded(sent, RAW, CUT)
    assert found.activations[0].data_ptr() == sent.activations[0].data_ptr()
    assert found.labels_B is sent.labels_B and found.number == 0


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_what_is_computed_lies_in_torch_s_aligned_memory(rows: int) -> None:
    sent = upload(rows)
    (found,) = decoded(encoded(sent), INT8, CUT).activations
    assert found.data_ptr() % 64 == 0 and found.dtype is torch.float32
    torch.testing.assert_close(found, sent.activations[0], rtol=0, atol=0.03)


def test_what_cannot_be_decoded_leaves_the_back_untouched_and_names_the_client() -> None:
    trainer = Trainer(tiny.spec(codec={"uploads": "int8", "evaluation": "int8"}), tiny.mlp(), CPU)
    before = trainer.back_tensors()
    bad = encoded(upload())
    bad.activations[0][1] = 0xFF  # the upper half of the first group's range: its step is no number
    with pytest.raises(TensorError, match="client 'edge-1', upload 0: activations must have steps of at most"):
        trainer.train("edge-1", 0, 1, bad)
    with pytest.raises(TensorError, match="must have steps of at most"):
        trainer.evaluate_upload("edge-1", bad)
    assert all(np.array_equal(before[name], now) for name, now in trainer.back_tensors().items())


def test_numbers_that_bfloat16_does_not_have_are_refused_as_infinite_ones_are() -> None:
    bad = encoded(upload(), "bf16")
    bad.activations[0][:2] = torch.tensor([0x80, 0x7F])
    with pytest.raises(TensorError, match="client 'edge-1', upload 0: activations must be finite"):
        Trainer(tiny.spec(codec={"uploads": "bf16"}), tiny.mlp(), CPU).train("edge-1", 0, 1, bad)


def test_gradients_go_down_as_their_codec_has_it() -> None:
    gradient = torch.arange(24.0).reshape(4, 6).t().contiguous().t()
    raw = encoded_gradients([gradient], CUT, RAW, 0, "step", 0)
    assert list(raw) == ["activations"] and raw["activations"].flags.c_contiguous
    assert np.array_equal(raw["activations"], gradient.numpy())
    (block,) = encoded_gradients([gradient], CUT, INT8, 0, "step", 0).values()
    assert (block.dtype.name, block.shape) == ("uint8", (2 + 32,))
    with pytest.raises(TensorError, match="the gradient at the cut: activations must be finite, got 1 NaN or Inf"):
        encoded_gradients([torch.full((1, 1), torch.inf)], CUT, INT8, 0)
