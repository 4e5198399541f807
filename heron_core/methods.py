"""The family of methods as small compositions: how the client steps, what comes back, who owns which tensors.

arXiv 2601.09076, Table I and its baselines. Both sides read this table; neither has a training loop per method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from heron_core.errors import ConfigError
from heron_core.run_spec import MethodSpec, RunSpec

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


# -- settings that a method does not use ---------------------------------------------------------------------------

_ALIGNS = ("fsl_sage, or heron with auxiliary_update = \"aligned\"", lambda m: method_of(m).head == "aligned")
_ZO = ("heron", lambda m: m.name == "heron")
_LEARNS = ("a method whose clients learn", lambda m: method_of(m).client_learns)
_UPLOADS = ("a method that uploads activations", lambda m: method_of(m).uploads)
USERS: Mapping[str, tuple[str, Any]] = {
    "zo": _ZO,
    "auxiliary_update": _ZO,
    "alignment": _ALIGNS,
    "moments": _LEARNS,
    "optimizer": _LEARNS,
    "upload_period": _UPLOADS,
    "running_statistics": ("frozen", lambda m: m.name == "frozen"),
}
"""Setting of the method table -> who uses it, and whether a method does."""


TRAINABLES: Mapping[str, str] = {"last_layers": "last_n_layers", "lora_rank": "lora"}
"""Setting of the model table -> the model.trainable that uses it."""


def unused_settings(spec: RunSpec, tables: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each key of the file's `tables` that this run's method and model would ignore."""
    given = tables.get("method", {})
    for key, (users, uses) in USERS.items():
        if key in given and not uses(spec.method):
            inner = ", ".join(f"method.{key}.{k}" for k in given[key]) if isinstance(given[key], Mapping) else ""
            yield f"{inner or f'method.{key}'} is not used by {spec.method.name}, only by {users}; remove it"
    for key, trainable in TRAINABLES.items():
        if key in tables.get("model", {}) and spec.model.trainable != trainable:
            yield (
                f'model.{key} is not used with trainable = "{spec.model.trainable}", only with "{trainable}"; remove it'
            )


def refuse_unused(spec: RunSpec, tables: Mapping[str, Any], origin: str) -> None:
    """ConfigError naming each setting of the file that the run would ignore."""
    found = list(unused_settings(spec, tables))
    if found:
        raise ConfigError(f"{origin}: " + "; ".join(found))


def file_tables(spec: RunSpec) -> dict[str, Any]:
    """The run spec as a file says it, complete but for what the run ignores and what has its default anyway."""
    tables = spec.model_dump(mode="json")
    defaults = RunSpec().model_dump(mode="json")
    ignored = {"method": [k for k, (_, uses) in USERS.items() if not uses(spec.method)],
               "model": [k for k, trainable in TRAINABLES.items() if spec.model.trainable != trainable]}  # fmt: skip
    for table, keys in ignored.items():
        for key in keys:
            if tables[table][key] == defaults[table][key]:
                del tables[table][key]
    return tables


def as_method(spec: RunSpec, name: str) -> RunSpec:
    """The same run with another method; settings that it does not use go back to their defaults."""
    tables = spec.model_dump()
    tables["method"]["name"] = name
    other = MethodSpec.model_validate(tables["method"])
    for key, (_, uses) in USERS.items():
        if not uses(other):
            del tables["method"][key]
    return RunSpec.model_validate(tables)
