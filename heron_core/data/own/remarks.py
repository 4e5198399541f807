"""What a person should know of his own data although it can be used: passed over, changed, or on an odd scale."""

from __future__ import annotations

import numpy as np

from heron_core.data.facts import DataFacts, InputFacts, changed_of, class_names_of
from heron_core.data.source import Source
from heron_core.labels import LabelSpec

BYTE, SIXTEEN_BITS = 255, 65535
DIM = 0.25
"""Pixels whose range is less than this eighth of -1..1 are hardly pixels."""
LARGE = 1000.0


def doubts(source: Source, facts: DataFacts, labels: LabelSpec) -> list[str]:
    """What is probably a mistake, a line each. Reads no sample."""
    said = [text for each in facts.inputs if (text := _scale(each))]
    if text := _first_class(source, labels):
        said.append(text)
    return said


def notes(source: Source, facts: DataFacts) -> list[str]:
    """What was passed over, and what was changed in the samples that were read so far, a line each."""
    passed_over = [f"passed over {facts.skipped}"] if facts.skipped else []
    changed = changed_of(source)
    return passed_over + ([f"changed, of the samples that were read: {changed}"] if changed else [])


def _scale(found: InputFacts) -> str | None:
    low, high, name = min(found.low), max(found.high), found.name
    if low == high:
        return f"all values of {name} are {low:g}: nothing can be learned from it"
    if found.stored_dtype == "uint8":
        if high - low >= DIM:
            return None
        return (
            f"{name} is uint8, which is taken for pixels in 0..255, and uses {(high - low) * BYTE / 2:.0f} of these "
            "steps only; spread the values over 0..255, or store floating point"
        )
    if not found.stored_dtype.startswith("float"):
        return None
    white = BYTE if high <= BYTE else SIXTEEN_BITS
    if len(found.shape) == 3 and low >= 0 and 1.5 < high <= SIXTEEN_BITS:
        return (
            f"{name} is floating point from {low:g} to {high:g} and is taken as it is, where pixels in uint8 become "
            f"-1..1; store uint8, or make it ((x / {white} - 0.5) / 0.5).astype(numpy.float32)"
        )
    if max(abs(low), abs(high)) > LARGE:
        return (
            f"{name} holds values from {low:g} to {high:g}; models hardly learn from such: bring each column to mean 0 "
            "and standard deviation 1, by figures that all clients share"
        )
    return None


def _first_class(source: Source, labels: LabelSpec) -> str | None:
    if not labels.classes or class_names_of(source):
        return None
    low = int(np.min(source.labels))
    if low == 0:
        return None
    return f"no label is 0, the lowest is {low}; if your classes are numbered from 1, make it y - 1"
