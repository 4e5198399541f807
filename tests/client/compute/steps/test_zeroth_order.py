"""Every estimator of a zeroth-order client: what it costs, what it leaves behind, and that its mean is the gradient."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import plain
import pytest
import tiny
import torch
from client.compute.made import CPU, backend_of, same
from torch import Tensor, nn

from heron_client.compute.backend import MicroBatch
from heron_client.compute.backends.torch_backend import TorchBackend
from heron_client.compute.batch import Batch
from heron_client.compute.client_state import ClientState
from heron_client.compute.steps import make_stepper
from heron_client.compute.steps.probing import Probing
from heron_client.compute.steps.zeroth_order import ZerothOrderStepper, estimator_of
from heron_core.arrays import TensorSpec
from heron_core.device import to_inputs
from heron_core.errors import DataError, ModelError
from heron_core.models import build_split_model
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.classification import Classification
from heron_core.spec.run_spec import ModelSpec, RunSpec
from heron_core.streams import seeded_torch
from heron_core.wire import window

ROWS = 4
ESTIMATORS: dict[str, dict[str, Any]] = {
    "batch": {"scope": "batch"},
    "micro_batch": {"scope": "micro_batch"},
    "sample": {"scope": "sample"},
    "blocks": {"block_wise": True},
}
HEADS = ["zo", "first_order", "server", "aligned"]
PAIRS = [(name, head) for name in ESTIMATORS for head in HEADS if (name, head) != ("sample", "zo")]


def trunk(trainable: Callable[[str], bool] = lambda name: True) -> SplitModel:
    """Two stages, [6] to [4] to [3], then a linear head: 28 + 15 + 12 parameters."""
    spec = {"name": "mlp", "input_shape": (6,), "widths": (4, 3), "cut": "hidden2", "classes": tiny.CLASSES}
    return replace(build_split_model(ModelSpec.model_validate(spec)), trainable=trainable)


def biases_and_head(name: str) -> bool:
    return name.endswith("bias") or name.startswith("auxiliary.")


def model_for(name: str) -> SplitModel:
    return trunk(biases_and_head) if name == "sample" else trunk()


def spec_for(name: str, head: str = "first_order", micro_batch: int = 2, **zo: Any) -> RunSpec:
    method = {"auxiliary_update": head, "micro_batch": micro_batch, "zo": {**ESTIMATORS[name], "mu": 1e-2, **zo}}
    return tiny.spec(method=method)


def estimated(spec: RunSpec, model: SplitModel, batch: Batch | None = None) -> Probing:
    """One step's estimate at the initial parameters."""
    probing = probing_of(spec, backend_of(spec, model), batch or batch_of(spec, model))
    for _ in estimator_of(spec.method.zo)(probing):
        pass
    return probing


def probing_of(spec: RunSpec, backend: TorchBackend, batch: Batch) -> Probing:
    """As the stepper makes it for the step."""
    stepper = make_stepper(spec.method, spec.seed, ClientState(backend, spec.method))
    assert isinstance(stepper, ZerothOrderStepper)
    return stepper.probing(batch)


def batch_of(spec: RunSpec, model: SplitModel) -> Batch:
    (x,), labels = tiny.source(model).batch(np.arange(ROWS))
    rows, path = spec.method.micro_batch_rows, ("round", 1, "client", 0, "step", 0)
    micro_batches = [
        MicroBatch((x[i : i + rows],), labels[i : i + rows], (*path, "masks", number))
        for number, i in enumerate(range(0, ROWS, rows))
    ]
    return Batch(path, micro_batches, ROWS, sends=False, lr=spec.method.optimizer.lr)


def front_of(backend: TorchBackend) -> nn.Module:
    return backend.modules.front


def modules_of(probing: Probing) -> nn.Module:
    assert isinstance(probing.backend, TorchBackend)
    return probing.backend.modules.front


