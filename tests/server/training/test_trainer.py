from __future__ import annotations

import copy
import dataclasses
from itertools import product
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from heron_core.arrays import Array, TensorSpec
from heron_core.data.source import Source
from heron_core.errors import ModelError, TensorError
from heron_core.models.split_model import AssembledModel, SplitModel
from heron_core.streams import seeded_torch
from heron_core.wire.activation_codec import CODECS
from heron_server.training.decoding import checked
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload

OPTIMIZERS = [{"name": "adam"}, {"name": "sgd", "momentum": 0.9}, {"name": "sgd"}]


def trainer(model: SplitModel | None = None, test: Source | None = None, **tables: Any) -> Trainer:
    return Trainer(tiny.spec(**tables), model or tiny.mlp(), torch.device("cpu"), test)


def upload(number: int = 0, rows: int = 4, shape: tuple[int, ...] = (6,)) -> Upload:
    rng = torch.Generator().manual_seed(number)
    return Upload(number, (torch.randn(rows, *shape, generator=rng),), torch.arange(rows) % tiny.CLASSES)


def bits(made: Trainer) -> dict[str, Array]:
    return made.save()


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "dropout", "batch"])
def test_training_is_a_plain_torch_step_bit_for_bit(optimizer: dict[str, Any], kind: str) -> None:
    model = {"mlp": tiny.mlp(), "dropout": with_dropout(), "batch": tiny.conv("batch")}[kind]
    shape = model.activations[0].shape
    made = trainer(model, server_optimizer={"lr": 0.01, **optimizer})
    back = model.build("back", 0).train()
    parameters = list(back.parameters())
    if optimizer["name"] == "adam":
        plain: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=0.01, foreach=False)
    else:
        plain = torch.optim.SGD(parameters, lr=0.01, momentum=optimizer.get("momentum", 0.0), foreach=False)
    losses = []
    for number in range(3):
        made.train("edge-1", 1, 2, upload(number, shape=shape))
        plain.zero_grad()
        batch = upload(number, shape=shape)
        with seeded_torch(0, "server", "round", 2, "client", 1, "step", number):
            loss = torch.nn.functional.cross_entropy(
                back(batch.activations[0]), batch.labels_B, reduction="none"
            ).mean()
        loss.backward()
        plain.step()
        losses.append(loss.item())
    assert all(
        torch.equal(a, b) for a, b in zip(made.back.state_dict().values(), back.state_dict().values(), strict=True)
    )
    assert made.take_mean_loss() == np.mean(losses)
    assert made.take_mean_loss() is None


def with_dropout() -> SplitModel:
    made = tiny.mlp()
    return SplitModel(
        made.front, made.auxiliary, lambda: torch.nn.Sequential(torch.nn.Dropout(0.5), made.back()),
        made.inputs, made.activations, made.task,
    )  # fmt: skip


def bad_upload(harm: str) -> Upload:
    made = upload()
    if harm == "label too large":
        made.labels_B[1] = tiny.CLASSES
    elif harm == "label negative":
        made.labels_B[1] = -1
    else:
        made.activations[0][2, 3] = float(harm)
    return made


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("label too large", r"labels must lie in 0\.\.2, got 0\.\.3"),
        ("label negative", r"labels must lie in 0\.\.2, got -1\.\.2"),
        ("nan", r"client 'edge-1', upload 0: activations must be finite, got 1 NaN or Inf of 24"),
        ("inf", r"activations must be finite"),
        ("-inf", r"activations must be finite"),
    ],
)
def test_unusable_uploads_are_refused_and_leave_the_back_untouched(harm: str, message: str) -> None:
    made = trainer()
    made.train("edge-1", 0, 1, upload(1))
    before, loss = bits(made), made.take_mean_loss()
    with pytest.raises(TensorError, match=message):
        made.train("edge-1", 0, 1, bad_upload(harm))
    assert same(bits(made), before) and loss > 0 and made.take_mean_loss() is None


def test_huge_but_finite_activations_are_not_mistaken_for_inf() -> None:
    big = Upload(0, (torch.full((4, 6), 3e38),), torch.zeros(4, dtype=torch.int64))
    checked(tiny.mlp(), "edge-1", big, CODECS["raw"])


