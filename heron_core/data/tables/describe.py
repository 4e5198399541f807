"""What the columns of one file hold: the table that a run file then gives to every client."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from heron_core.data.tables.table import MISSING, Table, number, text
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.spec.table import ColumnSpec, TableSpec

MOST_LEVELS = 50
"""A column of more words than this names its rows rather than describing them."""
FEW_NUMBERS = 20
"""A target of so many different whole numbers is a class, of more a number."""


@dataclass(frozen=True)
class Described:
    """What was found."""

    table: TableSpec
    labels: LabelSpec
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]
    """One sentence for each column that is no input."""

    def __str__(self) -> str:
        """As TOML, for the run file."""
        columns = "".join(f"    {_inline(column)},\n" for column in self.table.columns)
        classes = len(self.class_names)
        scaled = {"target_mean": self.table.target_mean, "target_std": self.table.target_std}
        lines = [
            "[model]",
            'name = "mlp"',
            'auxiliary = "flatten_linear"',
            f"input_shape = [{len(self.table.inputs)}]",
            f"classes = {classes}" if classes else 'task = "regression"\nclasses = 1',
            "",
            "[data]",
            'source = "client"',
            *([f"class_names = {json.dumps(self.class_names, ensure_ascii=False)}"] if classes else []),
            "",
            "[data.table]",
            f"target = {_quoted(self.table.target)}",
            *([] if classes else [f"{key} = {_toml(value)}" for key, value in scaled.items()]),
            *([f"group = {_quoted(self.table.group)}"] if self.table.group else []),
            f"columns = [\n{columns}]",
            *(f"# {sentence}" for sentence in self.left_out),
        ]
        return "\n".join(lines)


def described(table: Table, target: str = "", group: str = "", decimal: str = ".") -> Described:
    """`target`: empty for the last column. Raises DataError for a column that is not there, or a target of no use."""
    target = target or table.names[-1]
    table.need([target, *([group] if group else [])])
    columns = {name: _Column(decimal) for name in table.names if name != group and name not in table.unfit}
    for _, values in table.rows(list(columns)):
        for column, value in zip(columns.values(), values, strict=True):
            column.add(value)
    left_out, inputs = [f"{name} is left out: it {reason}" for name, reason in table.unfit.items()], []
    for name, column in columns.items():
        if name != target and (reason := column.useless):
            left_out.append(f"{name} is left out: {reason}")
        elif name != target:
            inputs.append(column.spec(name))
    _check_target(target, columns[target])
    if not inputs:
        raise DataError(f"{table.path} has no column that a model could learn from beside {target}; add some")
    return _with_target(target, columns[target], group, inputs, left_out)


def _check_target(target: str, column: _Column) -> None:
    if problem := column.useless:
        raise DataError(f"{target} is the target, and {problem}; name another column by --target")


def _with_target(
    target: str, column: _Column, group: str, inputs: Sequence[ColumnSpec], left_out: Sequence[str]
) -> Described:
    if column.is_class:
        names = tuple(sorted(column.words, key=None if column.words_only else column.value))
        spec = TableSpec(columns=tuple(inputs), target=target, group=group)
        return Described(spec, LabelSpec(count=len(names)), names, tuple(left_out))
    found = column.spec(target)
    spec = TableSpec(columns=tuple(inputs), target=target, target_mean=found.mean, target_std=found.std, group=group)
    return Described(spec, LabelSpec((1,), "float32"), (), tuple(left_out))


@dataclass
class _Column:
    """Running figures of one column: numbers as long as all of its values are some, and its different words."""

    decimal: str
    numbers: array[float] = field(default_factory=lambda: array("d"))
    words: set[str] = field(default_factory=set)
    count: int = 0
    words_only: bool = False

    def add(self, value: object) -> None:
        word = text(value)
        if word is None or word.lower() in MISSING:
            return
        self.count += 1
        self.words_only |= isinstance(value, bool)  # true and false, as a .csv writes them
        if len(self.words) <= MOST_LEVELS:
            self.words.add(word)
        if self.words_only:
            return
        try:
            if (found := number(value, self.decimal)) is not None:
                self.numbers.append(found)
        except (ValueError, TypeError, OverflowError):
            self.words_only, self.numbers = True, array("d")

    @property
    def useless(self) -> str:
        """Why no model learns from it; empty where one may."""
        if not self.count:
            return "it holds no value"
        if len(self.words) == 1:
            return "it is the same in every row"
        return f"it holds more than {MOST_LEVELS} different words" if self.words_only and self._many else ""

    @property
    def is_class(self) -> bool:
        """As a target: a few words, or a few whole numbers."""
        whole = all(value.is_integer() for value in self.numbers)
        return not self._many if self.words_only else whole and len(self.words) <= FEW_NUMBERS

    def value(self, word: str) -> float:
        """Of a word of a column of numbers."""
        return number(word, self.decimal) or 0.0

    @property
    def _many(self) -> bool:
        return len(self.words) > MOST_LEVELS

    def spec(self, name: str) -> ColumnSpec:
        """Six digits of each figure: what is printed is what a run uses."""
        if self.words_only:
            return ColumnSpec(name=name, levels=tuple(sorted(self.words)))
        mean = math.fsum(self.numbers) / len(self.numbers)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in self.numbers) / len(self.numbers))
        return ColumnSpec(name=name, mean=float(f"{mean:.6g}"), std=float(f"{std:.6g}") or 1.0)


def _inline(column: ColumnSpec) -> str:
    if column.levels:
        return f"{{ name = {_quoted(column.name)}, levels = {json.dumps(column.levels, ensure_ascii=False)} }}"
    return f"{{ name = {_quoted(column.name)}, mean = {_toml(column.mean)}, std = {_toml(column.std)} }}"


def _toml(value: float) -> str:
    """TOML wants a point in a float, or an exponent."""
    written = f"{value:.6g}"
    return written if set(written) & set(".e") else f"{written}.0"


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
