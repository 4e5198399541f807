"""Model, data and test set that were given to `simulate` as objects, behind names that settings can hold.

The names mean something only while that simulation goes on, and only within it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import nn

from heron_core.errors import ConfigError, ModelError

MODEL, DATA, TEST = (f"{__name__}:{name}" for name in ("model", "data", "test"))
"""As in model.name, in data.source of a client, and in server.test_data."""


@dataclass(frozen=True)
class Given:
    """The objects of one simulation."""

    model: object = None
    """A SplitModel, a CutModule, or a function that returns one."""
    data: tuple[object, ...] = ()
    """Of each client: a dataset, a source, or (x, y)."""
    test: object = None


_now: ContextVar[Given] = ContextVar("given")


def as_given(model: object, data: object, test: object) -> Given:
    """What `simulate` was called with. ModelError, ConfigError: it cannot be a model, or one entry for each client."""
    if isinstance(model, nn.Module):
        raise ModelError(
            f"model: a {type(model).__name__} says nothing of its cut, and each part is built anew from the seed; give "
            'CutModule(lambda: network(), cut="...", input_shape=(...), classes=...) from heron_core.models'
        )
    if data is not None and not isinstance(data, list):
        raise ConfigError(
            "data wants a list with one entry for each client, as in [(x0, y0), (x1, y1)] or [dataset0, dataset1]; got "
            f"a {type(data).__name__}"
        )
    return Given(model, tuple(data or ()), test)


@contextmanager
def handed_over(given: Given) -> Iterator[None]:
    """The names mean these objects in the block."""
    token = _now.set(given)
    try:
        yield
    finally:
        _now.reset(token)


def code_name(model: object) -> str:
    """The name by which a model, or its factory, is found: its own where it has one that others can import."""
    module, name = getattr(model, "__module__", ""), getattr(model, "__qualname__", "")
    importable = module != "__main__" and getattr(sys.modules.get(module), name, None) is model
    return f"{module}:{name}" if callable(model) and name.isidentifier() and importable else MODEL


def model(**options: object) -> object:
    """What was given as `model`; a function is called with model.options."""
    try:
        made = _now.get().model
    except LookupError:
        raise ModelError(
            "this model was given to simulate() as an object, and no name leads to its code; load what heron-server "
            "export writes into a module of your own, or give simulate() a function from a module that can be imported"
        ) from None
    if not callable(made) and options:
        raise ModelError(f"model.options is for a function, simulate() was given a {type(made).__name__}; remove it")
    return made(**options) if callable(made) else made


def data(client: int) -> object:
    """What was given in this place of `data`."""
    return _now.get().data[client]


def test() -> object:
    """What was given as `test`."""
    return _now.get().test
