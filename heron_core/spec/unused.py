"""Settings that a run does not use: a file that gives one is refused, and a control of another method drops them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from operator import attrgetter

from heron_core.errors import ConfigError
from heron_core.spec.methods import method_of, tolerates
from heron_core.spec.run_spec import MethodSpec, RunSpec


@dataclass(frozen=True)
class Use:
    """Who uses a setting."""

    only: str
    """`by heron`, `with "lora"`."""
    uses: Callable[[RunSpec], bool]
    here: Callable[[RunSpec], str]
    """What a run is that does not: `by frozen`, `with model.trainable = "all"`."""


def _methods(only: str, uses: Callable[[MethodSpec], bool]) -> Use:
    return Use(f"by {only}", lambda spec: uses(spec.method), lambda spec: f"by {_named(spec.method)}")


def _named(method: MethodSpec) -> str:
    return f'heron with objective = "{method.objective}"' if _on_cut_gradients(method) else method.name


def _on_cut_gradients(method: MethodSpec) -> bool:
    return method.name == "heron" and method.objective == "cut_gradient"


def _where(setting: str, value: str) -> Use:
    """Where another setting has this value."""
    chosen = attrgetter(setting)
    return Use(f'with "{value}"', lambda s: bool(chosen(s) == value), lambda s: f'with {setting} = "{chosen(s)}"')


def _rule(table: str) -> dict[str, Use]:
    """Of an optimiser's table."""
    adam, sgd = (_where(f"{table}.name", name) for name in ("adam", "sgd"))
    schedule = attrgetter(f"{table}.schedule")
    moving = Use(
        'with schedule = "linear" or "cosine"', lambda spec: schedule(spec) != "constant",
        lambda _: f'with {table}.schedule = "constant"',
    )  # fmt: skip
    return {
        **dict.fromkeys((f"{table}.{key}" for key in ("beta1", "beta2", "eps")), adam), f"{table}.momentum": sgd,
        **dict.fromkeys((f"{table}.final", f"{table}.warm_up"), moving),
    }  # fmt: skip


def _server_average(*names: str) -> Use:
    setting = "federation.server_average.name"
    said = attrgetter(setting)
    return Use(f"with {' or '.join(names)}", lambda s: said(s) in names, lambda s: f'with {setting} = "{said(s)}"')


