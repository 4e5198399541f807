"""The input contract: how the values that a source stores become what the model is called with.

Written into model.json with the final model, so that nobody has to guess. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from heron_core.arrays import TensorSpec
from heron_core.spec.kinds import Fingerprint, Flag, Positive, PositiveFloat, Settings

MOST_COLUMNS = 65536


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not shown to anybody; leave them out")
    return text


Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
Mean = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(max_length=MOST_COLUMNS)]
Std = Annotated[tuple[PositiveFloat, ...], Field(max_length=MOST_COLUMNS)]
AS_GIVEN = "as your dataset gives it"


class StoredInput(Settings):
    """One of the model's inputs. In float32, stored values become it by (x / divide - mean) / std, in this order.

    Each step rounds once, and a step that would change nothing is left out. What the model takes as integers is taken
    as it is.
    """

    name: Text
    """As the model calls it."""
    shape: Annotated[tuple[Positive, ...], Field(max_length=16)]
    """Of one sample; where samples differ in length, `shape[0]` is the longest."""
    variable: Flag = False
    """Samples differ in length."""
    layout: Text
    """Of a batch, for people: `[B, C, H, W]`, or `[B, 13]`."""
    stored: Literal["uint8", "float32", "int64", "bool"]
    """What stored values are: float32 stands for floating point of any width, int64 for any integers."""
    dtype: Annotated[str, Field(pattern=r"^(float16|float32|float64|u?int(8|16|32|64)|bool)$")]
    """What the model takes."""
    divide: PositiveFloat = 1.0
    mean: Mean = ()
    """One for all values, or one for each place along `axis`. Empty: nothing is subtracted."""
    std: Std = ()
    """Likewise. Empty: nothing is divided by it."""
    axis: Annotated[int, Field(ge=1, le=16)] = 1
    """Of a batch: to which `columns`, and several numbers of `mean` and `std`, belong."""
    columns: Annotated[tuple[Text, ...], Field(max_length=MOST_COLUMNS)] = ()
    """Names of the places along `axis`, where they have names."""
    tokenizer: Fingerprint = ""
    """Of the tokeniser whose ids these are, where the source stores text."""
    note: Text = ""
    """What the source does before, for people: `resized to 32 x 32`."""

    @property
    def is_plain(self) -> bool:
        """Are stored values the model's, but for their width?"""
        return self.divide == 1.0 and not self.mean and not self.std

    @property
    def formula(self) -> str:
        """`(x / 255 - 0.5) / 0.5`; several numbers are called mean and std, as in model.json."""
        text = self.name if self.divide == 1.0 else f"{self.name} / {self.divide:g}"
        if self.mean:
            text = f"({text} - {_named(self.mean, 'mean')})"
        return f"{text} / {_named(self.std, 'std')}" if self.std else text

    def __str__(self) -> str:
        """`x: uint8 [B, 3, 32, 32] becomes float32 by (x / 255 - 0.5) / 0.5`."""
        came = TensorSpec(self.name, self.shape, self.stored, self.variable)
        how = "taken as it is" if self.is_plain else f"becomes {self.dtype} by {self.formula}"
        return f"{self.name}: {came.dtype} {_layout(came)} {how}{f', {self.note}' if self.note else ''}"

    @model_validator(mode="after")
    def _fits_shape(self) -> Self:
        places = self.shape[self.axis - 1] if self.axis <= len(self.shape) else 0
        for what, given in {"mean": self.mean, "std": self.std, "columns": self.columns}.items():
            if len(given) not in (0, places) and not (len(given) == 1 and what != "columns"):
                raise ValueError(f"{what} must have {places} entries, as axis {self.axis} has places, got {len(given)}")
        if not self.is_plain and self.dtype != "float32":
            raise ValueError(f"only what the model takes as float32 is scaled, {self.name} is {self.dtype}")
        return self


class InputContract(Settings):
    """Of all of a model's inputs, in its order."""

    source: Text = ""
    """digits, cifar10, image_folder, npz, ...; empty for your own dataset."""
    inputs: Annotated[tuple[StoredInput, ...], Field(min_length=1, max_length=64)]

    def __str__(self) -> str:
        return "; ".join(map(str, self.inputs))


def contract_of(source: object, inputs: Sequence[TensorSpec], kind: str = "") -> InputContract:
    """What a source says by its attribute `contract`, or by `normalisation` and `prepares` where it stores pixels.

    One that says neither gives the model's inputs as they are stored. `kind`: as in data.source. A source that stands
    around another has it as `wraps`: the innermost is asked.
    """
    kind = "" if ":" in kind else kind  # a user's own code, whose name is nobody else's business
    while (within := getattr(source, "wraps", None)) is not None:
        source = within
    given, normalisation = getattr(source, "contract", None), getattr(source, "normalisation", None)
    if isinstance(given, InputContract):
        return given
    if normalisation is None:
        return as_given(inputs, kind, "" if kind else AS_GIVEN)
    note = getattr(source, "prepares", "")
    return of_pixels(inputs[0], kind, normalisation.mean, normalisation.std, note=note)


def as_given(inputs: Sequence[TensorSpec], source: str = "", note: str = AS_GIVEN) -> InputContract:
    """Of a source that scales nothing: floating point and integers, as the model takes them."""
    return InputContract(source=source, inputs=tuple(_plain(spec, note) for spec in inputs))


def of_pixels(
    spec: TensorSpec, source: str, mean: Sequence[float] = (), std: Sequence[float] = (), *, divide: float = 255.0,
    note: str = "",
) -> InputContract:  # fmt: skip
    """Of uint8 values, such as images [B, C, H, W], that become float32: one mean and std, or one for each channel.

    A mean of 0 and a std of 1 change nothing, and are left out.
    """
    mean, std = (mean if any(mean) else ()), (std if any(value != 1 for value in std) else ())
    layout = "[B, C, H, W]" if len(spec.shape) == 3 else _layout(spec)
    given = StoredInput(
        name=spec.name, shape=spec.shape, layout=layout, stored="uint8", dtype="float32", divide=divide,
        mean=tuple(mean), std=tuple(std), note=note,
    )  # fmt: skip
    return InputContract(source=source, inputs=(given,))


def _plain(spec: TensorSpec, note: str) -> StoredInput:
    kind = np.dtype(spec.dtype).kind
    stored: Literal["float32", "bool", "int64"] = "float32" if kind == "f" else "bool" if kind == "b" else "int64"
    return StoredInput(
        name=spec.name, shape=spec.shape, variable=spec.variable, layout=_layout(spec), stored=stored, dtype=spec.dtype,
        note=note,
    )  # fmt: skip


def _layout(spec: TensorSpec) -> str:
    """`[B, 3, 32, 32]`, or `[B, up to 80]`."""
    inner = str(spec).partition(" [")[2]
    return f"[B, {inner}" if spec.shape else "[B]"


def _named(values: Sequence[float], name: str) -> str:
    return f"{values[0]:g}" if len(values) == 1 else name
