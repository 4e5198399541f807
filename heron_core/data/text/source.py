"""Samples of text as a source: token ids, and the id that follows each of them where it counts.

Shape letters: B samples in a batch, N samples in the source, T positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.adapted import padded
from heron_core.data.skipped import Skipped, tally
from heron_core.data.source import Batch
from heron_core.data.text.sample import Sample, packed
from heron_core.data.text.shifts import swapped
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError
from heron_core.labels import IGNORED

if TYPE_CHECKING:
    from heron_core.data.contract import InputContract
    from heron_core.spec.text import TextSpec

CUT = "texts longer than the model's context, whose end was left out"
NOTHING_LEFT = "texts of which the model's context leaves nothing to learn"


class TextSource:
    """Samples of differing length; a batch is as long as its longest.

    Raises DataError where no sample is left, or the tokeniser gives ids that the model does not know.
    """

    def __init__(
        self, samples: Iterable[Sample], tokenizer: Tokenizer, spec: TextSpec, tokens: TensorSpec, kind: str,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        """`tokens`: the model's input. `skipped`: why and where, of what was passed over before."""
        found, short = _fitted(samples, spec, tokens.shape[0])
        lost = tally([*skipped, *short])
        if not found:
            raise DataError(f"{kind}: no sample is left to learn from{f'; {lost}' if lost else ''}; check data.path")
        _check_vocabulary(found, tokens, tokenizer)
        self._ids = np.concatenate([sample.ids for sample in found])
        self._counted = np.concatenate([sample.counted for sample in found])
        self._ends = np.cumsum([len(sample.ids) for sample in found])
        self.lengths: NDArray[np.int64] = np.diff(self._ends, prepend=0) - 1
        """Positions of each sample [N]."""
        number = {group: n for n, group in enumerate(dict.fromkeys(sample.group for sample in found))}
        self.groups: Array | None = np.array([number[s.group] for s in found]) if any(number) else None
        """The number of each sample's group, where the data says it."""
        self.skipped: Skipped = tally([*skipped, *(each for each in short if each[0] == NOTHING_LEFT)])
        self.changed: Skipped = tally(each for each in short if each[0] == CUT)
        self.stored_dtypes, self.tokenizer, self.longest = ("text",), tokenizer, tokens.shape[0]
        self.contract = contract_of_text(tokens, tokenizer, kind)
        self._swap = swapped(tokens.count, tokenizer) if spec.shift == "swapped" else None

    @property
    def labels(self) -> Array:
        """int64 [N, T], T of the longest: the token that follows, IGNORED where none counts."""
        return self.batch(np.arange(len(self)))[1]

    def __len__(self) -> int:
        return len(self._ends)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Tokens int64 [B, T], padded by 0, and labels int64 [B, T], padded by IGNORED; T of the longest of them."""
        places = [self._place(int(i)) for i in indices]
        ids = [self._ids[place].astype(np.int64) for place in places]
        labels = [np.where(self._counted[p][1:], each[1:], IGNORED) for p, each in zip(places, ids, strict=True)]
        tokens = [self.as_input(each[:-1]) for each in ids]
        return (padded(tokens, 0),), padded(labels, IGNORED)

    def as_input(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the model is given for these ids."""
        return ids if self._swap is None else self._swap[ids]

    def prompt_and_rest(self, i: int) -> tuple[list[int], list[int]]:
        """The ids of sample i before the first that counts (one at least), and those after."""
        place = self._place(i)
        first = max(1, int(self._counted[place].argmax()))
        ids = self._ids[place].tolist()
        return ids[:first], ids[first:]

    def _place(self, i: int) -> slice:
        end = int(self._ends[i])
        return slice(end - int(self.lengths[i]) - 1, end)


def contract_of_text(tokens: TensorSpec, tokenizer: Tokenizer, kind: str) -> InputContract:
    """Ids by this tokeniser, as it is known by its fingerprint."""
    from heron_core.data.contract import InputContract, StoredInput  # and pydantic

    given = StoredInput(
        name=tokens.name, shape=tokens.shape, variable=tokens.variable, layout=f"[B, up to {tokens.shape[0]}]",
        stored="int64", dtype=tokens.dtype, tokenizer=tokenizer.sha256, note="ids of the model's own tokeniser",
    )  # fmt: skip
    return InputContract(source=kind, inputs=(given,))


def _fitted(samples: Iterable[Sample], spec: TextSpec, length: int) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Samples of at most `length` positions; and of those that were longer what became of them, and where they were."""
    if spec.packing:
        return [piece for piece in packed(samples, length) if piece.learns], []
    kept, short = [], []
    for sample in samples:
        if len(sample.ids) > length + 1:
            if spec.too_long == "refuse":
                raise DataError(
                    f"{sample.place}: {len(sample.ids) - 1} tokens, the model takes {length}; shorten the text, or set "
                    'data.text.too_long = "cut" in the run file'
                )
            sample = sample.part(0, length + 1)
            short.append((CUT if sample.learns else NOTHING_LEFT, sample.place))
        if sample.learns:
            kept.append(sample)
    return kept, short


def _check_vocabulary(samples: Sequence[Sample], tokens: TensorSpec, tokenizer: Tokenizer) -> None:
    for sample in samples:
        if tokens.count and (most := int(sample.ids.max())) >= tokens.count:
            raise DataError(
                f"{sample.place}: the tokeniser in {tokenizer.folder} gives the id {most}, the model knows 0 to "
                f"{tokens.count - 1}: it is another model's; name the folder of this one in data.text.tokenizer"
            )
