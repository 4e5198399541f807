"""How the rows of a table become samples: part of the run, so that every client and the server do the same."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from heron_core.spec.kinds import Count, Finite, PositiveFloat, Settings

Name = Annotated[str, Field(min_length=1, max_length=200)]
MOST_INPUTS = 65_536


class ColumnSpec(Settings):
    name: Name
    """As in the file's first line."""
    mean: Finite = 0.0
    """Subtracted from each number. The run's own figure: no client takes that of its own rows."""
    std: PositiveFloat = 1.0
    """What is left is divided by it."""
    levels: tuple[Name, ...] = ()
    """The values of a column of words, each an input of 0 or 1. Empty: the column holds numbers."""

    @model_validator(mode="after")
    def _either_numbers_or_levels(self) -> Self:
        if self.levels and (self.mean, self.std) != (0.0, 1.0):
            raise ValueError(f"column {self.name!r} has levels, which no mean and std are taken of; remove either")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"column {self.name!r} lists a level twice; remove one")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the model gets of it: `age`, or `sex=f` and `sex=m`."""
        return tuple(f"{self.name}={level}" for level in self.levels) or (self.name,)


class TableSpec(Settings):
    columns: tuple[ColumnSpec, ...] = ()
    """The model's inputs, in this order: `{ name = "age", mean = 48.5, std = 13.1 }` for numbers, `{ name = "sex",
    levels = ["f", "m"] }` for words. `heron-client columns FILE` writes them from one file."""
    target: str = ""
    """The column of labels: a class by its name in data.class_names (else its number), or a regression's number."""
    target_mean: Finite = 0.0
    """Subtracted from a regression's label."""
    target_std: PositiveFloat = 1.0
    """What is left of it is divided by this: losses and errors are then in this unit."""
    group: str = ""
    """The column that says whose row it is: no window spans two groups, and data.holdout_by = "group" keeps each whole.
    Empty: none."""
    window: Count = 0
    """Rows of one sample, in the file's order, as [columns, window]; its label is its last row's. 0: a row a sample."""
    step: Count = 0
    """Rows from one window's start to the next one's. 0: as many as a window has, so that none overlap."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [column.name for column in self.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"columns names {', '.join(twice)} twice; remove one")
        if bool(names) != bool(self.target):
            raise ValueError("columns and target belong together; give both (`heron-client columns FILE` writes them)")
        if self.target in names:
            raise ValueError(f"target = {self.target!r} is among the columns, and the answer is no input; remove it")
        if len(self.inputs) > MOST_INPUTS:
            raise ValueError(f"columns give a row {len(self.inputs):,} numbers, {MOST_INPUTS:,} at most; name fewer")
        if self.step and not self.window:
            raise ValueError(f"step = {self.step} is between windows, and window is not set; set it, or remove step")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the numbers that a row gives the model."""
        return tuple(name for column in self.columns for name in column.inputs)

    @property
    def overlaps(self) -> bool:
        """Do windows share rows?"""
        return 0 < self.step < self.window