# -- what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("difference", "each"), [("forward", 1), ("central", 2)])
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize(("name", "head"), [pair for pair in PAIRS if pair[0] != "blocks"])
def test_a_step_takes_q_and_one_forward_passes_in_every_scope(
    name: str, head: str, q: int, difference: str, each: int
) -> None:
    spec = spec_for(name, head, num_directions=q, difference=difference)
    backend, local = plain.local_round(spec, model_for(name))
    rows = {"front": 0, "auxiliary": 0}
    for part, net in backend.modules.net.items():
        net.register_forward_hook(lambda _m, args, _o, part=part: rows.__setitem__(part, rows[part] + len(args[0])))
    plain.drive(local)
    passes = (q * each + 1) * spec.method.local_steps
    assert rows == dict.fromkeys(rows, passes * ROWS)
    assert local.figures.forward_passes == passes


@pytest.mark.parametrize(("head", "shares"), [("zo", (1, 2 / 3, 1 / 3)), ("server", (1, 2 / 3))])
def test_a_block_s_probe_runs_nothing_before_the_block(head: str, shares: tuple[float, ...]) -> None:
    spec = spec_for("blocks", head, num_directions=2)
    backend, local = plain.local_round(spec, trunk())
    calls: dict[str, int] = {}
    watched = {**dict(front_of(backend).named_children()), "auxiliary": backend.modules.net["auxiliary"]}
    for name, layer in watched.items():
        layer.register_forward_hook(
            lambda _m, args, _o, name=name: calls.__setitem__(name, calls.get(name, 0) + len(args[0]))
        )
    plain.drive(local)
    blocks, steps = len(shares), spec.method.local_steps
    expected = {"hidden1": 1 + 2 * 1, "hidden2": 1 + 2 * 2, "auxiliary": 1 + 2 * blocks}
    assert calls == {name: count * steps * ROWS for name, count in expected.items()}
    assert local.figures.forward_passes == pytest.approx(steps * (1 + 2 * sum(shares)))


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_no_graph_goes_through_the_front_and_the_head_s_is_there_only_where_it_has_its_own_gradient(
    name: str, head: str
) -> None:
    packed: list[Tensor] = []
    backend, local = plain.local_round(spec_for(name, head), model_for(name))
    graphs = []
    for layer in front_of(backend).modules():
        layer.register_forward_hook(lambda _m, _i, out: graphs.append(out.requires_grad or torch.is_grad_enabled()))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        plain.drive(local)
    assert graphs and not any(graphs)
    assert bool(packed) == (head == "first_order")
    assert {p.requires_grad for n, p in backend.modules.net.named_parameters() if n.startswith("front.")} == {False}
    assert all(p.grad is None for p in backend.modules.net.parameters())


