"""Instruments modules as they are imported, and raises one exception at one point, the first time it is reached."""

from __future__ import annotations

import builtins
import functools
import importlib.abc
import importlib.machinery
import inspect
import io
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import points

CLIENT_THREAD = "client-"
"""How the threads of clients begin their names: nothing is raised in one, for these are not the server's."""


class Faults:
    """What is raised where. One fault at a time; the rest of the process goes on."""

    def __init__(self) -> None:
        self._armed: tuple[str, Exception] | None = None
        self.raised = False
        """Has the armed exception come up?"""
        self.reached: set[str] = set()
        """Points that were passed since the last `arm`."""
        self.nothing: set[str] = set()
        """Points where what was handed over or written to was no function, path or stream."""

    def arm(self, point: str | None, error: Exception | None = None) -> None:
        """The next time that `point` is reached, `error` is raised there."""
        self._armed = (point, error) if point is not None and error is not None else None
        self.raised, self.reached = False, set()

    def reach(self, point: str) -> bool:
        """The place `point` is passed."""
        if threading.current_thread().name.startswith(CLIENT_THREAD):
            return True
        self.reached.add(point)
        armed = self._armed
        if armed is not None and armed[0] == point:
            self._armed, self.raised = None, True
            raise armed[1]
        return True

    def handed(self, point: str, value: Any) -> Any:
        """A function that is handed over: the point is reached when it is called."""
        if not inspect.isroutine(value) and not isinstance(value, functools.partial):
            self.nothing.add(point)
            return value
        if inspect.iscoroutinefunction(value):

            async def wrapped(*args: Any, **options: Any) -> Any:
                self.reach(point)
                return await value(*args, **options)

            return wrapped

        def called(*args: Any, **options: Any) -> Any:
            self.reach(point)
            return value(*args, **options)

        return called

    def task(self, point: str, coroutine: Any) -> Any:
        """A coroutine that is handed over: the point is its beginning."""
        if not inspect.iscoroutine(coroutine):
            self.nothing.add(point)
            return coroutine
        return self._task(point, coroutine)

    async def _task(self, point: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            self.reach(point)
        except BaseException:
            coroutine.close()
            raise
        return await coroutine

    def each(self, point: str, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The point is reached before each message."""
        return _Each(lambda: self.reach(point), messages)

    def write(self, point: str, target: Any) -> Any:
        """What is written to or changed on the disk."""
        if isinstance(target, Path | io.IOBase | types.ModuleType) or hasattr(target, "savefig"):
            self.reach(point)
        else:
            self.nothing.add(point)
        return target


class _Each:
    def __init__(self, reach: Callable[[], object], messages: AsyncIterator[Any]) -> None:
        self._reach, self._messages = reach, messages

    def __aiter__(self) -> _Each:
        return self

    async def __anext__(self) -> Any:
        self._reach()
        return await anext(self._messages)


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        tree, _ = points.instrumented(fullname, Path(path).read_text())
        code: types.CodeType = compile(tree, path, "exec")
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self._modules = points.modules()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def install() -> Faults:
    """Instruments what is imported from now on."""
    assert not any(name in sys.modules for name in points.modules()), "the product is imported already"
    faults = Faults()
    calls = {"reach": faults.reach, "handed": faults.handed, "task": faults.task, "each": faults.each,
             "write": faults.write}  # fmt: skip
    for name, call in calls.items():
        setattr(builtins, f"heron_{name}", call)
    sys.meta_path.insert(0, _Finder())
    return faults
