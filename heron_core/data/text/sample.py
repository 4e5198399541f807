"""What one sample of text is: its ids, and which of them are to be learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.data.text.chat import turns
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError


@dataclass(frozen=True)
class Sample:
    """Ids int32 [n], and for each of them whether predicting it counts, bool [n]."""

    ids: NDArray[np.int32]
    counted: NDArray[np.bool_]
    place: str
    """`line 7`, for messages."""
    group: str = ""
    """Samples of one group belong together, as references of one meaning do."""

    @property
    def learns(self) -> bool:
        """Is there a token to predict from those before it?"""
        return bool(self.counted[1:].any())

    def part(self, first: int, end: int) -> Sample:
        """The tokens first to end - 1."""
        return Sample(self.ids[first:end], self.counted[first:end], self.place, self.group)


def answer(
    tokenizer: Tokenizer, prompt: str, completion: str, place: str, *, separated: bool = False, group: str = ""
) -> Sample:
    """A prompt, of which nothing counts, then a completion and the end token, which count.

    separated: a special token stands between, and a space begins the completion, as in the GPT-2 experiments on E2E;
    else both are taken as they are. Raises DataError for an empty completion.
    """
    if not completion.strip():
        raise DataError(f"{place}: the completion is empty, and nothing else is learned from; give it or leave it out")
    before = [*tokenizer.opening, *tokenizer.ids(prompt), *([tokenizer.separator] if separated else [])]
    after = [*tokenizer.ids(f" {completion.strip()}" if separated else completion), tokenizer.end]
    return _sample(before + after, [False] * len(before) + [True] * len(after), place, group)


def plain(tokenizer: Tokenizer, text: str, place: str) -> Sample:
    """A text and the end token; all of it counts. Raises DataError for an empty text."""
    if not text.strip():
        raise DataError(f"{place}: the text is empty; leave it out")
    ids = [*tokenizer.opening, *tokenizer.ids(text), tokenizer.end]
    return _sample(ids, [True] * len(ids), place)


def chat(tokenizer: Tokenizer, messages: object, place: str) -> Sample:
    """A chat by the tokeniser's template; the assistant's turns count. Raises DataError for what is no chat."""
    text, spans = turns(tokenizer.template, tokenizer.special_texts(), messages, place)
    ids, starts = tokenizer.ids_and_starts(text)
    counted = [any(first <= start < end for first, end in spans) for start in starts]
    return _sample(ids, counted, place)


def packed(samples: Iterable[Sample], length: int) -> Iterator[Sample]:
    """The samples end to end, in pieces of `length` + 1 tokens that share one: each token but the first is predicted
    once. The last piece may be shorter."""
    ids: list[NDArray[np.int32]] = []
    counted: list[NDArray[np.bool_]] = []
    for sample in samples:
        ids.append(sample.ids)
        counted.append(sample.counted)
    if not ids:
        return
    whole = Sample(np.concatenate(ids), np.concatenate(counted), "")
    for first in range(0, len(whole.ids) - 1, length):
        yield whole.part(first, first + length + 1)


def _sample(ids: list[int], counted: list[bool], place: str, group: str = "") -> Sample:
    return Sample(np.array(ids, dtype=np.int32), np.array(counted, dtype=np.bool_), place, group)
