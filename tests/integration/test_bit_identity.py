"""The simulator, which is the product's code, against the plain reference loops: one SHA-256 for every option."""

from __future__ import annotations

from typing import Any

import pytest
from integration import reference_loop
from integration.references import LOOPS, reference_run
from integration.settings import OPTIONS_TOGETHER

from heron_core.spec.methods import uploads_per_round
from heron_core.spec.run_spec import RunSpec
from heron_simulator.simulator import simulate

Tables = dict[str, Any]
MODELS: dict[str, Tables] = {
    "group_norm": {},
    "batch_norm": {"model": {"norm": "batch"}},
    "mlp": {"model": {"name": "mlp", "input_shape": [1, 8, 8]}},
}
JOINT: Tables = {"auxiliary_update": "zo"}
"""The paper's estimator: front and head together."""
SGD: Tables = {"name": "sgd", "lr": 1e-2, "momentum": 0.9}
ALIGNED: Tables = {"alignment": {"every_rounds": 1, "passes": 5, "buffer_samples": 20, "batch_size": 10}}
"""After every round, on two uploads of 8, in steps of 10 and 6 samples."""


FAMILY: dict[str, Tables] = {**{name: {"name": name} for name in LOOPS}, "heron, joint head": JOINT}


def spec_of(*, method: Tables | None = None, zo: Tables | None = None, **tables: Any) -> RunSpec:
    """Two rounds of three clients with three steps each; a perturbation that float32 does not swallow."""
    chosen = {"local_steps": 3, "batch_size": 8, **(method or {})}
    if chosen.setdefault("name", "heron") == "heron":
        chosen["zo"] = {"mu": 1e-2, **chosen.get("zo", {}), **(zo or {})}
    if chosen["name"] == "fsl_sage" or chosen.get("auxiliary_update") == "aligned":
        chosen = {**ALIGNED, **chosen}
    return RunSpec.model_validate({"rounds": 2, "federation": {"clients": 3}, "method": chosen, **tables})


def same_bits(**tables: Any) -> None:
    """Asserts that simulator and reference come to the same model."""
    spec = spec_of(**tables)
    assert simulate(spec).summary["model_sha256"] == reference_run(spec)


# -- the paper's own setting ---------------------------------------------------------------------------------------


def faithful_bits(method: Tables | None = None, **tables: Any) -> None:
    """Asserts that the paper's loop without any option comes to the simulator's model."""
    spec = spec_of(method={**JOINT, **(method or {})}, **tables)
    assert simulate(spec).summary["model_sha256"] == reference_loop.reference_run(spec)


@pytest.mark.parametrize("num_directions", [1, 3])
@pytest.mark.parametrize("distribution", ["sphere", "rademacher", "gaussian"])
def test_every_distribution_of_directions_gives_the_reference_bits(distribution: str, num_directions: int) -> None:
    faithful_bits(zo={"distribution": distribution, "num_directions": num_directions})


@pytest.mark.parametrize("num_directions", [1, 3])
def test_central_differences_give_the_reference_bits(num_directions: int) -> None:
    faithful_bits(zo={"difference": "central", "num_directions": num_directions})


def test_micro_batches_give_the_reference_bits() -> None:
    faithful_bits(method={"micro_batch": 2})


@pytest.mark.parametrize("local_steps", [4, 5])
def test_upload_period_gives_the_reference_bits_also_where_it_does_not_divide_the_steps(local_steps: int) -> None:
    faithful_bits(method={"upload_period": 2, "local_steps": local_steps})


@pytest.mark.parametrize("method", [{}, {"micro_batch": 4, "ghost_batch_norm": True}], ids=["whole", "ghost"])
def test_batch_norm_and_its_averaged_buffers_give_the_reference_bits(method: Tables) -> None:
    faithful_bits(model={"norm": "batch"}, method=method)


def test_unequal_shares_weighted_by_samples_give_the_reference_bits() -> None:
    faithful_bits(
        data={"partition": "dirichlet", "alpha": 1.0},
        federation={"clients": 3, "aggregation": "samples"},
    )


def test_sgd_with_momentum_on_both_sides_gives_the_reference_bits() -> None:
    faithful_bits(method={"optimizer": SGD}, server_optimizer=SGD)


