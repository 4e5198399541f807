"""The points at which a fault is injected, found in the code: awaits, callbacks, observers' methods and writes.

One pass over a module's syntax tree both lists its points and puts a call at each; so the list cannot differ from what
is instrumented. The calls are built-in names that hook.py defines:

    await X                     (await X) if heron_reach(point) else None
    async for x in Y            async for x in heron_each(point, Y)
    f(callback)                 f(heron_handed(point, callback))       a function, method, lambda or partial
    create_task(coroutine())    create_task(heron_task(point, coroutine()))
    path.write_text(...)        heron_write(point, path).write_text(...)
    def event(self): ...        def event(self): heron_reach(point); ...    in a subclass of Observer

Which names are functions is looked up by name in all of the server's code, so an argument may be taken for a callback
that is none; at run time it shows, and hook.py says which these are.
"""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[3]
SERVER, CORE = "heron_server", "heron_core"
NOT_OF_A_RUN = ("heron_server.cli", "heron_server.__main__", "heron_server.demo")
"""The command line, and what starts processes of its own: no part of a server that runs."""

Kind = Literal["await", "callback", "observer", "write"]
Function = ast.FunctionDef | ast.AsyncFunctionDef

PATH_WRITES = {
    "chmod", "mkdir", "rename", "rmdir", "symlink_to", "touch", "truncate", "unlink", "write_bytes", "write_text",
}  # fmt: skip
STREAM_WRITES = {"flush", "write", "writelines"}
OS_WRITES = {"fsync", "makedirs", "remove", "rmtree", "savefig"}
WRITES = PATH_WRITES | STREAM_WRITES | OS_WRITES
WRITING_FUNCTIONS = {"print", "rmtree", "save_file"}
MODES_THAT_WRITE = set("awx+")
LIBRARY_METHODS = {
    name
    for kind in (asyncio.Queue, asyncio.Event, asyncio.AbstractEventLoop, threading.Event)
    for name in vars(kind)
    if not name.startswith("_")
}


@dataclass(frozen=True, order=True)
class Point:
    """One place in the code at which an exception can come up."""

    module: str
    line: int
    column: int
    kind: Kind
    text: str

    @property
    def name(self) -> str:
        """Unique over all modules, and the same in every process."""
        return f"{self.module}:{self.line}:{self.column} {self.kind}"

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.kind}: {self.text}"


def modules() -> dict[str, Path]:
    """The modules that are instrumented: the server's, and core's, of which only the writes are."""
    found = {}
    for package in (SERVER, CORE):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name not in NOT_OF_A_RUN and ".pb." not in name:
                found[name] = path
    return found


@cache
def every_point() -> tuple[Point, ...]:
    """All points of all modules, in order."""
    return tuple(sorted(point for name, path in modules().items() for point in instrumented(name, path.read_text())[1]))


def instrumented(module: str, source: str) -> tuple[ast.Module, list[Point]]:
    """The module's tree with a call at each of its points, and the points."""
    pass_over = _Instrument(module, *_function_names())
    tree = pass_over.visit(ast.parse(source))
    return ast.fix_missing_locations(tree), pass_over.points