@pytest.mark.parametrize("name", ["micro_batch", "sample"])
def test_a_micro_batch_is_done_with_before_the_next_begins_and_leaves_before_its_probes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "TOGETHER_BYTES", 0)  # as one of more bytes is
    spec, model = spec_for(name, num_directions=2), model_for(name)
    backend, local = plain.local_round(spec, model)
    alive: list[weakref.ref[Tensor]] = []
    events: list[Any] = []

    def before(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert all(ref() is None for ref in alive), "an earlier pass's activations are still held"
        events.append(float(inputs[0].flatten()[0]))

    front_of(backend).register_forward_pre_hook(before)
    front_of(backend).register_forward_hook(lambda _m, _i, out: alive.append(weakref.ref(out)))
    for upload in local.uploads():
        if upload is not None:
            events.append("upload")
        del upload
    micro_batches = [events[i : i + 4] for i in range(0, len(events), 4)]
    assert len(micro_batches) == 2 * spec.method.local_steps
    for base, sent, *probes in micro_batches:
        assert sent == "upload" and probes == [base, base]


@pytest.mark.parametrize("q", [1, 2])
def test_a_block_s_cached_input_is_let_go_after_its_last_direction(q: int) -> None:
    spec, model = spec_for("blocks", "zo", micro_batch=0, num_directions=q), trunk()
    backend, given, held = backend_of(spec, model), [], []
    probing = probing_of(spec, backend, batch_of(spec, model))
    stage = front_of(backend).get_submodule("hidden2")

    def before(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not given:
            given.append(weakref.ref(inputs[0]))

    stage.register_forward_pre_hook(before)
    backend.modules.net["auxiliary"].register_forward_pre_hook(lambda *_: held.append(given[0]() is not None))
    for _ in estimator_of(spec.method.zo)(probing):
        pass
    *earlier, head = held
    assert all(earlier) and not head, "the head's last probe is the only one after hidden2's last"


# -- what it leaves behind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_perturbing_leaves_no_drift(name: str, head: str) -> None:
    spec = spec_for(name, head, mu=10.0, num_directions=3, difference="central")
    still = spec.method.model_copy(update={"optimizer": tiny.spec(method=STILL).method.optimizer})
    backend, local = plain.local_round(spec.model_copy(update={"method": still}), model_for(name))
    before = backend.state()
    plain.drive(local)
    assert same(before, backend.state())


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_probe_that_raises_leaves_parameters_and_buffers_as_the_base_forward_made_them(name: str) -> None:
    settings = {"name": "digits_cnn", "norm": "batch", "input_shape": (1, 8, 8), "classes": tiny.CLASSES}
    norms = (".norm.weight", ".norm.bias")
    trainable = (lambda n: n.endswith(norms)) if name == "sample" else (lambda n: True)
    model = replace(build_split_model(ModelSpec.model_validate(settings)), trainable=trainable)
    spec = spec_for(name, "server", micro_batch=0, mu=1.0)
    backend, calls, after_base = backend_of(spec, model), [], {}
    probing = probing_of(spec, backend, batch_of(spec, model))

    def stop_the_probe(*_: Any) -> None:
        if calls:
            raise RuntimeError("out of memory")
        calls.append(after_base.update(backend.state()))

    backend.modules.net["auxiliary"].register_forward_pre_hook(stop_the_probe)
    with pytest.raises(ModelError, match="out of memory"):
        for _ in estimator_of(spec.method.zo)(probing):
            pass
    assert same(backend.state(), after_base)


STILL = {"optimizer": {"name": "sgd", "lr": 1e-45}}


@pytest.mark.parametrize("micro_batch", [0, 2])
@pytest.mark.parametrize("name", ["batch", "micro_batch", "sample"])
def test_only_base_forwards_move_running_statistics(name: str, micro_batch: int) -> None:
    model = replace(tiny.conv("batch"), trainable=lambda n: n.startswith(("front.1.", "auxiliary.")))
    spec = spec_for(name, micro_batch=micro_batch, mu=1.0, num_directions=3)
    probing = estimated(spec, model)
    front = model.build("front", spec.seed).train()
    with torch.inference_mode():
        for micro_batch in probing.batch.micro_batches:
            front(torch.from_numpy(micro_batch.inputs[0]))
    for buffer, value in front.named_buffers():
        assert torch.equal(dict(modules_of(probing).named_buffers())[buffer], value), buffer


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_blocks_leave_running_statistics_as_the_base_forward_made_them(norm: str) -> None:
    settings = {"name": "digits_cnn", "norm": norm, "input_shape": (1, 8, 8), "classes": tiny.CLASSES}
    model = build_split_model(ModelSpec.model_validate(settings))
    probing = estimated(spec_for("blocks", micro_batch=0, mu=1.0, num_directions=2), model)
    front = model.build("front", 0).train()
    with torch.inference_mode():
        front(*to_inputs(probing.batch.micro_batches[0].inputs, CPU, model.channels_last))
    found = dict(modules_of(probing).named_buffers())
    assert all(torch.equal(found[name], value) for name, value in front.named_buffers())


@pytest.mark.parametrize("head", ["server", "aligned"])
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_head_that_the_server_moves_stays_as_it_came(name: str, head: str) -> None:
    backend, local = plain.local_round(spec_for(name, head), model_for(name))
    before = backend.state()
    plain.drive(local)
    after = backend.state()
    moved = {name for name, value in before.items() if not np.array_equal(value, after[name])}
    assert moved and all(name.startswith("front.") for name in moved)


# -- that its mean is the gradient ---------------------------------------------------------------------------------


def exact(spec: RunSpec, model: SplitModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Autograd's gradient [D] of the batch's mean loss, and those of each sample's loss [B, D]."""
    net = nn.ModuleDict({"front": model.build("front", spec.seed), "auxiliary": model.build("auxiliary", spec.seed)})
    head_too = spec.method.auxiliary_update in ("zo", "first_order")
    parameters = [p for n, p in net.named_parameters() if model.trainable(n) and (head_too or n.startswith("front."))]
    plainly = [(each.inputs[0], each.labels) for each in batch.micro_batches]
    x, y = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*plainly, strict=True))
    losses_B = model.task.losses(net["auxiliary"](net["front"](x)), y)
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses_B]
    each_BD = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
    return each_BD.mean(0), each_BD


