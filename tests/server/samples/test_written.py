"""What a language model writes after a prompt: the likeliest token each time, up to the end token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_text
import torch
from torch import Tensor, nn

from heron_core.data import ArraySource, Subset
from heron_core.data.checks import Checked
from heron_core.data.text import sample
from heron_core.data.text.source import TextSource
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.spec.text import TextSpec
from heron_server.samples.written import MOST_TOKENS, written_samples


class NextLetter(nn.Module):
    """Goes on in the alphabet, and ends after z."""

    def __init__(self, tokenizer: Tokenizer, source: TextSource) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        letters = [tokenizer.ids(letter)[0] for letter in "abcdefghijklmnopqrstuvwxyz"]
        seen = source.as_input(np.array(letters))
        after = torch.zeros(tiny_text.VOCABULARY, dtype=torch.int64)
        after[torch.from_numpy(seen)] = torch.tensor([*letters[1:], tokenizer.end])
        self.after = after

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.one_hot(self.after[tokens], tiny_text.VOCABULARY).float()


@pytest.mark.parametrize("shift", ["none", "swapped"])
@pytest.mark.parametrize(("length", "written"), [(64, "wxyz"), (4, "wx")])
def test_the_model_goes_on_from_the_prompt(length: int, written: str, shift: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny_text.folder(tmp_path))
    samples = [sample.answer(tokenizer, prompt, "!?", prompt) for prompt in ("xx", "uv", "yy")]
    spec = TextSpec.model_validate({"shift": shift})
    text = TextSource(samples, tokenizer, spec, tiny_text.tokens(length), "jsonl")
    source = Checked(Subset(text, np.array([1, 2])), (tiny_text.tokens(length),), tiny_text.labels(length))
    model = NextLetter(tokenizer, text)
    assert written_samples(model, source, 1) == [{"prompt": "uv", "reference": "!?", "written": written}]
    assert [each["prompt"] for each in written_samples(model, source, 5)] == ["uv", "yy"]
    model.after[:] = tokenizer.ids("a")[0]
    assert len(written_samples(model, source, 1)[0]["written"]) == min(MOST_TOKENS, length - 2)


def test_data_that_is_no_text_has_no_samples() -> None:
    source = ArraySource(np.zeros((2, 3), np.int64), np.zeros(2, np.int64))
    assert written_samples(nn.Linear(1, 1), source, 2) == written_samples(nn.Linear(1, 1), None, 2) == []
