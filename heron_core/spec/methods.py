"""The family of methods as small compositions: how the client steps, what comes back, who owns which tensors.

arXiv 2601.09076, Table I and its baselines. Both sides read this table; neither has a training loop per method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from heron_core.errors import ConfigError
from heron_core.spec.run_spec import MethodSpec, RunSpec

if TYPE_CHECKING:
    from heron_core.models.split_model import Part

Front = Literal["zeroth_order", "auxiliary_loss", "cut_gradients", "whole_model", "none"]
Head = Literal["joint", "detached", "server", "aligned", "none"]
Place = Literal["averaged", "kept", "shared", "own"]


@dataclass(frozen=True)
class Method:
    """One row of the family."""

    front: Front
    """How the client steps its front: by losses alone, or by backpropagation of its auxiliary loss, of the returned cut
    gradients, or of the whole model's loss; none: it never does."""
    head: Head
    """Who moves the auxiliary head: the client jointly with the front, or by its own gradient on detached activations;
    the server on what it receives, or by aligning one head per client; none: nobody, or there is no head."""
    backs: Literal["shared", "per_client", "none"]
    """The server's models: one for all, one for each client and averaged each round, or none."""

    @property
    def returns_cut_gradients(self) -> bool:
        """Does the server answer each upload with the gradient at the cut?"""
        return self.front == "cut_gradients"

    @property
    def uploads(self) -> bool:
        """Do clients send activations?"""
        return self.backs != "none"

    @property
    def client_parts(self) -> tuple[Part, ...]:
        """What a client builds and runs."""
        if self.front == "whole_model":
            return ("front", "back")
        return ("front",) if self.front == "cut_gradients" else ("front", "auxiliary")

    @property
    def client_learns(self) -> bool:
        """Do clients ever move a parameter?"""
        return self.front != "none"


HEADS: Mapping[str, Head] = {"zo": "joint", "first_order": "detached", "server": "server", "aligned": "aligned"}


def method_of(spec: MethodSpec) -> Method:
    """The composition that the settings name."""
    match spec.name:
        case "heron":
            return Method("zeroth_order", HEADS[spec.auxiliary_update], "shared")
        case "cse_fsl":
            return Method("auxiliary_loss", "joint", "shared")
        case "fsl_sage":
            return Method("auxiliary_loss", "aligned", "shared")
        case "sflv1":
            return Method("cut_gradients", "none", "per_client")
        case "sflv2":
            return Method("cut_gradients", "none", "shared")
        case "fedavg":
            return Method("whole_model", "none", "none")
        case "frozen":
            return Method("none", "none", "shared")


# -- who owns which tensor -----------------------------------------------------------------------------------------


def place_of(spec: MethodSpec, name: str, *, buffer: bool = False) -> Place:
    """Where a client tensor such as `front.conv1.weight` or `moments.first` belongs.

    averaged: goes up, and comes down as the Fed-Server's mean. kept: goes up, and comes down to the same client.
    shared: only comes down, the same for all. own: only comes down, another for each client.
    """
    method, part = method_of(spec), name.partition(".")[0]
    if part == "moments":
        return "kept" if spec.moments == "kept" else "averaged"
    if method.front == "none":
        updates = buffer and part == "front" and spec.running_statistics == "update"
        return "averaged" if updates else "shared"
    if part == "auxiliary":
        places: Mapping[Head, Place] = {"server": "shared", "aligned": "own", "none": "shared"}
        return places.get(method.head, "averaged")
    return "averaged"


def goes_up(place: Place) -> bool:
    """Is it part of a client's update?"""
    return place in ("averaged", "kept")


def moves(spec: MethodSpec, name: str) -> bool:
    """Is this trainable parameter in the vector that the client's optimiser moves? A head of the server's is not."""
    method, part = method_of(spec), name.partition(".")[0]
    return method.client_learns and (part != "auxiliary" or method.head in ("joint", "detached"))


