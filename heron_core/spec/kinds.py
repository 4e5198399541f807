"""What settings are made of: the base of every table, and the kinds of numbers in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

Flag = Annotated[bool, Strict()]
Positive = Annotated[int, Strict(), Field(ge=1)]
Count = Annotated[int, Strict(), Field(ge=0)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of every settings table: immutable, no unknown keys, no silent number-from-text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