def test_mlp_gives_the_reference_bits() -> None:
    faithful_bits(**MODELS["mlp"])


@pytest.mark.parametrize("auxiliary", ["flatten_linear", "conv_gap_linear"])
def test_other_auxiliary_heads_give_the_reference_bits(auxiliary: str) -> None:
    faithful_bits(model={"auxiliary": auxiliary})


def test_two_seeds_give_two_models() -> None:
    assert reference_run(spec_of(seed=0)) != reference_run(spec_of(seed=1))


# -- the family of methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_method_on_every_model_gives_the_reference_bits(name: str, model: str) -> None:
    same_bits(method=FAMILY[name], **MODELS[model])


@pytest.mark.parametrize("name", FAMILY)
def test_two_clients_of_four_in_each_round_weighted_by_samples_give_the_reference_bits(name: str) -> None:
    same_bits(
        method=FAMILY[name],
        rounds=3,
        data={"partition": "dirichlet", "alpha": 1.0},
        federation={"clients": 4, "clients_per_round": 2, "aggregation": "samples"},
    )


@pytest.mark.parametrize("name", ["cse_fsl", "fsl_sage", "frozen"])
def test_methods_with_upload_period_and_micro_batches_give_the_reference_bits(name: str) -> None:
    same_bits(method={"name": name, "upload_period": 2, "local_steps": 5, "micro_batch": 2})


def test_federated_averaging_in_micro_batches_gives_the_reference_bits() -> None:
    same_bits(method={"name": "fedavg", "micro_batch": 2})


def test_frozen_clients_that_keep_their_running_statistics_give_the_reference_bits() -> None:
    same_bits(method={"name": "frozen", "running_statistics": "keep"}, **MODELS["batch_norm"])


@pytest.mark.parametrize("optimizer", [{}, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("moments", ["kept", "averaged"])
@pytest.mark.parametrize("name", [name for name in FAMILY if name != "frozen"])
def test_moments_that_outlive_a_round_give_the_reference_bits(name: str, moments: str, optimizer: Tables) -> None:
    same_bits(
        method={**FAMILY[name], "moments": moments, "optimizer": optimizer},
        rounds=3,
        federation={"clients": 3, "clients_per_round": 2},
    )


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("name", [name for name in FAMILY if name != "frozen"])
def test_training_the_normalisation_alone_gives_the_reference_bits(name: str, norm: str) -> None:
    same_bits(method=FAMILY[name], model={"trainable": "norm", "norm": norm})


@pytest.mark.parametrize("trainable", ["last_n_layers", "lora"])
@pytest.mark.parametrize("name", ["heron", "heron, joint head", "cse_fsl", "sflv2"])
def test_training_a_few_layers_or_adapters_gives_the_reference_bits(name: str, trainable: str) -> None:
    same_bits(method=FAMILY[name], model={"trainable": trainable})


# -- the learning rate over the run --------------------------------------------------------------------------------

LINEAR: Tables = {"lr": 1e-2, "schedule": "linear"}
COSINE: Tables = {"name": "sgd", "momentum": 0.9, "lr": 1e-2, "schedule": "cosine", "final": 0.25, "warm_up": 2}


@pytest.mark.parametrize(("client", "server"), [(LINEAR, COSINE), (COSINE, LINEAR)], ids=["linear", "cosine"])
@pytest.mark.parametrize("name", ["heron", "cse_fsl", "sflv1", "sflv2"])
def test_schedules_on_both_sides_give_the_reference_bits(name: str, client: Tables, server: Tables) -> None:
    method = {"name": name, "optimizer": client, "moments": "averaged"}
    same_bits(method=method, server_optimizer=server, federation={"clients": 3, "clients_per_round": 2})


def test_a_schedule_for_the_head_that_the_server_trains_gives_the_reference_bits() -> None:
    method = {"auxiliary_update": "server", "upload_period": 2, "local_steps": 5, "optimizer": COSINE}
    same_bits(method=method, server_optimizer=LINEAR)


# -- skewed clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "zo"),
    [
        ({}, {"num_directions": 2}),
        (JOINT, {"block_wise": True}),
        ({"auxiliary_update": "server", "micro_batch": 4, "upload_period": 2}, {"scope": "micro_batch"}),
        ({}, {"scope": "sample"}),
        ({"name": "cse_fsl", "micro_batch": 4}, {}),
        ({"name": "fedavg"}, {}),
    ],
    ids=["head's gradient", "joint, blocks", "server's head", "sample", "cse_fsl", "fedavg"],
)
def test_logits_adjusted_by_the_clients_own_classes_give_the_reference_bits(method: Tables, zo: Tables) -> None:
    trainable = "norm" if zo.get("scope") == "sample" else "all"
    skewed = {"data": {"partition": "dirichlet", "alpha": 0.3}, "model": {"trainable": trainable}}
    same_bits(method={**method, "logit_adjustment": 1.0}, zo=zo, **skewed)


@pytest.mark.parametrize("name", ["heron", "heron, joint head", "fedavg", "sflv2"])
def test_steps_drawn_to_where_the_round_began_give_the_reference_bits(name: str) -> None:
    same_bits(method={**FAMILY[name], "proximal": 0.3})


# -- slopes on the server's cut gradient ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "zo", "tables"),
    [
        ({"moments": "kept", "optimizer": SGD, "proximal": 0.3}, {}, {"model": {"norm": "batch"}}),
        ({"micro_batch": 2}, {"num_directions": 2, "difference": "central"}, {}),
        (
            {"micro_batch": 4, "local_steps": 1, "mixing": True, "moments": "averaged"},
            {"scope": "micro_batch", "num_directions": 2, "distribution": "rademacher", "normalise": True},
            {"rounds": 3, "federation": {"clients": 4, "clients_per_round": 2}},
        ),
    ],
    ids=["whole batch, batch norm", "one direction over micro-batches, central", "short rounds, mixed batches"],
)
def test_slopes_on_the_cut_gradient_give_the_reference_bits(method: Tables, zo: Tables, tables: Tables) -> None:
    same_bits(method={"objective": "cut_gradient", **method}, zo=zo, **tables)


