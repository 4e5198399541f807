"""What makes the input unlike the text that the model was trained on: for experiments, the same for every seed."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from heron_core.data.text.tokenizer import Tokenizer
from heron_core.streams import generator

LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"


def coded(meaning: str) -> str:
    """`name : k3v9 | food : b0q4`: a code for each value of `name : Blue Spice | food : Italian`."""
    fields = (field.partition(":") for field in meaning.split("|"))
    return " | ".join(f"{key.strip()} : {code_of(value.strip())}" for key, _, value in fields)


@cache
def code_of(value: str) -> str:
    """Letter, digit, letter, digit, drawn by the value alone."""
    rng = generator(0, "text", "code", value)
    return "".join(kind[int(rng.integers(len(kind)))] for kind in (LETTERS, DIGITS, LETTERS, DIGITS))


def swapped(count: int, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """What stands for each id, [count]: a permutation that leaves the separator and the end token where they are."""
    kept = np.isin(np.arange(count), [tokenizer.separator, tokenizer.end])
    moving = np.flatnonzero(~kept)
    out = np.arange(count)
    out[moving] = generator(0, "text", "swapped").permutation(moving)
    return out
