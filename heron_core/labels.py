"""What a label is, and whether an array holds such labels.  NumPy only: clients and server check by the same rule."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.arrays import Array, TensorSpec

IGNORED = -100
"""The label of a position that does not count: padding, and whatever a user masks."""


@dataclass(frozen=True)
class LabelSpec:
    """The labels of one sample."""

    shape: tuple[int, ...] = ()
    dtype: str = "int64"
    variable: bool = False
    """As in TensorSpec."""
    count: int = 0
    """Integer labels lie in 0 to count - 1. 0: any value."""
    maskable: bool = False
    """May a position be IGNORED?"""

    @property
    def tensor(self) -> TensorSpec:
        """As it travels, after the activations."""
        return TensorSpec("labels", self.shape, self.dtype, self.variable, self.count)

    @property
    def classes(self) -> int:
        """How many classes, where a sample's label is one class; else 0."""
        return self.count if self.shape == () and self.dtype == "int64" else 0

    def problem(self, labels: Array) -> str | None:
        """Why these labels [B, ...] cannot be used, as the end of a sentence; None where they can."""
        if not self.tensor.fits(labels):
            return f"labels must be {self} for each sample, got {labels.dtype} {list(labels.shape[1:])}"
        if labels.dtype.kind == "f":
            problem = self.tensor.finite_problem(labels)
            return f"labels {problem}" if problem else None
        problem = self.tensor.range_problem(labels[labels != IGNORED] if self.maskable else labels)
        ignored = f" ({IGNORED} does not count)" if self.maskable else ""
        return f"labels {problem}{ignored}" if problem else None

    def __str__(self) -> str:
        """`one int64 class in 0..9`, `float32 [1]`, or `int64 [up to 80] in 0..29, or -100 where none counts`."""
        what = "one int64 class" if self.classes else str(self.tensor)
        span = f" in 0..{self.count - 1}" if self.count else ""
        return f"{what}{span}{f', or {IGNORED} where none counts' if self.maskable else ''}"