_ZO = _methods("heron", lambda m: m.name == "heron")
_LEARNS = _methods("a method whose clients learn", lambda m: method_of(m).client_learns)
_UPLOADS = _methods("a method that uploads activations", lambda m: method_of(m).uploads)
_ONE_BACK = _methods(
    "a method whose server trains one back for all (sflv1 has one for each client, fedavg none)",
    lambda m: method_of(m).backs == "shared",
)
_ROBUST = Use(
    "with a rule that bears hostile clients", lambda s: s.federation.aggregation not in ("uniform", "samples"),
    lambda s: f'with federation.aggregation = "{s.federation.aggregation}"',
)  # fmt: skip
_TEXT = Use(
    "with e2e, restaurants, or clients' own data", lambda s: s.data.source in ("e2e", "restaurants", "client"),
    lambda s: f'with data.source = "{s.data.source}"',
)  # fmt: skip
_MADE_TEXT = Use(
    "with e2e and restaurants", lambda s: s.data.source in ("e2e", "restaurants"),
    lambda s: f'with data.source = "{s.data.source}"',
)  # fmt: skip
_EXPERIMENT = Use("with experiment data", lambda s: s.data.source != "client", lambda _: 'with data.source = "client"')
USERS: Mapping[str, Use] = {
    "method.zo": _ZO,
    "method.objective": _ZO,
    "method.auxiliary_update": _methods(
        'heron with objective = "auxiliary"', lambda m: m.name == "heron" and not _on_cut_gradients(m)
    ),
    "method.alignment": _methods(
        'fsl_sage, or heron with auxiliary_update = "aligned"', lambda m: method_of(m).head == "aligned"
    ),
    "method.moments": _LEARNS,
    "method.proximal": _LEARNS,
    "method.logit_adjustment": _methods(
        'heron with objective = "auxiliary", cse_fsl and fedavg',
        lambda m: m.name in ("heron", "cse_fsl", "fedavg") and not _on_cut_gradients(m),
    ),
    "method.optimizer": _LEARNS,
    **_rule("method.optimizer"),
    "method.upload_period": _UPLOADS,
    "method.mixing": _ONE_BACK,
    "method.running_statistics": _methods("frozen", lambda m: m.name == "frozen"),
    "method.ghost_batch_norm": Use(
        'with micro-batches and norm = "batch", or a model of your own',
        lambda s: (s.model.norm == "batch" or ":" in s.model.name) and s.method.micro_batch_rows < s.method.batch_size,
        lambda s: f'with micro_batch = {s.method.micro_batch} and norm = "{s.model.norm}"',
    ),
    "server_optimizer": _UPLOADS,
    **_rule("server_optimizer"),
    "averaged_back": _ONE_BACK,
    "guard": _UPLOADS,
    "model.auxiliary": _UPLOADS,
    "codec.uploads": _UPLOADS,
    "codec.cut_gradients": _methods(
        "a method whose server returns cut gradients", lambda m: method_of(m).returns_cut_gradients
    ),
    "codec.client_state": _ZO,
    "codec.evaluation": _where("data.source", "client"),
    "codec.labels": Use(
        'by a method that uploads activations, or with data.source = "client"',
        lambda s: method_of(s.method).uploads or s.data.source == "client", lambda s: f"by {s.method.name}",
    ),
    "codec.reuse": _methods(
        "a method that uploads activations and gets no cut gradients back",
        lambda m: method_of(m).uploads and not method_of(m).returns_cut_gradients,
    ),
    "codec.tolerance": Use(
        "with codec.reuse and a front that learns", tolerates,
        lambda s: f'with method.name = "{s.method.name}"' if s.codec.reuse else "with codec.reuse = false",
    ),
    "codec.exact": Use("with codec.reuse", lambda s: s.codec.reuse, lambda _: "with codec.reuse = false"),
    "model.last_layers": _where("model.trainable", "last_n_layers"),
    **dict.fromkeys(("model.base", "model.base_sha256", "model.language"), _where("model.name", "causal_lm")),
    "model.lora_rank": _where("model.trainable", "lora"),
    "model.weights_parts": Use(
        "with model.weights", lambda s: bool(s.model.weights), lambda _: 'with model.weights = ""'
    ),
    **dict.fromkeys(("data.partition", "data.train_range", "data.train_limit", "data.test_limit"), _EXPERIMENT),
    **dict.fromkeys(("data.file", "data.file_sha256", "data.test_share"), _where("data.source", "arrays")),
    "data.text": _TEXT,
    "data.text.shift": _MADE_TEXT,
    "data.alpha": _where("data.partition", "dirichlet"),
    "data.shards_per_client": _where("data.partition", "shards"),
    "federation.server_average": _LEARNS,
    "federation.server_average.lr": _server_average("fedavgm", "fedadam", "fedyogi"),
    "federation.server_average.momentum": _server_average("fedavgm"),
    **{f"federation.server_average.{key}": _server_average("fedadam", "fedyogi") for key in ("beta1", "beta2", "tau")},
    "federation.hostile": _ROBUST,
    "federation.most_samples": _where("federation.aggregation", "samples"),
    "federation.clip_norm": _where("federation.aggregation", "norm_clipping"),
    **dict.fromkeys(("data.holdout", "data.holdout_by", "data.table"), _where("data.source", "client")),
}
"""Setting that not every run uses -> who does. A table stands before its own settings.

Without a head on the client, sflv1 and sflv2 still count that of model.auxiliary in their paper MACs.
"""


def unused_settings(spec: RunSpec, tables: Mapping[str, object]) -> Iterator[str]:
    """One sentence for each key of the file's `tables` that this run would ignore."""
    refused: list[str] = []
    for key in _unused(spec):
        given = _at(tables, key)
        if given is not None and not any(key.startswith(f"{table}.") for table in refused):
            refused.append(key)
            inner = ", ".join(f"{key}.{k}" for k in given) if isinstance(given, Mapping) else ""
            yield f"{inner or key} is not used {USERS[key].here(spec)}, only {USERS[key].only}; remove it"


def refuse_unused(spec: RunSpec, tables: Mapping[str, object], origin: str) -> None:
    """ConfigError naming each setting of the file that the run would ignore."""
    found = list(unused_settings(spec, tables))
    if found:
        raise ConfigError(f"{origin}: " + "; ".join(found))


def without_unused(spec: RunSpec, tables: Mapping[str, object]) -> dict[str, object]:
    """A copy of a run file's `tables` without what this run would ignore."""
    kept = deepcopy(dict(tables))
    for key in _unused(spec):
        _remove(kept, key)
    return kept


def file_tables(spec: RunSpec) -> dict[str, object]:
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


def _at(tables: Mapping[str, object], key: str) -> object:
    """The value of a dotted key; None where there is none."""
    value: object = tables
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _remove(tables: dict[str, object], key: str) -> None:
    table, _, name = key.rpartition(".")
    inner = _at(tables, table) if table else tables
    if isinstance(inner, dict):
        inner.pop(name, None)