# -- the aggregation rules ---------------------------------------------------------------------------------------

ROBUST = (
    "median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "nearest_mixing", "norm_clipping", "bulyan",
)  # fmt: skip


def robust(rule: str, **more: Any) -> Tables:
    """One hostile client of seven in a round: what the most demanding rule bears."""
    return {"clients": 7, "min_clients": 7, "aggregation": rule, "hostile": 1, **more}


@pytest.mark.parametrize("rule", ROBUST)
def test_every_aggregation_rule_gives_the_reference_bits(rule: str) -> None:
    same_bits(federation=robust(rule))


@pytest.mark.parametrize("rule", ROBUST)
def test_rules_over_averaged_moments_and_running_statistics_give_the_reference_bits(rule: str) -> None:
    federation = robust(rule, clients=9, clients_per_round=7)
    same_bits(method={"name": "cse_fsl", "moments": "averaged"}, federation=federation, **MODELS["batch_norm"])


@pytest.mark.parametrize("rule", ROBUST)
def test_backs_of_the_clients_that_a_rule_selects_give_the_reference_bits(rule: str) -> None:
    same_bits(method={"name": "sflv1"}, federation=robust(rule))


@pytest.mark.parametrize("name", ["fedavg", "fsl_sage"])
def test_a_rule_with_other_methods_gives_the_reference_bits(name: str) -> None:
    same_bits(method=FAMILY[name], federation=robust("multi_krum"))


def test_a_bound_on_norms_and_a_cap_on_samples_give_the_reference_bits() -> None:
    same_bits(federation=robust("norm_clipping", clip_norm=0.05))
    dirichlet = {"partition": "dirichlet", "alpha": 1.0}
    same_bits(data=dirichlet, federation={"clients": 3, "aggregation": "samples", "most_samples": 300})


AVERAGES: dict[str, Tables] = {
    "fedavgm": {"name": "fedavgm"},
    "fedadam": {"name": "fedadam", "tau": 1e-2},
    "fedyogi": {"name": "fedyogi", "lr": 0.1},
}


@pytest.mark.parametrize("average", AVERAGES)
def test_the_servers_optimiser_on_the_average_gives_the_reference_bits(average: str) -> None:
    federation = {"clients": 3, "clients_per_round": 2, "server_average": AVERAGES[average]}
    same_bits(method={"moments": "averaged"}, rounds=3, federation=federation)
    more = {**robust("median"), "server_average": AVERAGES[average]}
    same_bits(method={"name": "fedavg"}, federation=more, **MODELS["batch_norm"])


