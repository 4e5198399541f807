"""Lines `meaning||reference`: E2E's files, and restaurants that a small grammar makes up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from heron_core.data.text.sample import Sample, answer
from heron_core.data.text.shifts import coded
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError
from heron_core.streams import generator

if TYPE_CHECKING:
    from heron_core.spec.text import TextSpec

Half = Literal["train", "test"]
MADE_UP = {"train": 600, "test": 100}
NAMES = (
    "The Copper Kettle", "Blue Heron", "Green Lantern", "The Old Mill", "Silver Spoon", "The Red Barn", "Golden Pear",
    "The Quiet Fox",
)  # fmt: skip
PLACES = ("the river", "the station", "the market", "the museum")
FOODS = ("Italian", "Japanese", "Indian", "French", "Mexican", "Greek")
PRICES = ("cheap", "moderate", "costly")
SENTENCES = (
    "{name} serves {price} {food} food near {near} .",
    "Near {near} , {name} offers {food} food at {price} prices .",
    "{name} is a {price} {food} restaurant near {near} .",
    "If you like {food} food , try {name} near {near} . It is {price} .",
)


class Pair(NamedTuple):
    """One line."""

    meaning: str
    reference: str
    place: str
    """`train.txt, line 7`."""


def samples_of(pairs: Iterator[Pair], tokenizer: Tokenizer, spec: TextSpec) -> Iterator[Sample]:
    """The loss is on the reference alone. References of one meaning are a group. Raises DataError for an empty one."""
    for meaning, reference, place in pairs:
        prompt = coded(meaning) if spec.shift == "codes" else meaning
        yield answer(tokenizer, prompt, reference, place, separated=True, group=meaning)


def e2e(folder: Path, half: Half) -> Iterator[Pair]:
    """The lines of e2e/train.txt or e2e/test.txt. Raises DataError for a missing file, and a line without ||."""
    path = folder / "e2e" / f"{half}.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); put the E2E NLG set's train.txt and test.txt there, a line each sample: "
            "meaning||reference"
        ) from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        meaning, bars, reference = line.partition("||")
        if not bars:
            raise DataError(f"{path}, line {number}: expected meaning||reference, got {line[:60]!r}; mend the file")
        yield Pair(meaning.strip(), reference.strip(), f"{path}, line {number}")


def restaurants(half: Half) -> Iterator[Pair]:
    """Descriptions that nobody has to download: the same on every machine, and none of the test's among the others."""
    every = [(n, f, p, near) for n in NAMES for f in FOODS for p in PRICES for near in PLACES]
    order = generator(0, "text", "restaurants").permutation(len(every))
    chosen = order[: len(every) // 5] if half == "test" else order[len(every) // 5 :]
    rng = generator(0, "text", "restaurants", half)
    for number, place in enumerate(rng.choice(chosen, MADE_UP[half], replace=half == "train"), 1):
        name, food, price, near = every[int(place)]
        said = SENTENCES[int(rng.integers(len(SENTENCES)))].format(name=name, food=food, price=price, near=near)
        yield Pair(f"name : {name} | food : {food} | price : {price} | near : {near}", said, f"restaurant {number}")


