from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from client.compute.made import backend_of, round_of, same
from torch import nn

from heron_client.compute.backends.torch_backend import TorchBackend
from heron_client.uploads.upload import Upload
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.data.source import ArraySource, Source
from heron_core.device import to_inputs
from heron_core.errors import DataError
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_core.wire import window


def joint(**tables: Any) -> RunSpec:
    """As tiny.spec, with the paper's estimator: front and head together."""
    return tiny.spec(**{**tables, "method": {"auxiliary_update": "zo", **tables.get("method", {})}})


class Ran:
    """A local round run to its end."""

    def __init__(
        self, spec: RunSpec, model: SplitModel, *, rank: int = 0, round_number: int = 1, source: Source | None = None,
        state: dict[str, Array] | None = None, watch: Callable[[TorchBackend], None] = lambda backend: None,
    ) -> None:  # fmt: skip
        self.backend = backend_of(spec, model)
        self.before = self.backend.state()
        watch(self.backend)
        self.local = round_of(
            spec, self.backend, source=source, rank=rank, round_number=round_number, state=state
        )
        self.uploads: list[Upload] = [upload for upload in self.local.uploads() if upload is not None]
        self.state = self.backend.state()


def net(backend: TorchBackend) -> nn.Module:
    return backend.modules.net


# -- lean: no graph, no pass too many ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_local_round_builds_no_autograd_graph(norm: str) -> None:
    packed: list[torch.Tensor] = []
    flagged: list[bool] = []

    def watch(backend: TorchBackend) -> None:
        for module in net(backend).modules():
            module.register_forward_hook(
                lambda _m, _i, out: flagged.append(
                    out.requires_grad or out.grad_fn is not None or torch.is_grad_enabled()
                )
            )

    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        ran = Ran(joint(), tiny.conv(norm), watch=watch)
    assert not packed
    assert flagged and not any(flagged)
    assert not any(t.requires_grad for t in [*net(ran.backend).parameters(), *net(ran.backend).buffers()])
    assert all(p.grad is None for p in net(ran.backend).parameters())


@pytest.mark.parametrize("micro_batch", [0, 2])
@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ({"zo": {"num_directions": 1}}, 2),
        ({"zo": {"num_directions": 3}}, 4),
        ({"zo": {"num_directions": 1, "difference": "central"}}, 3),
        ({"zo": {"num_directions": 3, "difference": "central"}}, 7),
        ({"name": "frozen"}, 1),
    ],
)
def test_a_step_takes_exactly_its_forward_passes(method: dict[str, Any], passes: int, micro_batch: int) -> None:
    rows: dict[str, int] = {"front": 0, "auxiliary": 0}

    def watch(backend: TorchBackend) -> None:
        for part in rows:
            hooked = getattr(net(backend), part)
            hooked.register_forward_hook(
                lambda _m, args, _o, part=part: rows.__setitem__(part, rows[part] + len(args[0]))
            )

    spec = joint(method={**method, "micro_batch": micro_batch})
    ran = Ran(spec, tiny.mlp(), watch=watch)
    steps, batch = spec.method.local_steps, spec.method.batch_size
    assert rows == dict.fromkeys(rows, passes * steps * batch)
    assert ran.local.figures.forward_passes == passes * steps
    assert len(ran.local.figures.losses) == len(ran.local.figures.step_seconds) == ran.local.steps_done == steps


# -- what a forward pass may leave behind ------------------------------------------------------------------------


def test_running_statistics_move_by_the_base_forward_only() -> None:
    spec = joint(method={"local_steps": 1, "zo": {"num_directions": 4, "difference": "central", "mu": 1.0}})
    model = tiny.conv("batch")
    ran = Ran(spec, model)
    (x,), _ = tiny.source(model).batch(BatchOrder(spec.seed, 0, 24, 4).at(0))
    front = model.build("front", spec.seed).train()
    with torch.inference_mode():
        front(*to_inputs([x], torch.device("cpu"), model.channels_last))
    plain = {f"front.{name}": buffer.numpy() for name, buffer in front.named_buffers()}
    assert plain.keys() == {"front.1.running_mean", "front.1.running_var", "front.1.num_batches_tracked"}
    assert all(np.array_equal(ran.state[name], value) for name, value in plain.items())
    assert int(ran.state["front.1.num_batches_tracked"]) == 1


def masks_seen(spec: RunSpec) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []

    def watch(backend: TorchBackend) -> None:
        net(backend).front[2].register_forward_hook(lambda _m, args, out: seen.append((out == 0) & (args[0] != 0)))

    Ran(spec, tiny.mlp(dropout=0.5), watch=watch)
    return seen