# -- the guards of the back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cse_fsl", "sflv1", "sflv2", "heron"])
def test_gradients_clipped_upload_by_upload_give_the_reference_bits(name: str) -> None:
    method = {"name": name, **({"auxiliary_update": "server"} if name == "heron" else {})}
    for optimizer in ({}, SGD):
        same_bits(method=method, server_optimizer=optimizer, guard={"clip_gradient": 0.5})


def test_a_watch_for_outliers_that_finds_none_changes_no_bit() -> None:
    same_bits(guard={"loss_outlier": 1e6, "clip_gradient": 1e6})


# -- the averaged back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "decay"), [("heron", 0.3), ("sflv2", 0.99), ("frozen", 0.3)])
def test_the_average_of_the_back_over_the_servers_steps_gives_the_reference_bits(name: str, decay: float) -> None:
    same_bits(method=FAMILY[name], averaged_back={"decay": decay}, **MODELS["batch_norm"])


# -- the estimators ------------------------------------------------------------------------------------------------

HEADS = ("zo", "first_order", "server", "aligned")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("head", HEADS)
def test_whoever_trains_the_head_the_reference_gives_the_same_bits(head: str, model: str) -> None:
    same_bits(method={"auxiliary_update": head}, zo={"num_directions": 2}, **MODELS[model])


@pytest.mark.parametrize("head", ["first_order", "server", "aligned"])
def test_heads_with_upload_period_micro_batches_and_moments_give_the_reference_bits(head: str) -> None:
    method = {"auxiliary_update": head, "upload_period": 2, "local_steps": 5, "micro_batch": 4, "moments": "averaged"}
    same_bits(method=method, model={"auxiliary": "flatten_linear"})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("zo", [{}, {"num_directions": 2, "difference": "central", "distribution": "rademacher"}])
@pytest.mark.parametrize("head", ["zo", "first_order"])
def test_one_direction_for_each_micro_batch_gives_the_reference_bits(head: str, zo: Tables, model: str) -> None:
    method = {"auxiliary_update": head, "micro_batch": 2, "ghost_batch_norm": True}
    same_bits(method=method, zo={"scope": "micro_batch", **zo}, **MODELS[model])


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize(
    "zo",
    [{}, {"num_directions": 2, "difference": "central"}, {"distribution": "rademacher"}, {"distribution": "gaussian"}],
    ids=["sphere", "central", "rademacher", "gaussian"],
)
@pytest.mark.parametrize("head", ["first_order", "server", "aligned"])
def test_one_direction_for_each_sample_gives_the_reference_bits(head: str, zo: Tables, norm: str) -> None:
    same_bits(
        method={"auxiliary_update": head}, zo={"scope": "sample", **zo}, model={"trainable": "norm", "norm": norm}
    )


def test_one_direction_for_each_sample_in_micro_batches_gives_the_reference_bits() -> None:
    method = {"micro_batch": 4, "moments": "kept"}
    same_bits(method=method, zo={"scope": "sample"}, model={"trainable": "norm"})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("zo", [{}, {"num_directions": 2, "difference": "central"}], ids=["one", "two central"])
@pytest.mark.parametrize("head", ["zo", "first_order", "server"])
def test_one_direction_for_each_block_gives_the_reference_bits(head: str, zo: Tables, model: str) -> None:
    same_bits(method={"auxiliary_update": head}, zo={"block_wise": True, **zo}, **MODELS[model])


@pytest.mark.parametrize("head", ["zo", "first_order"])
def test_one_direction_for_each_block_in_micro_batches_gives_the_reference_bits(head: str) -> None:
    same_bits(method={"auxiliary_update": head, "micro_batch": 4}, zo={"block_wise": True}, model={"cut": "conv3"})