@pytest.mark.parametrize(
    ("name", "head", "distribution"),
    [(*pair, "sphere") for pair in PAIRS if pair[1] != "aligned"]
    + [(name, "first_order", distribution) for name in ESTIMATORS for distribution in ("gaussian", "rademacher")],
)
def test_the_mean_over_many_directions_is_the_gradient(name: str, head: str, distribution: str) -> None:
    q, model = 300, model_for(name)
    spec = spec_for(name, head, num_directions=q, mu=2e-3, distribution=distribution)
    probing = estimated(spec, model)
    true_D, each_BD = exact(spec, model, probing.batch)
    size = len(probing.theta_P)
    groups = {"micro_batch": each_BD.reshape(2, 2, -1).mean(1), "sample": each_BD}.get(name, true_D[None])[:, :size]
    found_D = torch.from_numpy(probing.gradient())
    error = (found_D[:size] - true_D[:size]).norm()
    # One direction's error is about sqrt(size + 1) gradients of its group at most; four standard errors.
    assert error < 4 * ((size + 1) / q) ** 0.5 * groups.norm() / len(groups) + 2e-2 * true_D.norm()
    assert true_D[:size].norm() > 0.05
    if head == "first_order":
        torch.testing.assert_close(found_D[size:], true_D[size:], rtol=1e-5, atol=1e-7)


def test_the_detached_head_s_gradient_is_autograd_s_to_the_bit() -> None:
    spec, model = spec_for("batch", micro_batch=0), tiny.mlp(dropout=0.5)
    probing = estimated(spec, model)
    front, head = model.build("front", 0).train(), model.build("auxiliary", 0).train()
    (micro_batch,) = probing.batch.micro_batches
    with seeded_torch(spec.seed, *micro_batch.masks), torch.no_grad():
        z = front(torch.from_numpy(micro_batch.inputs[0]))
    loss = model.task.losses(head(z), torch.from_numpy(micro_batch.labels)).sum() / ROWS
    want = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(head.parameters()))])
    assert np.array_equal(probing.gradient()[len(probing.theta_P) :], want.numpy())


def test_the_last_stage_s_exact_gradient_is_autograd_s_from_its_input_on_and_no_graph_begins_below() -> None:
    spec, model = spec_for("micro_batch", exact_stages=1), trunk()
    probing = estimated(spec, model)
    below, last = (getattr(modules_of(probing), f"hidden{number}") for number in (1, 2))
    assert [any(p.requires_grad for p in stage.parameters()) for stage in (below, last)] == [False, True]
    assert len(probing.theta_P) == 28 and len(probing.slopes) == 2
    front, head = model.build("front", 0).train(), model.build("auxiliary", 0).train()
    pairs = zip(*((m.inputs[0], m.labels) for m in probing.batch.micro_batches), strict=True)
    x, y = (torch.from_numpy(np.concatenate(pieces)) for pieces in pairs)
    losses = model.task.losses(head(front(x)), y)
    own = [*front.get_submodule("hidden2").parameters(), *head.parameters()]
    want = torch.cat([g.reshape(-1) for g in torch.autograd.grad(losses.mean(), own)])
    torch.testing.assert_close(torch.from_numpy(probing.gradient()[28:]), want, rtol=1e-5, atol=1e-7)


