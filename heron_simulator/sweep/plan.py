"""A sweep's runs: variants times axes times seeds, and the frozen control of each, every run once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from pydantic import JsonValue

from heron_core.config import placed, validate, written
from heron_core.errors import ConfigError, DataError
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import as_method, without_unused
from heron_core.version import __version__
from heron_server.config import ServerSettings, split_run_file
from heron_simulator.settings import SimulateSettings, SimulationFile
from heron_simulator.sweep.file import CONTROL, SweepFile, Tables, Variant, expanded, load_sweep_file, merged

AFFECTS_RESULTS = {"order", "quorum", "byte_budget", "test_data", "test_path", "test_options", "device", "start_from"}
"""Of the [server] table; the rest does not change what a simulated run ends with."""


@dataclass(frozen=True)
class Run:
    """One simulated run."""

    spec: RunSpec
    server: ServerSettings
    simulate: SimulateSettings
    clients: tuple[Tables, ...] = ()
    """What the clients' files say, not yet checked: one for all of them, or one each. None for experiment data."""

    @property
    def fingerprint(self) -> str:
        """Of all that its results depend on; its name is not."""
        facts = {
            "spec": self.spec.model_dump(mode="json", exclude={"name"}),
            "server": self.server.model_dump(mode="json", include=AFFECTS_RESULTS),
            "simulate": self.simulate.model_dump(mode="json"),
            "heron": __version__,
            "weights": self._weights(),
            **({"clients": written(self.clients)} if self.clients else {}),
        }
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def _weights(self) -> str:
        """Fingerprint of the initial weights. Empty: none are named, or they are not there, as the run itself says."""
        if not self.spec.model.weights:
            return ""
        from heron_core.models.weights import weights_fingerprint  # torch

        try:
            return weights_fingerprint(self.spec.model.weights, self.server.data_folder)
        except DataError:
            return ""

    def setting(self, key: str) -> object:
        """The value of a dotted setting; raises ConfigError."""
        value: object = {**self.spec.model_dump(), "simulate": self.simulate.model_dump()}
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ConfigError(f"there is no setting {key}; look at the settings page")
            value = value[part]
        return value


@dataclass
class Point:
    """One place in the table: the same settings with several seeds."""

    label: str
    axes: dict[str, JsonValue]
    runs: list[Run] = field(default_factory=list)
    controls: list[Run] = field(default_factory=list)
    """The frozen control of each run; none where the point is one, or the sweep wants none."""

    @property
    def name(self) -> str:
        """`heron, mu = 0.001`."""
        return ", ".join([self.label, *(f"{key.rpartition('.')[2]} = {shown(v)}" for key, v in self.axes.items())])


@dataclass(frozen=True)
class Sweep:
    """A sweep file and the runs that it comes to."""

    name: str
    file: SweepFile
    points: list[Point]

    @property
    def runs(self) -> dict[str, Run]:
        """Each run once, by fingerprint, in the order to run them: seed by seed, so that every point soon has one."""
        found: dict[str, Run] = {}
        for seed in range(self.file.seeds):
            for point in self.points:
                found |= {run.fingerprint: run for run in (*point.controls[seed : seed + 1], point.runs[seed])}
        return found

    @property
    def x(self) -> str:
        """The picture's horizontal axis."""
        return self.file.x or next(iter(self.file.axes), "label")


def load_sweep(path: Path, overrides: list[str] | None = None) -> Sweep:
    """Every point checked as far as settings go; raises ConfigError."""
    file, base = load_sweep_file(path, overrides or [])
    if not all(file.axes.values()):
        raise ConfigError(f"{path}: every axis needs a value or more; fill or remove the empty one")
    method = base.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    variants = file.variants or (Variant(label=str(name or "heron")),)
    if len({v.label for v in variants}) < len(variants):
        raise ConfigError(f"{path}: every variant needs a label of its own")
    _check_labels(path, file, {v.label for v in variants})
    points = [
        _point(f"{path}, {variant.label}", path.parent, file, base, variant, dict(zip(file.axes, values, strict=True)))
        for variant in variants
        for values in product(*file.axes.values())
    ]
    if isinstance(file.control, str):
        _share_control(file.control, points)
    sweep = Sweep(path.stem, file, points)
    _check_axes(path, sweep)
    return sweep


def _check_labels(path: Path, file: SweepFile, labels: set[str]) -> None:
    if isinstance(file.control, str) and file.control not in labels:
        raise ConfigError(f'{path}: control = "{file.control}" must be true, false or a variant\'s label; mend it')
    if file.target and file.target not in labels:
        raise ConfigError(f'{path}: target = "{file.target}" must be a variant\'s label; mend it')
    if "bytes_to_target" in file.columns and not file.target:
        raise ConfigError(f"{path}: the column bytes_to_target needs target, a variant's label; name it")
    if file.ceiling and (file.ceiling not in labels or not file.control):
        raise ConfigError(f'{path}: ceiling = "{file.ceiling}" must be a variant\'s label, beside a control; mend it')


def _share_control(label: str, points: list[Point]) -> None:
    """The point of that label and of the same axes is the control of each other point."""
    controls = {repr(point.axes): point.runs for point in points if point.label == label}
    for point in points:
        if point.label != label:
            point.controls = controls[repr(point.axes)]


def _point(
    origin: str, folder: Path, file: SweepFile, base: Tables, variant: Variant, axes: Tables
) -> Point:
    point = Point(variant.label, axes)
    above = merged(expanded(variant.set), expanded(axes))
    tables = merged(base, placed(SimulationFile, above, folder))
    for seed in range(file.first_seed, file.first_seed + file.seeds):
        run = _run({**tables, "seed": seed}, origin)
        point.runs.append(run)
        if file.control is True and run.spec.method.name != CONTROL:
            point.controls.append(replace(run, spec=as_method(run.spec, CONTROL)))
    return point


def _run(tables: Tables, origin: str) -> Run:
    """Without what this run would ignore: a sweep lays one base under several methods."""
    whole = validate(SimulationFile, tables, origin)
    run_spec = RunSpec.model_validate(whole.model_dump(exclude={"server", "simulate"}))
    spec, server = split_run_file(without_unused(run_spec, tables), origin)
    return Run(spec, server, whole.simulate)


def _check_axes(path: Path, sweep: Sweep) -> None:
    """Refuses an axis that changes nothing anywhere, such as mu in a sweep of sflv2."""
    for axis, values in sweep.file.axes.items():
        if len(values) > 1 and not any(_differ(sweep.points, axis)):
            raise ConfigError(f"{path}: axis {axis} changes no run: no method of this sweep uses it")


def _differ(points: list[Point], axis: str) -> Iterator[bool]:
    """For each set of points that differ in this axis alone: do their runs?"""
    groups: dict[str, set[str]] = {}
    for point in points:
        others = repr((point.label, {k: v for k, v in point.axes.items() if k != axis}))
        groups.setdefault(others, set()).add(point.runs[0].fingerprint)
    return (len(found) > 1 for found in groups.values())


def shown(value: object) -> str:
    """A setting's value as tables, pictures and names show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