def test_integer_activations_are_not_checked_for_nan() -> None:
    made = tiny.mlp()
    model = SplitModel(
        made.front, made.auxiliary, made.back, made.inputs, (TensorSpec("ids", (2,), "int64"),), made.task
    )
    sent = Upload(0, (torch.ones(4, 2, dtype=torch.int64),), torch.zeros(4, dtype=torch.int64))
    checked(model, "edge-1", sent, CODECS["raw"])


@pytest.mark.parametrize(
    ("spec", "sent", "message"),
    [
        (TensorSpec("ids", (2,), "int64", count=5), torch.tensor([[0, 5]]), r"ids must lie in 0\.\.4, got 0\.\.5"),
        (TensorSpec("mask", (2,), "bool"), torch.tensor([[1, 7]], dtype=torch.uint8).view(torch.bool),
         r"mask must lie in 0\.\.1, got 1\.\.7"),
    ],
)  # fmt: skip
def test_integers_outside_their_vocabulary_and_odd_bools_are_refused(
    spec: TensorSpec, sent: torch.Tensor, message: str
) -> None:
    made = tiny.mlp()
    model = SplitModel(made.front, made.auxiliary, made.back, made.inputs, (spec,), made.task)
    with pytest.raises(TensorError, match=f"client 'edge-1', upload 0: {message}"):
        checked(model, "edge-1", Upload(0, (sent,), torch.zeros(1, dtype=torch.int64)), CODECS["raw"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", [tiny.mlp(), tiny.conv("batch")], ids=["mlp", "batch"])
def test_tensors_round_trip_bit_for_bit_and_training_goes_on_as_if_never_stopped(
    optimizer: dict[str, Any], model: SplitModel
) -> None:
    shape, tables = model.activations[0].shape, {"server_optimizer": {"lr": 0.05, **optimizer}}
    first = trainer(model, **tables)
    for number in range(2):
        first.train("a", 0, 1, upload(number, shape=shape))
    saved = bits(first)
    first.train("a", 0, 1, upload(2, shape=shape))
    second = trainer(model, **tables)
    second.train("a", 0, 1, upload(9, shape=shape))
    second.load({}, saved)
    assert same(bits(second), saved)
    second.train("a", 0, 1, upload(2, shape=shape))
    assert same(bits(second), bits(first))


def test_loading_a_fresh_checkpoint_forgets_the_optimiser() -> None:
    first, second = trainer(), trainer()
    fresh = bits(first)
    first.train("a", 0, 1, upload(0))
    first.load({}, fresh)
    first.train("a", 0, 1, upload(1))
    second.train("a", 0, 1, upload(1))
    assert same(bits(first), bits(second))
    assert first.take_mean_loss() == second.take_mean_loss()


def test_saved_tensors_are_copies() -> None:
    made = trainer()
    saved = bits(made)
    kept = {n: a.copy() for n, a in saved.items()}
    state = made.client_state()
    made.train("a", 0, 1, upload(0))
    made.load_client_state({n: a + 1 for n, a in state.items()})
    assert same(saved, kept) and not same(bits(made), saved)
    assert not np.array_equal(made.client_state()["front.0.weight"], state["front.0.weight"])


def head_overflows() -> SplitModel:
    """The head's loss of huge activations is not finite, the back's is."""
    made = tiny.mlp()
    model: SplitModel = dataclasses.replace(made, back=lambda: torch.nn.Sequential(torch.nn.Tanh(), made.back()))
    return model


SERVER_HEAD = {"auxiliary_update": "server"}


@pytest.mark.parametrize(
    ("kind", "method"),
    [*product(["mlp", "batch"], [{"name": "sflv1"}, {"name": "sflv2"}, SERVER_HEAD]), ("head", SERVER_HEAD)],
    ids=str,
)
def test_activations_whose_loss_is_not_finite_are_refused_and_leave_back_and_head_untouched(
    kind: str, method: dict[str, Any]
) -> None:
    model = {"mlp": tiny.mlp(), "batch": tiny.conv("batch"), "head": head_overflows()}[kind]
    made, shape = trainer(model, method=method), model.activations[0].shape
    made.train("edge-1", 0, 1, upload(1, shape=shape))
    before, head, loss = bits(made), made.client_state(), made.take_mean_loss()
    bad = Upload(7, (torch.full((4, *shape), 3e38),), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(TensorError, match=r"'edge-1', upload 7: the server's loss must be finite, got (nan|inf)"):
        made.train("edge-1", 0, 1, bad)
    assert same(bits(made), before) and same(made.client_state(), head)
    assert loss is not None and made.take_mean_loss() is None
    made.train("edge-2", 1, 1, upload(2, shape=shape))
    assert made.take_mean_loss() is not None


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_a_back_that_is_spoiled_itself_ends_the_run_and_blames_no_client(value: float) -> None:
    made = trainer()
    with torch.no_grad():
        for parameter in made.back.parameters():
            parameter.fill_(value)
    with pytest.raises(ModelError, match=r"the server's loss must be finite.*lower server_optimizer\.lr"):
        made.train("a", 0, 1, upload(0))


def test_a_head_of_the_server_s_that_is_not_finite_ends_the_run_though_no_loss_shows_it() -> None:
    made = trainer(method=SERVER_HEAD, server_optimizer={"name": "sgd", "lr": 1e38})
    made.train("a", 0, 1, Upload(0, (upload(0).activations[0] * 1e3,), upload(0).labels_B))
    with pytest.raises(ModelError, match=r"the auxiliary head must be finite.*lower server_optimizer\.lr"):
        made.take_mean_loss()


def test_evaluation_counts_the_assembled_model_and_touches_nothing() -> None:
    model = tiny.conv("batch")
    test = tiny.source(model, samples=23)
    made = trainer(model, test)
    before, state = bits(made), made.client_state()
    counts = made.evaluate(batch_rows=5)
    (x,), labels = test.batch(np.arange(23))
    whole = AssembledModel(model.build("front", 0), model.build("back", 0)).eval()
    with torch.inference_mode():
        logits = whole(torch.from_numpy(x))
    assert counts.samples == 23
    assert counts.measured == {"accuracy": (int((logits.argmax(1).numpy() == labels).sum()), 23)}
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    assert counts.loss_sum == pytest.approx(float(expected), rel=1e-5)
    assert counts.class_counts == np.bincount(labels, minlength=3).tolist()
    assert same(bits(made), before) and same(made.client_state(), state)
    assert made.back.training and not made._client.training


def test_an_evaluation_refuses_labels_out_of_range() -> None:
    with pytest.raises(TensorError, match="labels must lie in"):
        trainer().evaluate_upload("a", bad_upload("label too large"))


def test_a_back_without_parameters_trains_on_nothing() -> None:
    made = tiny.mlp()
    model = SplitModel(
        made.front, made.auxiliary, lambda: torch.nn.Flatten(), made.inputs, (TensorSpec("z", (3,)),), made.task
    )
    server = trainer(model)
    server.train("a", 0, 1, upload(0, shape=(3,)))
    assert server.take_mean_loss() > 0


def test_global_random_state_is_untouched() -> None:
    state = torch.get_rng_state()
    made = trainer(with_dropout(), tiny.source(tiny.mlp()))
    made.train("a", 0, 1, upload(0))
    made.evaluate()
    assert torch.equal(torch.get_rng_state(), state)


# -- what the methods add ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sflv1", "sflv2"])
def test_cut_gradients_are_autograd_s_at_the_back_before_its_step(name: str) -> None:
    made = trainer(method={"name": name}, server_optimizer={"lr": 0.1})
    for number in range(2):
        before = copy.deepcopy(made._backs.trainee(1).module)
        sent = upload(number)
        returned = made.train("a", 1, 1, sent)
        z = upload(number).activations[0].requires_grad_()
        loss = torch.nn.functional.cross_entropy(before(z), sent.labels_B, reduction="none").mean()
        loss.backward()
        assert returned is not None and z.grad is not None
        assert (returned.number, returned.loss) == (number, loss.item())
        np.testing.assert_array_equal(returned.tensors["activations"], z.grad.numpy())
        assert not sent.activations[0].requires_grad, "the upload's memory is used again"


def test_asking_for_cut_gradients_does_not_change_the_back_s_bits() -> None:
    plain, returning = trainer(), trainer(method={"name": "sflv2"})
    for number in range(3):
        assert plain.train("a", 0, 1, upload(number)) is None
        returning.train("a", 0, 1, upload(number))
    assert same(bits(plain), bits(returning))


def test_cut_gradients_are_row_major_whatever_the_back_s_layout() -> None:
    model = tiny.conv("batch")
    made = Trainer(tiny.spec(method={"name": "sflv2"}), model, torch.device("cpu"))
    made.back.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    returned = made.train("a", 0, 1, upload(0, shape=(4, 6, 6)))
    assert returned is not None and returned.tensors["activations"].flags.c_contiguous


def test_a_back_that_ignores_the_cut_returns_zeros() -> None:
    class Deaf(torch.nn.Linear):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.ones_like(z))

    made = tiny.mlp()
    model = SplitModel(made.front, made.auxiliary, lambda: Deaf(6, 3), made.inputs, made.activations, made.task)
    returned = trainer(model, method={"name": "sflv2"}).train("a", 0, 1, upload(0))
    assert returned is not None and not returned.tensors["activations"].any()


def test_the_server_trains_the_head_on_what_it_receives_and_the_back_as_ever() -> None:
    tables: dict[str, Any] = {"server_optimizer": {"lr": 0.05}}
    plain, made = trainer(**tables), trainer(method={"auxiliary_update": "server"}, **tables)
    head = tiny.mlp().build("auxiliary", 0)
    adam = torch.optim.Adam(head.parameters(), lr=0.05, foreach=False)
    for number in range(3):
        for server in (plain, made):
            server.train("a", 0, 1, upload(number))
        batch = upload(number)
        adam.zero_grad()
        losses_B = torch.nn.functional.cross_entropy(head(batch.activations[0]), batch.labels_B, reduction="none")
        losses_B.mean().backward()
        adam.step()
    assert made.head is not None and not made.head.training
    assert all(torch.equal(a, b) for a, b in zip(made.head.parameters(), head.parameters(), strict=True))
    assert same(made.back_tensors(), plain.back_tensors())


def test_dropout_in_the_server_s_head_has_a_stream_of_its_own() -> None:
    made = tiny.mlp()
    dropping = SplitModel(
        made.front, lambda: torch.nn.Sequential(torch.nn.Dropout(0.5), made.auxiliary()), made.back,
        made.inputs, made.activations, made.task,
    )  # fmt: skip
    servers = [trainer(dropping, method={"auxiliary_update": "server"}) for _ in range(2)]
    torch.manual_seed(1)
    servers[0].train("a", 0, 1, upload(0))
    torch.manual_seed(2)
    servers[1].train("a", 0, 1, upload(0))
    assert same(servers[0].client_state(), servers[1].client_state())


METHODS: list[dict[str, Any]] = [
    {"name": "sflv1"}, {"name": "sflv2"}, {"name": "fsl_sage"}, {"name": "cse_fsl"}, {"name": "frozen"},
    {"auxiliary_update": "server"}, {"auxiliary_update": "aligned"}, {"auxiliary_update": "first_order"},
    {"objective": "cut_gradient"},
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_s_tensors_round_trip_and_training_goes_on_as_if_never_stopped(method: dict[str, Any]) -> None:
    def train(server: Trainer, number: int) -> None:
        for rank in (0, 1):
            server.train(f"client {rank}", rank, number, upload(10 * number + rank))
        server.end_round(number, {}, {0: 0.5, 1: 0.5})

    first, second = trainer(method=method), trainer(method=method)
    for number in (1, 2):
        train(first, number)
    saved, state = bits(first), first.client_state()
    train(second, 7)
    second.load(state, saved)
    assert same(bits(second), saved)
    for server in (first, second):
        train(server, 3)
    assert same(bits(first), bits(second)) and same(first.client_state(), second.client_state())


def test_fedavg_s_back_comes_with_the_client_state() -> None:
    made = trainer(method={"name": "fedavg"})
    state = made.client_state()
    made.load_client_state({n: t + 1 for n, t in state.items()})
    assert {n: t.tolist() for n, t in made.back_tensors().items()} == {
        n: (t + 1).tolist() for n, t in state.items() if n.startswith("back.")
    }
    assert made.back.training and set(bits(made)) == set(made.back_tensors()), "no optimiser on the server"


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_accuracy_of_the_head_is_counted_where_there_is_one_for_all(method: dict[str, Any]) -> None:
    counts = trainer(test=tiny.source(tiny.mlp()), method=method).evaluate()
    headless = method.get("name") in ("sflv1", "sflv2", "fsl_sage") or "objective" in method
    single = not headless and method != {"auxiliary_update": "aligned"}
    assert counts.samples == 24 and bool(counts.auxiliary) == single