def test_a_block_s_slope_is_that_of_a_whole_pass_with_the_block_alone_perturbed() -> None:
    spec, model = spec_for("blocks", "zo", num_directions=2), trunk()
    probing = estimated(spec, model)
    assert isinstance(probing.backend, TorchBackend)
    whole = probing_of(spec, probing.backend, probing.batch)
    loss_at = whole.mean_loss_at([0, 1])
    base, slopes, sizes = loss_at(probing.theta_P), [], [28, 15, 12]
    for j in range(2):
        for number, size in enumerate(sizes):
            u_D, start = np.zeros_like(probing.theta_P), sum(sizes[:number])
            u_D[start : start + size] = whole.direction(j, "block", number, size=size)
            slopes.append((loss_at(probing.theta_P + 1e-2 * u_D) - base) / 1e-2)
    assert probing.slopes == pytest.approx(slopes, abs=1e-4)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_normalise_divides_by_the_spread_of_all_the_step_s_slopes(name: str) -> None:
    spec, model = spec_for(name, num_directions=3), model_for(name)
    bare, normalised = estimated(spec, model), estimated(spec_for(name, num_directions=3, normalise=True), model)
    counts = {"batch": 3, "micro_batch": 6, "sample": 3 * ROWS, "blocks": 6}
    assert len(bare.slopes) == counts[name] and bare.slopes == normalised.slopes
    wanted, size = bare.gradient(), len(bare.theta_P)
    wanted[:size] /= float(np.std(bare.slopes))
    assert np.array_equal(normalised.gradient(), wanted), "the head's own gradient is not divided"


# -- what cannot be ------------------------------------------------------------------------------------------------


def test_weights_that_cannot_differ_from_sample_to_sample_are_named() -> None:
    with pytest.raises(ModelError, match=r"front\.hidden1\.linear\.weight cannot differ from sample to sample"):
        estimated(spec_for("sample"), trunk())


def test_blocks_need_a_front_made_of_stages() -> None:
    with pytest.raises(ModelError, match=r"block_wise and exact_stages need a front made of stages.*Sequential"):
        estimated(spec_for("blocks"), tiny.mlp())


@pytest.mark.parametrize("name", ["batch", "micro_batch", "blocks"])
def test_a_perturbation_that_overflows_is_a_data_error_naming_round_and_step(name: str) -> None:
    spec = spec_for(name, mu=3e38, distribution="rademacher")
    with pytest.raises(DataError, match="round 1, step 0: the auxiliary loss must be finite"):
        estimated(spec, model_for(name))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_nan_in_any_micro_batch_s_data_is_a_data_error(name: str) -> None:
    spec, model = spec_for(name), model_for(name)
    batch = batch_of(spec, model)
    batch.micro_batches[1].inputs[0][0] = np.nan
    with pytest.raises(DataError, match="round 1, step 0: the auxiliary loss must be finite, got nan"):
        estimated(spec, model, batch)


def test_several_tensors_at_the_cut_go_through_every_estimator_that_needs_no_stages() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.norm(x), x.sum(1)

    class Head(nn.Linear):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return super().forward(a) + b[:, None]

    model = SplitModel(
        front=Two, auxiliary=lambda: Head(5, tiny.CLASSES), back=nn.Identity, inputs=(TensorSpec("input", (5,)),),
        activations=(TensorSpec("a", (5,)), TensorSpec("b", ())), task=Classification(tiny.CLASSES),
    )  # fmt: skip
    for name in ("batch", "micro_batch", "sample"):
        assert np.isfinite(estimated(spec_for(name), model).gradient()).all()
