"""Cases of a user's own dataset in Python: what a sample is made of, what its label is, and code that fails.

The factory `make` is what the client's file names, by this module's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from integration.generated_inputs import Case, pictures
from PIL import Image
from torch.utils.data import TensorDataset

Pair = Callable[[Any, int], Any]
"""(x float32 [3, 8, 8] in -1 to 1, label) -> a sample."""

SAMPLES: dict[str, tuple[Pair, bool]] = {
    "arrays": (lambda x, y: (x, y), True),
    "a list": (lambda x, y: [x, y], True),
    "tensors": (lambda x, y: (torch.from_numpy(x), torch.tensor(y)), True),
    "float64": (lambda x, y: (x.astype("f8"), y), True),
    "float16 tensors": (lambda x, y: (torch.from_numpy(x).half(), y), True),
    "bfloat16": (lambda x, y: (torch.from_numpy(x).bfloat16(), y), False),
    "a gradient": (lambda x, y: (torch.from_numpy(x).requires_grad_(), y), False),
    "a meta tensor": (lambda x, y: (torch.empty(3, 8, 8, device="meta"), y), False),
    "a sparse tensor": (lambda x, y: (torch.from_numpy(x).to_sparse(), y), False),
    "big endian": (lambda x, y: (x.astype(">f4"), y), True),
    "another order": (lambda x, y: (np.asfortranarray(x), y), True),
    "read only": (lambda x, y: (np.frombuffer(x.tobytes(), np.float32).reshape(x.shape), y), True),
    "lists of numbers": (lambda x, y: (x.tolist(), y), True),
    "a mapping": (lambda x, y: ({"input": x}, y), True),
    "a mapping with more": (lambda x, y: ({"input": x, "id": 7}, y), True),
    "a mapping of other names": (lambda x, y: ({"image": x}, y), False),
    "a mapping of all": (lambda x, y: {"x": x, "y": y}, False),
    "uint8": (lambda x, y: ((x * 127.5 + 127.5).astype("u1"), y), False),
    "0 to 255": (lambda x, y: (x * 127.5 + 127.5, y), False),
    "pictures": (lambda x, y: (Image.fromarray((x[0] * 127.5 + 127.5).astype("u1")), y), False),
    "text": (lambda x, y: ("x", y), False),
    "nothing": (lambda x, y: None, False),
    "no x": (lambda x, y: (None, y), False),
    "only x": (lambda x, y: x, False),
    "three things": (lambda x, y: (x, y, 1.0), False),
    "channels last": (lambda x, y: (x.transpose(1, 2, 0), y), False),
    "ragged": (lambda x, y: (x[:, : 4 + y], y), False),
    "NaN": (lambda x, y: (x * np.nan, y), False),
    "complex": (lambda x, y: (x.astype("c8"), y), False),
    "objects": (lambda x, y: (x.astype(object), y), False),
    "an int32 label": (lambda x, y: (x, np.int32(y)), True),
    "a label [1]": (lambda x, y: (x, np.array([y])), True),
    "a label tensor [1]": (lambda x, y: (x, torch.tensor([y])), True),
    "a uint8 label": (lambda x, y: (x, np.uint8(y)), True),
    "a bool label": (lambda x, y: (x, y > 0), False),
    "a float label": (lambda x, y: (x, float(y)), False),
    "a one-hot label": (lambda x, y: (x, np.eye(3)[y]), False),
    "a label as text": (lambda x, y: (x, str(y)), False),
    "no label": (lambda x, y: (x, None), False),
    "labels from 1": (lambda x, y: (x, y + 1), False),
    "negative labels": (lambda x, y: (x, y - 1), False),
    "huge labels": (lambda x, y: (x, 10**30), False),
}


class Failing:
    """A dataset whose `where` raises."""

    def __init__(self, where: str, error: type[BaseException]) -> None:
        self._where, self._error = where, error

    def __len__(self) -> int:
        if self._where == "len":
            raise self._error("of my own code")
        return -1 if self._where == "negative" else 36

    def __getitem__(self, i: int) -> Any:
        if self._where == "item" and i == 20:
            raise self._error("of my own code")
        x, y = pictures("a")
        return (x[i] / np.float32(127.5) - 1).astype(np.float32), int(y[i])


class Source:
    """A user's own source, with what it says changed."""

    def __init__(self, change: Callable[[Any, Any], Any], labels: Callable[[Any], Any] = lambda y: y) -> None:
        x, y = pictures("a")
        self._x, self._y, self._change = (x / np.float32(127.5) - 1).astype(np.float32), y, change
        self.labels = labels(y)

    def __len__(self) -> int:
        return len(self._y)

    def batch(self, indices: Any) -> Any:
        return self._change(self._x[indices], self._y[indices])