@pytest.mark.parametrize(
    ("zo", "norm", "trainable"),
    [
        ({"scope": "micro_batch"}, "group", "all"),
        ({"exact_stages": 2, "num_directions": 2}, "batch", "all"),
        ({"block_wise": True}, "group", "all"),
        ({"scope": "sample"}, "group", "norm"),
    ],
    ids=["micro_batch", "two stages", "blocks", "sample"],
)
def test_an_exact_gradient_of_the_last_stages_gives_the_reference_bits(zo: Tables, norm: str, trainable: str) -> None:
    method = {"micro_batch": 4, "moments": "averaged", "ghost_batch_norm": norm == "batch"}
    model = {"cut": "conv3", "norm": norm, "trainable": trainable}
    same_bits(method=method, zo={"exact_stages": 1, **zo}, model=model)


@pytest.mark.parametrize(
    ("method", "zo"),
    [
        ({}, {"num_directions": 3}),
        (JOINT, {"num_directions": 3}),
        ({**JOINT, "micro_batch": 4}, {"scope": "micro_batch"}),
        ({}, {"scope": "sample"}),
        (JOINT, {"block_wise": True, "num_directions": 2}),
    ],
    ids=["batch", "batch, joint head", "micro_batch", "sample", "block"],
)
def test_steps_normalised_by_the_slopes_spread_give_the_reference_bits(method: Tables, zo: Tables) -> None:
    same_bits(method=method, zo={"normalise": True, **zo}, model={"trainable": "norm"})


# -- many options at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [{"micro_batch": 4}, {"upload_period": 2, "mixing": True}, {"auxiliary_update": "aligned"}, {"name": "cse_fsl"}],
    ids=["micro-batches", "mixed", "aligned", "cse_fsl"],
)
@pytest.mark.parametrize("codec", [{}, {"uploads": "int4", "exact": False}], ids=["raw", "int4"])
def test_samples_that_are_sent_again_once_they_have_moved_give_the_reference_bits(
    method: Tables, codec: Tables
) -> None:
    spec = spec_of(
        method={"optimizer": {"lr": 1e-2}, **method}, codec={"reuse": True, "tolerance": 0.2, **codec},
        data={"train_limit": 48}, rounds=4,
    )  # fmt: skip
    summary = simulate(spec).summary
    sent, rows = summary["ledger"]["labels_up"] // 8, 4 * 3 * 8 * uploads_per_round(spec.method)
    assert summary["model_sha256"] == reference_run(spec) and 48 < sent < rows, "some travel again, and not all"


@pytest.mark.parametrize("setting", OPTIONS_TOGETHER)
def test_options_together_give_the_reference_bits(setting: str) -> None:
    same_bits(**OPTIONS_TOGETHER[setting])


# -- server steps on mixed batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [{"name": "heron"}, {"auxiliary_update": "server"}, {"name": "fsl_sage"}, {"name": "frozen", "upload_period": 2}],
    ids=str,
)
def test_mixed_batches_give_the_reference_bits(method: Tables) -> None:
    same_bits(method={**method, "mixing": True}, model={"name": "mlp", "input_shape": [1, 8, 8]})


@pytest.mark.parametrize("name", ["heron", "sflv2"])
def test_mixed_batches_of_drawn_clients_with_a_bound_and_batch_norm_give_the_reference_bits(name: str) -> None:
    federation, guard = {"clients": 3, "clients_per_round": 2}, {"clip_gradient": 0.3}
    tables: Tables = {"federation": federation, "guard": guard, "server_optimizer": LINEAR, **MODELS["batch_norm"]}
    tables["averaged_back"] = {"decay": 0.3}
    same_bits(method={"name": name, "mixing": True}, **tables)


# -- codecs of the cut ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "method"),
    [
        ({"uploads": "bf16"}, {"auxiliary_update": "server", "upload_period": 2}),
        ({"uploads": "int8"}, {"micro_batch": 4}),
        ({"uploads": "int2"}, {"name": "frozen", "mixing": True}),
        ({"uploads": "int4"}, {"name": "fsl_sage"}),
        ({"uploads": "topk", "cut_gradients": "bf16"}, {"name": "sflv1"}),
        ({"uploads": "int4", "cut_gradients": "int2"}, {"name": "sflv2", "mixing": True}),
        ({"uploads": "int8", "cut_gradients": "topk"}, {"objective": "cut_gradient", "micro_batch": 4}),
    ],
    ids=str,
)  # fmt: skip
def test_encoded_uploads_and_cut_gradients_give_the_reference_bits(codec: Tables, method: Tables) -> None:
    same_bits(method=method, codec=codec, **MODELS["mlp"])