def moment_tensors(spec: MethodSpec, weights: Iterable[tuple[str, int]]) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of the client optimiser's moments that travel, in order; none where they are reset.

    `weights`: (name, elements) of the trainable parameters.
    """
    if spec.moments == "reset" or not method_of(spec).client_learns:
        return []
    size, rule = sum(count for name, count in weights if moves(spec, name)), spec.optimizer
    if rule.name == "sgd":
        return [("moments.velocity", "float32", (size,))] if rule.momentum else []
    return [
        ("moments.first", "float32", (size,)), ("moments.second", "float32", (size,)), ("moments.steps", "int64", ()),
    ]  # fmt: skip


def uploads_per_round(spec: MethodSpec) -> int:
    """Of one client: every k-th local step; the steps after the last k-th upload nothing. None in fedavg."""
    return spec.local_steps // spec.upload_period if method_of(spec).uploads else 0


# -- settings that a run does not use ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """Who uses a setting."""

    only: str
    """`by heron`, `with "lora"`."""
    uses: Callable[[RunSpec], bool]
    here: Callable[[RunSpec], str]
    """What a run is that does not: `by frozen`, `with model.trainable = "all"`."""


def _methods(only: str, uses: Callable[[MethodSpec], bool]) -> Use:
    return Use(f"by {only}", lambda spec: uses(spec.method), lambda spec: f"by {spec.method.name}")


def _where(setting: str, value: str) -> Use:
    """Where another setting has this value."""
    chosen = attrgetter(setting)
    return Use(f'with "{value}"', lambda s: bool(chosen(s) == value), lambda s: f'with {setting} = "{chosen(s)}"')


def _rule(table: str) -> dict[str, Use]:
    """Of an optimiser's table."""
    adam, sgd = (_where(f"{table}.name", name) for name in ("adam", "sgd"))
    return {f"{table}.{key}": adam for key in ("beta1", "beta2", "eps")} | {f"{table}.momentum": sgd}


_ZO = _methods("heron", lambda m: m.name == "heron")
_LEARNS = _methods("a method whose clients learn", lambda m: method_of(m).client_learns)
_UPLOADS = _methods("a method that uploads activations", lambda m: method_of(m).uploads)
USERS: Mapping[str, Use] = {
    "method.zo": _ZO,
    "method.auxiliary_update": _ZO,
    "method.alignment": _methods(
        'fsl_sage, or heron with auxiliary_update = "aligned"', lambda m: method_of(m).head == "aligned"
    ),
    "method.moments": _LEARNS,
    "method.optimizer": _LEARNS,
    **_rule("method.optimizer"),
    "method.upload_period": _UPLOADS,
    "method.running_statistics": _methods("frozen", lambda m: m.name == "frozen"),
    "method.ghost_batch_norm": Use(
        'with micro-batches and norm = "batch"',
        lambda s: s.model.norm == "batch" and s.method.micro_batch_rows < s.method.batch_size,
        lambda s: f'with micro_batch = {s.method.micro_batch} and norm = "{s.model.norm}"',
    ),
    "server_optimizer": _UPLOADS,
    **_rule("server_optimizer"),
    "model.auxiliary": _UPLOADS,
    "model.last_layers": _where("model.trainable", "last_n_layers"),
    "model.lora_rank": _where("model.trainable", "lora"),
    "data.alpha": _where("data.partition", "dirichlet"),
    "data.shards_per_client": _where("data.partition", "shards"),
    "data.holdout": _where("data.source", "client"),
}
"""Setting that not every run uses -> who does. A table stands before its own settings.

Without a head on the client, sflv1 and sflv2 still count that of model.auxiliary in their paper MACs.
"""


def unused_settings(spec: RunSpec, tables: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each key of the file's `tables` that this run would ignore."""
    refused: list[str] = []
    for key in _unused(spec):
        given = _at(tables, key)
        if given is not None and not any(key.startswith(f"{table}.") for table in refused):
            refused.append(key)
            inner = ", ".join(f"{key}.{k}" for k in given) if isinstance(given, Mapping) else ""
            yield f"{inner or key} is not used {USERS[key].here(spec)}, only {USERS[key].only}; remove it"


def refuse_unused(spec: RunSpec, tables: Mapping[str, Any], origin: str) -> None:
    """ConfigError naming each setting of the file that the run would ignore."""
    found = list(unused_settings(spec, tables))
    if found:
        raise ConfigError(f"{origin}: " + "; ".join(found))


def without_unused(spec: RunSpec, tables: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a run file's `tables` without what this run would ignore."""
    kept = deepcopy(dict(tables))
    for key in _unused(spec):
        _remove(kept, key)
    return kept


def file_tables(spec: RunSpec) -> dict[str, Any]:
    """The run spec as a file says it, complete but for what the run ignores and what has its default anyway."""
    tables, defaults = spec.model_dump(mode="json"), RunSpec().model_dump(mode="json")
    for key in _unused(spec):
        if _at(tables, key) == _at(defaults, key):
            _remove(tables, key)
    return tables


def as_method(spec: RunSpec, name: str) -> RunSpec:
    """The same run with another method; settings that it does not use go back to their defaults."""
    tables = spec.model_dump()
    tables["method"]["name"] = name
    return RunSpec.model_validate(without_unused(RunSpec.model_validate(tables), tables))


def _unused(spec: RunSpec) -> list[str]:
    return [key for key, use in USERS.items() if not use.uses(spec)]


def _at(tables: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    value: Any = tables
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _remove(tables: dict[str, Any], key: str) -> None:
    table, _, name = key.rpartition(".")
    inner = _at(tables, table) if table else tables
    if isinstance(inner, dict):
        inner.pop(name, None)