def test_base_and_probes_of_a_step_share_their_dropout_masks() -> None:
    spec = joint(method={"local_steps": 3, "micro_batch": 2, "zo": {"num_directions": 2}})
    seen = masks_seen(spec)
    steps = [seen[i : i + 6] for i in range(0, 18, 6)]
    for first, second, *probes in steps:
        assert not torch.equal(first, second), "each micro-batch has its own mask"
        assert all(torch.equal(mask, (first, second)[i % 2]) for i, mask in enumerate(probes))
    assert not torch.equal(steps[0][0], steps[1][0]), "each step has its own masks"


def test_perturbing_leaves_no_drift() -> None:
    frozen = {
        "optimizer": {"name": "sgd", "lr": 1e-45},
        "zo": {"num_directions": 3, "difference": "central", "mu": 10.0},
    }
    ran = Ran(joint(method=frozen), tiny.mlp())
    assert same(ran.state, ran.before)


def test_a_frozen_client_changes_no_parameter_and_uploads_all_the_same() -> None:
    ran = Ran(joint(method={"name": "frozen"}), tiny.conv("batch"))
    assert len(ran.uploads) == 4
    for name, value in ran.before.items():
        moved = "running" in name or "tracked" in name
        assert np.array_equal(ran.state[name], value) != moved, name


def test_global_random_state_is_untouched() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()
    Ran(joint(), tiny.mlp(dropout=0.5))
    assert torch.equal(torch.get_rng_state(), state)
    after = np.random.get_state()
    assert np.array_equal(numpy_state[1], after[1]) and numpy_state[2:] == after[2:]


def test_only_trainable_names_are_perturbed_and_travel() -> None:
    model = tiny.mlp(trainable=lambda name: name.startswith("auxiliary."))
    ran = Ran(joint(), model)
    assert list(ran.state) == ["auxiliary.weight", "auxiliary.bias"]
    fresh = model.build("front", 0).state_dict()
    assert all(torch.equal(t, fresh[n]) for n, t in net(ran.backend).front.state_dict().items())
    assert not same(ran.state, ran.before)


# -- micro-batches -----------------------------------------------------------------------------------------------


def test_micro_batches_under_group_norm_give_the_whole_batch_s_losses_and_update() -> None:
    base = {"local_steps": 3, "optimizer": {"name": "sgd", "lr": 1e-3}, "zo": {"mu": 0.1, "num_directions": 2}}
    whole = Ran(joint(method=base), tiny.conv("group"))
    split = Ran(joint(method={**base, "micro_batch": 1}), tiny.conv("group"))
    assert split.local.figures.losses == pytest.approx(whole.local.figures.losses, abs=1e-6)
    # One direction serves the whole batch: with another for each micro-batch the updates would differ in direction.
    for name, value in whole.state.items():
        np.testing.assert_allclose(split.state[name], value, atol=2e-5)
    assert not same(whole.state, whole.before)


# -- uploads -----------------------------------------------------------------------------------------------------


def test_an_upload_is_the_base_forward_s_output_with_its_labels() -> None:
    spec, model = joint(method={"zo": {"mu": 1.0}}), tiny.mlp()
    thetas: list[Array] = []
    backend = backend_of(spec, model)
    source, order = tiny.source(model), BatchOrder(spec.seed, 0, 24, 4)
    local = round_of(spec, backend, source=source)
    front = model.build("front", spec.seed).train()
    for step, upload in enumerate(local.uploads()):
        thetas.append(backend.theta())  # the base point: the update comes after the upload
        front.load_state_dict(net(backend).front.state_dict())
        (x,), labels = source.batch(order.at(step))
        with torch.inference_mode():
            assert np.array_equal(upload.tensors["activations"], front(torch.from_numpy(x)).numpy())
        assert list(upload.tensors) == ["activations", "labels"]
        assert np.array_equal(upload.tensors["labels"], labels) and upload.tensors["labels"].dtype == np.int64
    assert not np.array_equal(thetas[0], thetas[1])


@pytest.mark.parametrize(
    ("period", "steps"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [1, 3, 5]), (3, [2, 5]), (7, [6]), (8, [])]
)
def test_every_kth_step_uploads_and_the_rest_of_a_round_does_not(
    period: int, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "TOGETHER_BYTES", 0)
    spec = joint(method={"local_steps": 7, "upload_period": period, "micro_batch": 2})
    model = tiny.mlp()
    ran = Ran(spec, model)
    assert [(u.sequence, u.step, u.row_start, u.batch_rows) for u in ran.uploads] == [
        (2 * i + piece, i, 2 * piece, 4) for i in range(len(steps)) for piece in range(2)
    ]
    order = BatchOrder(spec.seed, 0, 24, 4)
    for upload in ran.uploads:
        _, labels = tiny.source(model).batch(order.at(steps[upload.step]))
        assert np.array_equal(upload.tensors["labels"], labels[upload.row_start : upload.row_start + 2])