SOURCES: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "as it should be": (lambda x, y: ((x,), y), True),
    "a list of inputs": (lambda x, y: ([x], y), True),
    "no tuple": (lambda x, y: (x, y), False),
    "tensors": (lambda x, y: ((torch.from_numpy(x),), torch.from_numpy(y)), False),
    "float64": (lambda x, y: ((x.astype("f8"),), y), False),
    "int32 labels": (lambda x, y: ((x,), y.astype("i4")), False),
    "one sample less": (lambda x, y: ((x[1:],), y), False),
    "two inputs": (lambda x, y: ((x, x), y), False),
    "None": (lambda x, y: None, False),
    "only x": (lambda x, y: (x,), False),
}

OTHER: dict[str, Callable[[], Any]] = {
    "a list of pairs": lambda: _pairs(lambda x, y: (x, y)),
    "a TensorDataset": lambda: TensorDataset(*map(torch.from_numpy, _arrays())),
    "empty": list,
    "None": lambda: None,
    "a number": lambda: 3,
    "text": lambda: "dataset",
    "a generator": lambda: (pair for pair in []),
    "a dict": lambda: dict(enumerate(_pairs(lambda x, y: (x, y)))),
    "arrays": lambda: _arrays(),
    "the class": lambda: Failing,
    **{
        f"{error.__name__} in {where}": (lambda where=where, error=error: Failing(where, error))
        for where in ("len", "item")
        for error in (ValueError, KeyError, RuntimeError, MemoryError, AssertionError, StopIteration, SystemExit)
    },
    "a negative length": lambda: Failing("negative", ValueError),
    "labels that differ": lambda: Source(lambda x, y: ((x,), y), lambda y: y[::-1]),
    "labels that are too few": lambda: Source(lambda x, y: ((x,), y), lambda y: y[:-3]),
    "labels that are a list": lambda: Source(lambda x, y: ((x,), y), lambda y: y.tolist()),
}


def make(kind: str, name: str) -> Any:
    """What the client's file names: the dataset of this case."""
    if kind == "sample":
        return _pairs(SAMPLES[name][0])
    return Source(SOURCES[name][0]) if kind == "source" else OTHER[name]()


def fails(error: str) -> Any:
    """A factory that does not come to an end."""
    raise {"SystemExit": SystemExit, "ImportError": ImportError, "KeyError": KeyError}[error]("of my own code")


CULPRITS = (
    "Failing|Source|list|dict|tuple|NoneType|int|str|class|generator|x and y|generated_datasets|labels|samples?|input"
)
"""What a refusal names: the dataset by its type, the factory's module, or what of its samples is wrong."""


def dataset_cases() -> Iterator[Case]:
    """All of them."""
    for name, (_, equal) in SAMPLES.items():
        yield _case(f"dataset of {name}", {"kind": "sample", "name": name}, equal=equal)
    for name, (_, equal) in SOURCES.items():
        yield _case(f"source of {name}", {"kind": "source", "name": name}, equal=equal)
    for name in OTHER:
        equal = name in ("a list of pairs", "a TensorDataset")
        yield _case(f"dataset: {name}", {"kind": "other", "name": name}, equal=equal)
    for error in ("SystemExit", "ImportError", "KeyError"):
        yield _case(f"factory with {error}", {"error": error}, factory="fails", refused=True)
    yield _case("factory of another module", {}, factory="nowhere", refused=True, culprit="nowhere")
    yield _case("factory with unknown options", {"colour": "red"}, refused=True, culprit="colour")


def _case(name: str, options: dict[str, Any], factory: str = "make", **more: Any) -> Case:
    more = {"culprit": rf"^a: (?s:.)*\b({CULPRITS})\b", **more}
    table = {"source": f"integration.generated_datasets:{factory}", "options": options}
    return Case(name, lambda folder: table, **more)


def _arrays() -> tuple[Any, Any]:
    x, y = pictures("a")
    return (x / np.float32(127.5) - 1).astype(np.float32), y


def _pairs(pair: Pair) -> list[Any]:
    return [pair(x, int(y)) for x, y in zip(*_arrays(), strict=True)]
