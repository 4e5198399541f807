"""The server's memory, counted before the run: what grows with the clients is named, and refused above the limit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans import FRONT, HEAD, facts_of

from heron_core.errors import ConfigError
from heron_core.models import build_split_model
from heron_core.spec.data import DataSpec
from heron_core.spec.run_spec import RunSpec
from heron_server.aggregation.aggregator import Updates
from heron_server.aggregation.rules import RULES
from heron_server.config import ServerSettings
from heron_server.planning.checks import check_run, clients_evaluate
from heron_server.planning.client_state import client_state
from heron_server.planning.memory import check_memory_limit, server_memory
from heron_server.training.trainer import Trainer

BACK = 11_098_122
SGD = {"name": "sgd"}


def resnet(clients: int, **method: Any) -> RunSpec:
    return RunSpec.model_validate({
        "model": {"name": "resnet18", "norm": "batch", "auxiliary": "flatten_linear"},
        "data": {"source": "client"}, "method": method, "federation": {"clients": clients},
    })  # fmt: skip


def items(spec: RunSpec, *, slots: int = 6) -> dict[str, int]:
    counted = server_memory(spec, slots, facts_of(spec))
    return {item.name: item.size_bytes for item in counted}


def test_sflv1_of_128_resnet18_with_adam_holds_17_gigabytes_of_backs() -> None:
    backs = items(resnet(128, name="sflv1"))["a back for each client"]
    assert backs == pytest.approx(128 * 3 * 4 * BACK, rel=0.01)
    assert round(backs / 1e9) == 17


def test_drawing_clients_saves_copies_but_not_moments() -> None:
    whole = items(resnet(128, name="sflv1"))["a back for each client"]
    spec = resnet(128, name="sflv1")
    drawn = spec.model_copy(update={"federation": spec.federation.model_copy(update={"clients_per_round": 8})})
    saved = whole - items(drawn)["a back for each client"]
    assert saved == pytest.approx(120 * 4 * BACK, rel=0.01)


def test_one_back_for_all_does_not_grow_with_the_clients() -> None:
    few, many = (items(resnet(n, name="sflv2"))["the back"] for n in (2, 128))
    assert few == many == pytest.approx(3 * 4 * BACK, rel=0.01)
    assert items(resnet(2, name="fedavg"))["the back"] == pytest.approx(4 * BACK, rel=0.01), "no optimiser"


def test_an_averaged_back_is_counted_as_one_back_more_and_saved() -> None:
    spec = RunSpec.model_validate({**resnet(2).model_dump(), "averaged_back": {"decay": 0.99}})
    plain, averaged = checked(resnet(2)), checked(spec)
    back = averaged["the averaged back"]
    assert back == pytest.approx(4 * BACK, rel=0.01) and "the averaged back" not in plain
    assert averaged["a checkpoint being written"] == plain["a checkpoint being written"] + 2 * back


def test_a_round_that_is_held_is_counted_as_half_of_a_checkpoint_being_written() -> None:
    plain, rare = checked(resnet(2)), checked(resnet(2), checkpoint_every=2)
    written = plain.pop("a checkpoint being written")
    assert rare.pop("the last round, not yet saved") == written / 2
    assert rare == {**plain, "a checkpoint being written": written}


def test_what_each_client_keeps_is_counted_for_each() -> None:
    kept = items(resnet(10, name="cse_fsl", moments="kept"))["kept moments"]
    assert kept == 2 * 10 * (2 * 4 * (FRONT + HEAD) + 8)
    aligned = items(resnet(10, name="fsl_sage", batch_size=100, alignment={"buffer_samples": 250}))
    assert aligned["aligned heads"] == 2 * 10 * 4 * HEAD
    assert aligned["alignment buffers"] == 10 * 2 * 100 * (65_536 * 4 + 8)
    assert items(resnet(10, name="sflv2", batch_size=64))["cut gradients"] == 10 * 64 * 65_536 * 4


def test_the_moments_of_a_head_that_the_server_trains_are_counted_and_saved() -> None:
    ours, server = (items(resnet(2, auxiliary_update=who)) for who in ("first_order", "server"))
    assert server["the head's moments"] == 2 * 4 * HEAD and "the head's moments" not in ours
    assert server["a checkpoint being written"] == ours["a checkpoint being written"] + 2 * 2 * 4 * HEAD


def checked(spec: RunSpec, **settings: Any) -> dict[str, int]:
    counted = check_run(spec, ServerSettings(device="cpu", **settings)).memory
    return {item.name: item.size_bytes for item in counted}


def test_uploads_for_evaluation_by_clients_are_counted_where_the_method_has_no_others() -> None:
    upload = 32 * (65_536 * 4 + 8)
    spec = resnet(2, name="fedavg")
    assert checked(spec)["uploads"] == 6 * upload and "uploads" not in items(spec, slots=0)
    assert clients_evaluate(spec.data, ServerSettings())
    assert not clients_evaluate(spec.data, ServerSettings(test_data="npz", test_path=Path("test.npz")))
    assert clients_evaluate(DataSpec(source="client", holdout=0.0, validation=0.2), ServerSettings())
    held_out_none = spec.model_copy(update={"data": spec.data.model_copy(update={"holdout": 0.0})})
    assert "uploads" not in checked(held_out_none)
    with pytest.raises(ConfigError, match=r"server\.byte_budget must hold two whole uploads"):
        checked(spec, byte_budget=upload)
    checked(held_out_none, byte_budget=upload)


def test_uploads_are_bounded_by_the_budget_and_by_the_clients() -> None:
    upload = 32 * (65_536 * 4 + 8)
    assert checked(resnet(2))["uploads"] == 6 * upload
    assert checked(resnet(2), byte_budget=3 * upload)["uploads"] == 3 * upload


def test_the_pool_of_mixed_batches_is_counted_beside_the_uploads() -> None:
    activations, label = 65_536 * 4, 8
    upload = 32 * (activations + label)
    assert checked(resnet(2, mixing=True), byte_budget=3 * upload)["the pool of mixed batches"] == 3 * upload
    returning = checked(resnet(2, name="sflv2", mixing=True))["the pool of mixed batches"]
    assert returning == 3 * (upload + 32 * activations)
    with pytest.raises(ConfigError, match=r"mixing pools an upload of each of 2 clients.* hold 3 whole uploads"):
        checked(resnet(2, mixing=True), byte_budget=2 * upload)


def test_the_back_and_its_moments_are_what_the_trainer_really_holds() -> None:
    import torch

    spec = RunSpec()
    model = build_split_model(spec.model)
    trainer = Trainer(spec, model, torch.device("cpu"))
    held = sum(t.numel() * t.element_size() for t in trainer.back.state_dict().values())
    moments = 2 * sum(p.numel() * 4 for p in trainer.back.parameters())
    assert items(spec)["the back"] == held + moments


@pytest.mark.parametrize("name", ["cse_fsl", "fedavg"])
def test_a_checkpoint_is_counted_twice_while_it_is_written(name: str) -> None:
    import torch

    spec = RunSpec.model_validate({"method": {"name": name, "optimizer": {"name": "sgd"}}, "server_optimizer": SGD})
    model = build_split_model(spec.model)
    trainer = Trainer(spec, model, torch.device("cpu"))
    saved = sum(t.nbytes for t in (*trainer.save().values(), *trainer.client_state().values()))
    assert items(spec)["a checkpoint being written"] == 2 * saved


def test_more_than_the_limit_is_refused_with_the_figure_and_what_to_lower() -> None:
    spec, limit = resnet(128, name="sflv1"), ServerSettings(memory_limit=10 << 30, device="cpu")
    with pytest.raises(ConfigError) as refused:
        check_run(spec, limit)
    for words in (
        "the run needs 39.33 GiB", "server.memory_limit is 10.00 GiB", "a back for each client: 15.92 GiB",
        'lower federation.clients, or take method.name = "sflv2"', "or raise server.memory_limit",
    ):  # fmt: skip
        assert words in str(refused.value)


def test_without_a_limit_this_machine_s_memory_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = check_run(resnet(2), ServerSettings(device="cpu")).memory
    check_memory_limit(counted, 0)
    monkeypatch.setattr("heron_server.planning.memory.total_memory", lambda: 1 << 20)
    with pytest.raises(ConfigError, match=r"this machine's memory is 1\.00 MiB; most of it is "):
        check_memory_limit(counted, 0)


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_makes_of_the_updates_is_counted_up_to_a_factor_of_two(rule: str) -> None:
    federation = {"clients": 8, "min_clients": 7, "aggregation": rule, "hostile": 1}
    spec = RunSpec.model_validate({
        "model": {"name": "mlp", "input_shape": [1, 64, 64], "widths": [24, 8]}, "federation": federation,
        "method": {"name": "cse_fsl", "moments": "averaged"},
    })  # fmt: skip
    tensors = [t for t in client_state(spec.method, facts_of(spec)) if t.place == "averaged"]
    random = np.random.default_rng(0)
    states = {rank: {t.name: random.random(t.size, np.float32) for t in tensors} for rank in range(8)}
    updates = Updates(states, dict.fromkeys(states, 1), states[0])
    aggregator = RULES[rule].make(spec.federation)
    tracemalloc.start()
    aggregator.aggregate(updates)
    peak = tracemalloc.get_traced_memory()[1] - sum(t.size_bytes for t in tensors)
    tracemalloc.stop()
    few = 6 * 8 * max(t.size for t in tensors)
    assert peak <= items(spec).get(f"work of {rule}", few) <= max(2 * peak, few)
