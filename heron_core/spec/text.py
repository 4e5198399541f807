"""How text becomes the tokens that a language model takes: part of the run, so that every client does the same."""

from __future__ import annotations

from typing import Literal

from heron_core.spec.kinds import Count, Fingerprint, Flag, PlaceInFolder, Settings


class TextSpec(Settings):
    tokenizer: PlaceInFolder = ""
    """The folder with the tokeniser (tokenizer.json, and tokenizer_config.json beside it), by its path in each side's
    data folder. Empty: model.base."""
    tokenizer_sha256: Fingerprint = ""
    """Fingerprint that this tokeniser must have on each side; the message about another one names it. Empty: any.
    Clients with data of their own are compared at the door in any case."""
    too_long: Literal["cut", "refuse"] = "cut"
    """What becomes of a text that is longer than the model's context. cut: its end is left out, and a sample of which
    nothing is left to learn is passed over; both are counted. refuse: the first such line is named."""
    packing: Flag = False
    """Samples stand end to end, each closed by the end token, and are cut to pieces of the model's length: nothing is
    padded, but a piece sees the sample before it. Plain text is always packed."""
    by_length: Count = 0
    """Batches of samples that are alike in length: so many batches of the shuffled order at a time are sorted by length
    and dealt out again, in an order drawn by the seed. Less padding; the batches are no longer drawn independently.
    0: off."""
    shift: Literal["none", "codes", "swapped"] = "none"
    """With e2e and restaurants, how the clients' input differs from the text that the model was trained on. codes: a
    code such as k3v9 stands for each name and value of the prompt, not of the answer. swapped: each input token is
    replaced by another, by one permutation of the vocabulary; what is to be predicted stays. Alike for every seed."""