@cache
def _function_names() -> tuple[frozenset[str], frozenset[str]]:
    """Names of the server's methods, but for properties, and of its coroutine functions."""
    methods, coroutines = set(LIBRARY_METHODS), set()
    for name, path in modules().items():
        if not name.startswith(SERVER):
            continue
        tree = ast.parse(path.read_text())
        coroutines |= {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
        for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            methods |= {f.name for f in owner.body if isinstance(f, Function) and "property" not in _decorators(f)}
    return frozenset(methods), frozenset(coroutines)


def _decorators(function: Function) -> set[str]:
    return {ast.unparse(each) for each in function.decorator_list}


class _Instrument(ast.NodeTransformer):
    def __init__(self, module: str, methods: frozenset[str], coroutines: frozenset[str]) -> None:
        self._module, self._methods, self._coroutines = module, methods, coroutines
        self._writes_only = not module.startswith(SERVER)
        self._functions: set[str] = set()
        self.points: list[Point] = []

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self._functions = set(_functions_outside_classes(node))
        self._coroutines |= {each.name for each in ast.walk(node) if isinstance(each, ast.AsyncFunctionDef)}
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        is_observer = any(ast.unparse(base) == "Observer" for base in node.bases)
        self.generic_visit(node)
        if is_observer and not self._writes_only:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    call = self._call("heron_reach", self._point(method, "observer", f"{node.name}.{method.name}"))
                    method.body.insert(1 if ast.get_docstring(method) else 0, ast.Expr(call))
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        text = _text(node)
        if isinstance(node.value, ast.Call):  # `await call.write(...)` is a point once
            node.value.args = [self._argument(each) for each in node.value.args]
            node.value.keywords = [ast.keyword(k.arg, self._argument(k.value)) for k in node.value.keywords]
            node.value.func = self.visit(node.value.func)
        else:
            self.generic_visit(node)
        return self._guarded(node, "await", node, text)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        if not self._writes_only:
            node.iter = self._call("heron_each", self._point(node, "await", f"async for {_text(node.iter)}"), node.iter)
        return self.generic_visit(node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        for item in node.items:
            item.context_expr = self._guarded(item.context_expr, "await", item.context_expr, _text(item.context_expr))
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if node.is_async and not self._writes_only:
            node.iter = self._call("heron_each", self._point(node.iter, "await", _text(node.iter)), node.iter)
        return self.generic_visit(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        if self._writes_only:
            return self.generic_visit(node)
        point = self._point(node, "callback", _text(node))
        return self._call("heron_handed", point, self.generic_visit(node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        text, function = _text(node), node.func
        node.args = [self._argument(each) for each in node.args]
        node.keywords = [ast.keyword(k.arg, self._argument(k.value)) for k in node.keywords]
        if isinstance(function, ast.Attribute) and _may_write(node, function.attr):
            point = self._point(node, "write", text)
            function.value = self._call("heron_write", point, self.visit(function.value))
            return node
        node.func = self.visit(function)
        if isinstance(function, ast.Name) and function.id in WRITING_FUNCTIONS:
            return self._guarded(node, "write", node, text)
        if isinstance(function, ast.Name) and function.id == "partial" and not self._writes_only:
            return self._call("heron_handed", self._point(node, "callback", text), node)
        return node

    def _argument(self, node: ast.expr) -> ast.expr:
        """An argument of a call, wrapped where it is a function or a coroutine that somebody else is to run."""
        text = _text(node)
        found: ast.expr = self.visit(node)
        if self._writes_only:
            return found
        if isinstance(node, ast.Call) and _last_name(node.func) in self._coroutines:
            return self._call("heron_task", self._point(node, "callback", text), found)
        of_ours = isinstance(node, ast.Name) and node.id in self._functions
        if of_ours or (isinstance(node, ast.Attribute) and node.attr in self._methods):
            return self._call("heron_handed", self._point(node, "callback", text), found)
        return found

    def _guarded(self, at: ast.expr, kind: Kind, node: ast.expr, text: str) -> ast.expr:
        if self._writes_only and kind != "write":
            return node
        reach = self._call("heron_reach", self._point(at, kind, text))
        return ast.IfExp(reach, node, ast.Constant(None))

    def _point(self, node: ast.stmt | ast.expr, kind: Kind, text: str) -> Point:
        point = Point(self._module, node.lineno, node.col_offset, kind, text)
        self.points.append(point)
        return point

    def _call(self, function: str, point: Point, *values: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(function, ast.Load()), [ast.Constant(point.name), *values], [])


def _may_write(node: ast.Call, method: str) -> bool:
    """By its name; `replace` of a path has one argument, that of a text two."""
    if method == "replace":
        return len(node.args) == 1 or _text(node.func) == "os.replace"
    if method == "open":
        modes = [each.value for each in node.args if isinstance(each, ast.Constant)]
        return any(isinstance(mode, str) and MODES_THAT_WRITE & set(mode) for mode in modes)
    return method in WRITES


def _functions_outside_classes(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function) and not isinstance(node, ast.ClassDef):
            yield child.name
        yield from _functions_outside_classes(child)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr, most: int = 60) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= most else text[: most - 3] + "..."
