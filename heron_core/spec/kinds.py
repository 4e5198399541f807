"""What settings are made of: the base of every table, and the kinds of numbers in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from heron_core.class_names import normal, problem_of

Flag = Annotated[bool, Strict()]
Positive = Annotated[int, Strict(), Field(ge=1)]
Count = Annotated[int, Strict(), Field(ge=0)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1)]
Share = Annotated[float, Strict(), Field(gt=0, lt=1)]
PlaceInFolder = Annotated[str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$")]
"""Of a file or folder, by its path in each side's data folder; nothing outside of that can be named. Or empty."""
Fingerprint = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
"""A SHA-256 in hexadecimal, or empty."""


def _composed(names: tuple[str, ...]) -> tuple[str, ...]:
    if problem := problem_of(names):
        raise ValueError(problem)
    return tuple(map(normal, names))


ClassNames = Annotated[tuple[str, ...], AfterValidator(_composed)]
"""Of the labels 0, 1, ..., in Unicode's composed form; all different."""


class Settings(BaseModel):
    """Base of every settings table: immutable, no unknown keys, no silent number-from-text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