def test_an_upload_stays_what_it_was_while_the_round_goes_on() -> None:
    spec, model = joint(), tiny.conv("group")
    local = round_of(spec, backend_of(spec, model))
    kept = [(u, {n: a.copy() for n, a in u.tensors.items()}) for u in local.uploads()]
    assert all(same(u.tensors, copy) for u, copy in kept)


# -- a pure function ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["sphere", "gaussian", "rademacher"])
def test_the_same_inputs_give_the_same_bits(distribution: str) -> None:
    spec = joint(method={"zo": {"distribution": distribution, "num_directions": 2}})
    first = Ran(spec, tiny.conv("batch"))
    torch.manual_seed(1234)
    torch.rand(17)
    second = Ran(spec, tiny.conv("batch"))
    assert same(first.state, second.state)
    assert first.local.figures.losses == second.local.figures.losses
    assert all(same(a.tensors, b.tensors) for a, b in zip(first.uploads, second.uploads, strict=True))
    assert not same(first.state, first.before)


def test_what_a_round_did_before_is_forgotten_once_the_state_is_fetched_again() -> None:
    spec, model = joint(), tiny.conv("batch")
    backend = backend_of(spec, model)
    fetched, ends = backend.state(), []
    for _ in range(2):
        list(round_of(spec, backend, state=fetched).uploads())
        ends.append(backend.state())
    assert same(*ends)


@pytest.mark.parametrize("other", [{"rank": 1}, {"round_number": 2}])
def test_another_rank_or_round_gives_other_directions_and_batches(other: dict[str, int]) -> None:
    spec, model = joint(), tiny.mlp()
    (x,), labels = tiny.source(model).batch(np.arange(1))
    one_sample = ArraySource(np.repeat(x, 24, axis=0), np.repeat(labels, 24))
    here, there = Ran(spec, model, source=one_sample), Ran(spec, model, source=one_sample, **other)
    assert not same(here.state, there.state), "the same batches, so other directions"
    here, there = Ran(spec, model), Ran(spec, model, **other)
    assert not np.array_equal(here.uploads[0].tensors["activations"], there.uploads[0].tensors["activations"])


def test_another_seed_gives_another_round() -> None:
    model = tiny.mlp()
    first = Ran(joint(), model)
    second = Ran(joint(seed=1), model, state=first.before)
    assert not same(first.state, second.state)


def test_a_step_learns_on_average() -> None:
    spec = joint(method={"local_steps": 150, "batch_size": 24, "optimizer": {"lr": 3e-2}, "zo": {"num_directions": 4}})
    losses = Ran(spec, tiny.mlp()).local.figures.losses
    assert np.mean(losses[-10:]) < 0.8 * losses[0]


# -- unusable numbers --------------------------------------------------------------------------------------------


def test_a_nan_in_the_data_is_a_data_error_naming_round_and_step() -> None:
    model = tiny.mlp()
    (x,), labels = tiny.source(model, samples=48).batch(np.arange(48))
    order = BatchOrder(0, 0, 48, 4)
    x[order.at(6)] = np.nan  # round 2, step 2
    with pytest.raises(DataError, match=r"round 2, step 2: the auxiliary loss must be finite, got nan"):
        Ran(joint(), model, round_number=2, source=ArraySource(x, labels))


def test_a_perturbation_that_overflows_is_a_data_error() -> None:
    spec = joint(method={"zo": {"mu": 3e38, "distribution": "rademacher"}})
    with pytest.raises(DataError, match="round 1, step 0: the auxiliary loss must be finite"):
        Ran(spec, tiny.mlp())


@pytest.mark.parametrize(("together_bytes", "rows"), [(0, 1), (2 * 32, 2), (3 * 32, 2), (1 << 16, 4)])
def test_small_micro_batches_travel_together_and_nothing_else_changes(
    together_bytes: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is 24 bytes of activations and a label of 8."""
    spec = joint(method={"local_steps": 2, "micro_batch": 1, "zo": {"scope": "micro_batch"}})
    monkeypatch.setattr(window, "TOGETHER_BYTES", 0)
    alone = Ran(spec, tiny.mlp())
    monkeypatch.setattr(window, "TOGETHER_BYTES", together_bytes)
    ran = Ran(spec, tiny.mlp())
    assert [(u.sequence, u.step, u.row_start) for u in ran.uploads] == [
        (number, number * rows // 4, number * rows % 4) for number in range(8 // rows)
    ]
    assert same(ran.state, alone.state)
    for name in ("activations", "labels"):
        sent = [np.concatenate([u.tensors[name] for u in each.uploads]) for each in (ran, alone)]
        assert np.array_equal(*sent)
