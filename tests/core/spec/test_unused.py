"""Settings that a run ignores are refused, and a control drops them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from heron_core.config import apply_overrides, validate
from heron_core.errors import ConfigError
from heron_core.spec.run_spec import MethodSpec, RunSpec
from heron_core.spec.unused import USERS, as_method, file_tables, refuse_unused, unused_settings

NAMES = get_args(MethodSpec.model_fields["name"].annotation)
GIVEN: dict[str, Any] = {
    "method.zo": {"mu": 1e-3},
    "method.objective": "auxiliary",
    "method.auxiliary_update": "zo",
    "method.alignment": {"every_rounds": 2},
    "method.moments": "kept",
    "method.proximal": 0.1,
    "method.logit_adjustment": 1.0,
    "method.optimizer": {"lr": 0.1},
    "method.upload_period": 1,
    "method.mixing": True,
    "method.running_statistics": "keep",
    "server_optimizer": {"lr": 0.1},
    "model.auxiliary": "gap_linear",
    "guard": {"clip_gradient": 1.0},
    "codec.uploads": "int8",
    "codec.client_state": "weights",
    "codec.cut_gradients": "raw",
    "codec.labels": "packed",
    "codec.reuse": True,
    "federation.server_average": {"name": "fedadam"},
    "averaged_back": {"decay": 0.0},
}
UPLOADS = {"method.upload_period", "server_optimizer", "model.auxiliary", "guard", "codec.uploads", "codec.labels"}
ONE_BACK = {"averaged_back", "method.mixing"}
LEARNS = {"federation.server_average", "method.proximal", "method.moments", "method.optimizer"}
ADJUSTS = {"method.logit_adjustment"}
USED = {
    "heron": {"method.zo", "method.objective", "method.auxiliary_update", "codec.client_state", "codec.reuse"}
    | LEARNS | UPLOADS | ADJUSTS | ONE_BACK,
    "cse_fsl": {"codec.reuse"} | LEARNS | UPLOADS | ADJUSTS | ONE_BACK,
    "fsl_sage": {"method.alignment", "codec.reuse"} | LEARNS | UPLOADS | ONE_BACK,
    "sflv1": {"codec.cut_gradients"} | LEARNS | UPLOADS,
    "sflv2": {"codec.cut_gradients"} | LEARNS | UPLOADS | ONE_BACK,
    "fedavg": LEARNS | ADJUSTS,
    "frozen": {"method.running_statistics", "codec.reuse"} | UPLOADS | ONE_BACK,
}
ELSEWHERE: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    *((f"{table}.{key}", 0.5, {f"{table}.name": "adam"}, {f"{table}.name": "sgd"})
      for table in ("method.optimizer", "server_optimizer") for key in ("beta1", "beta2", "eps")),
    *((f"{table}.momentum", 0.5, {f"{table}.name": "sgd"}, {})
      for table in ("method.optimizer", "server_optimizer")),
    *((f"{table}.{key}", value, {f"{table}.schedule": "cosine"}, {f"{table}.schedule": "constant"})
      for table in ("method.optimizer", "server_optimizer") for key, value in {"final": 0.1, "warm_up": 2}.items()),
    ("method.ghost_batch_norm", True, {"model.norm": "batch", "method.micro_batch": 8}, {"model.norm": "batch"}),
    ("method.ghost_batch_norm", True, {"model.norm": "batch", "method.micro_batch": 8}, {"method.micro_batch": 8}),
    ("method.ghost_batch_norm", True, {"model.name": "net:own", "method.micro_batch": 8}, {"model.name": "net:own"}),
    ("model.last_layers", 2, {"model.trainable": "last_n_layers"}, {"model.trainable": "norm"}),
    ("model.lora_rank", 2, {"model.trainable": "lora"}, {}),
    *((f"model.{key}", value, {"model.name": "causal_lm"}, {})
      for key, value in {"base": "m", "base_sha256": "a" * 64, "language": {}}.items()),
    ("model.weights_parts", ["front"], {"model.weights": "m"}, {}),
    *((f"data.{key}", value, {"data.source": "arrays", "data.file": "a.npz"}, {"data.source": "cifar10"})
      for key, value in {"file": "a.npz", "file_sha256": "a" * 64, "test_share": 0.2}.items()),
    ("data.alpha", 0.5, {"data.partition": "dirichlet"}, {}),
    ("data.shards_per_client", 2, {"data.partition": "shards"}, {"data.partition": "dirichlet"}),
    *((f"data.{key}", value, {}, {"data.source": "client"})
      for key, value in {"partition": "iid", "train_range": [0, 9], "train_limit": 9, "test_limit": 9}.items()),
    ("federation.hostile", 1, {"federation.aggregation": "median"}, {"federation.aggregation": "samples"}),
    ("federation.hostile", 0, {"federation.aggregation": "krum"}, {}),
    ("federation.most_samples", 9, {"federation.aggregation": "samples"}, {"federation.aggregation": "median"}),
    ("federation.clip_norm", 1.0, {"federation.aggregation": "norm_clipping"}, {"federation.aggregation": "krum"}),
    *((f"federation.server_average.{key}", 0.5, {"federation.server_average.name": used},
       {"federation.server_average.name": unused})
      for key, used, unused in (("lr", "fedavgm", "plain"), ("momentum", "fedavgm", "fedadam"),
                                ("beta1", "fedyogi", "fedavgm"), ("beta2", "fedadam", "fedavgm"),
                                ("tau", "fedadam", "fedavgm"))),
    ("codec.tolerance", 0.1, {"codec.reuse": True}, {}),
    ("codec.tolerance", 0.1, {"codec.reuse": True}, {"codec.reuse": True, "method.name": "frozen"}),
    ("codec.exact", False, {"codec.reuse": True, "method.name": "frozen"}, {"method.name": "frozen"}),
    ("codec.evaluation", "bf16", {"data.source": "client"}, {"data.source": "digits"}),
    ("data.holdout", 0.1, {"data.source": "client"}, {"data.source": "digits"}),
    ("data.holdout_by", "group", {"data.source": "client"}, {"data.source": "digits"}),
    ("data.text", {}, {"data.source": "e2e"}, {"data.source": "digits"}),
    ("data.text.shift", "codes", {"data.source": "e2e"}, {"data.source": "client"}),
    ("data.table", {}, {"data.source": "client"}, {"data.source": "digits"}),
]  # fmt: skip
"""(setting, value, settings with which it is used, settings with which it is not)"""


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    return apply_overrides({}, [f"{key}={json.dumps(value)}" for key, value in flat.items()])


def check(tables: dict[str, Any]) -> None:
    refuse_unused(validate(RunSpec, tables, "run.toml"), tables, "run.toml")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", GIVEN)
def test_a_setting_is_refused_where_the_method_does_not_use_it_even_at_its_default(name: str, key: str) -> None:
    value = GIVEN[key]
    inner = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    tables = nested({"method.name": name, **inner})
    if key in USED[name]:
        check(tables)
        return
    with pytest.raises(ConfigError, match=rf"run\.toml: {key}[a-z_.]* is not used by {name}, only by"):
        check(tables)


@pytest.mark.parametrize("key", ["method.auxiliary_update", "method.logit_adjustment", "codec.reuse"])
def test_slopes_on_the_cut_gradient_refuse_what_is_for_a_head_or_for_kept_samples(key: str) -> None:
    tables = nested({"method.objective": "cut_gradient", key: GIVEN[key]})
    with pytest.raises(ConfigError, match=rf'{key} is not used by heron with objective = "cut_gradient", only by'):
        check(tables)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "heron"])
def test_another_method_drops_the_objective(name: str) -> None:
    spec = as_method(validate(RunSpec, {"method": {"objective": "cut_gradient"}}, "run.toml"), name)
    assert spec.method.objective == "auxiliary"
    check(file_tables(spec))


@pytest.mark.parametrize(("key", "value", "used", "unused"), ELSEWHERE)
def test_a_setting_is_refused_where_another_makes_it_mean_nothing(
    key: str, value: Any, used: dict[str, Any], unused: dict[str, Any]
) -> None:
    check(nested({**used, key: value}))
    with pytest.raises(ConfigError, match=rf"run\.toml: {key} is not used with .* = .*, only with "):
        check(nested({**unused, key: value}))


def test_every_setting_that_some_run_ignores_is_tried_here() -> None:
    assert USERS.keys() == GIVEN.keys() | {key for key, *_ in ELSEWHERE} and set(NAMES) == USED.keys()


def test_what_is_unused_with_its_whole_table_is_named_once() -> None:
    tables = nested({"method.name": "fedavg", "server_optimizer.momentum": 0.5})
    assert len(list(unused_settings(RunSpec.model_validate(tables), tables))) == 1


def test_a_run_spec_built_in_python_may_hold_what_it_ignores() -> None:
    assert RunSpec.model_validate({"data": {"alpha": 0.1}}).data.alpha == 0.1


def test_alignment_is_used_by_heron_with_aligned_heads() -> None:
    check({"method": {"auxiliary_update": "aligned", "alignment": {"passes": 3}}})


def rich() -> RunSpec:
    return RunSpec.model_validate(
        {"method": {"zo": {"mu": 0.5}, "auxiliary_update": "aligned", "moments": "kept", "optimizer": {"lr": 0.1}}}
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_with_another_method_says_nothing_that_this_one_ignores(name: str) -> None:
    other = as_method(rich(), name)
    assert other.method.name == name
    assert validate(RunSpec, file_tables(other), "again") == other
    check(file_tables(other))


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_run_file_says_the_whole_spec(name: str) -> None:
    odd = RunSpec.model_validate({"method": {"name": name, "zo": {"mu": 0.5}}})
    assert validate(RunSpec, file_tables(odd), "again") == odd, "also what its method ignores, if it was set"
