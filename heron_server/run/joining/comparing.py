"""Are two sides' data on one scale? Pure functions of what each says of a sample of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heron_core.data.contract import InputContract
from heron_core.data.facts import DataFacts, InputFacts

REFUSED_RATIO = 16.0
"""Of the standard deviations of a whole input: 0..255 beside -1..1 is 127, other cameras and other people below 4."""
DOUBTED_RATIO = 1.8
"""0..1 beside -1..1 is 2."""
DOUBTED_SHIFT = 1.0
"""Of the mean, in the larger standard deviation."""
UNIT = {"0..1": "x", "-1..1": "(x * 0.5 + 0.5)", "0..255": "x / 255", "0..65535": "x / 65535"}
"""How values of a scale become 0..1."""


@dataclass(frozen=True)
class Doubt:
    """Why one client's data may not be what the others' is."""

    text: str
    """Both figures and the cure, one sentence."""
    refuses: bool
    """Can it not be the same scale?"""


def doubts(theirs: DataFacts, ours: DataFacts, whose: str) -> Iterator[Doubt]:
    """About each input that differs. `whose`: what `ours` is, such as `the server's test set`."""
    if doubt := _tokeniser_doubt(_tokenisers(theirs.contract), _tokenisers(ours.contract), whose):
        yield doubt
    known = {facts.name: facts for facts in ours.inputs}
    for facts in theirs.inputs:
        if facts.name in known and (doubt := _doubt(facts, known[facts.name], whose)):
            yield doubt


def _tokenisers(contract: InputContract | None) -> tuple[str, ...]:
    """Fingerprints of the tokenisers that made the inputs; nothing where none did, or nobody said it."""
    return tuple(each.tokenizer for each in contract.inputs if each.tokenizer) if contract is not None else ()


def _tokeniser_doubt(theirs: tuple[str, ...], ours: tuple[str, ...], whose: str) -> Doubt | None:
    """About texts that became ids by different tokenisers."""
    if not theirs or not ours or theirs == ours:
        return None
    short = [", ".join(each[:12] for each in side) for side in (theirs, ours)]
    return Doubt(
        f"the text became tokens by the tokeniser {short[0]} here and {short[1]} in {whose}, so that the same word is "
        "another number; copy the model's folder, tokenizer.json and all beside it, from there",
        refuses=True,
    )


def _doubt(theirs: InputFacts, ours: InputFacts, whose: str) -> Doubt | None:
    found = _difference(theirs, ours)
    if found is None:
        return None
    reason, refuses = found
    what = f"input {theirs.name!r} is {theirs} here and {ours} in {whose}: {reason}"
    return Doubt(f"{what}; {cure(theirs, ours, whose)}", refuses)


def _difference(theirs: InputFacts, ours: InputFacts) -> tuple[str, bool] | None:
    """In words, and whether it cannot be the same scale."""
    if min(theirs.low) > max(ours.high) or max(theirs.high) < min(ours.low):
        return "the two ranges do not overlap", True
    small, large = sorted((theirs.whole_std, ours.whole_std))
    if not large:
        return None
    if not small:
        return "one of the two is the same value everywhere", False
    if large / small >= REFUSED_RATIO:
        return f"the standard deviations differ {large / small:.0f} times", True
    if large / small >= DOUBTED_RATIO:
        return f"the standard deviations differ {large / small:.1f} times", False
    shift = abs(theirs.whole_mean - ours.whole_mean) / large
    return (f"the means are {shift:.1f} standard deviations apart", False) if shift > DOUBTED_SHIFT else None


def cure(theirs: InputFacts, ours: InputFacts, whose: str) -> str:
    """What to do about it: exact where both are on scales that are in use."""
    mine, wanted = scale_of(theirs), scale_of(ours)
    pixels = len(theirs.shape) > 2 or "uint8" in (theirs.stored_dtype, ours.stored_dtype)
    if mine == wanted or not mine or not wanted or not pixels:
        return f"give both the same unit and scale, as {whose} has it"
    if wanted == "-1..1":
        stored = "store uint8, or " if ours.stored_dtype == "uint8" and mine == "0..255" else ""
        return f"{stored}save ({UNIT[mine]} - 0.5) / 0.5"
    factor = {"0..1": "", "0..255": " * 255", "0..65535": " * 65535"}[wanted]
    raw = "x.astype(numpy.float32)" if theirs.stored_dtype == "uint8" and wanted == "0..255" else UNIT[mine] + factor
    return f"save {raw}, or let {whose} be saved as ({UNIT[wanted]} - 0.5) / 0.5"


def scale_of(facts: InputFacts) -> str:
    """The scale that such values are usually on; empty where they are on none that is known by its range."""
    low, high = min(facts.low), max(facts.high)
    if low < 0:
        return "-1..1" if low >= -1 and high <= 1 else ""
    return next((scale for scale, end in (("0..1", 1), ("0..255", 255), ("0..65535", 65535)) if high <= end), "")
