"""Greedy continuations of a test set's first prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from heron_core.data.source import Source
from heron_core.data.text.source import TextSource
from heron_server.metrics.figures import WrittenSample

MOST_TOKENS = 32


def written_samples(model: nn.Module, test: Source | None, count: int) -> list[WrittenSample]:
    """What the model, in evaluation mode, writes after the first `count` prompts; nothing where the set is no text."""
    found = text_and_places(test) if test is not None else None
    if found is None:
        return []
    text, places = found
    device = next(model.parameters()).device
    samples: list[WrittenSample] = []
    for place in places[:count]:
        prompt, reference = text.prompt_and_rest(int(place))
        ids = continued(model, prompt, text.as_input, text.tokenizer.end, text.longest, device)
        told = [text.tokenizer.text(part) for part in (prompt, reference, ids)]
        samples.append({"prompt": told[0], "reference": told[1].strip(), "written": told[2].strip()})
    return samples


@torch.inference_mode()
def continued(
    model: nn.Module, prompt: Sequence[int], as_input: Callable[[NDArray[np.int64]], NDArray[np.int64]], end: int,
    longest: int, device: torch.device,
) -> list[int]:  # fmt: skip
    """Ids after the prompt, each the likeliest, up to the end token or what the model takes. `as_input`: of ids."""
    ids = list(prompt)
    while len(ids) < min(longest, len(prompt) + MOST_TOKENS):
        tokens_1T = torch.from_numpy(as_input(np.array(ids, dtype=np.int64)))[None].to(device)
        likeliest = int(model(tokens_1T)[0, -1].argmax())
        if likeliest == end:
            break
        ids.append(likeliest)
    return ids[len(prompt) :]


def text_and_places(source: Source) -> tuple[TextSource, NDArray[np.int64]] | None:
    """The text within a source, and which of its samples the source gives; None where there is none within."""
    if isinstance(source, TextSource):
        return source, np.arange(len(source))
    within = getattr(source, "wraps", None)
    found = text_and_places(within) if within is not None else None
    if found is None or not hasattr(source, "indices"):
        return found
    return found[0], found[1][source.indices]
