"""Clients with data of their own come into a run over either transport: by name, in any order, again and again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from integration.worlds import GrpcWorld, InProcessWorld, Member

from heron_client.check import ask_server
from heron_client.compute.backends.torch_backend import build_torch_backend
from heron_client.config import ClientSettings
from heron_client.session.joining import Joining
from heron_client.transport.interface import Transport
from heron_client.transport.trust import PLAIN
from heron_core.errors import BadReply, DataError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec
from heron_simulator.forwarding import Forwarding

FRUIT = ("apfel", "birne", "kirsche")
SPEC = RunSpec.model_validate({
    "rounds": 2, "model": {"name": "mlp", "input_shape": [4], "classes": 3, "widths": [4, 4]},
    "method": {"name": "cse_fsl", "local_steps": 2, "batch_size": 4},
    "data": {"source": "client", "holdout": 0.25}, "federation": {"clients": 2},
})  # fmt: skip


class Basket(list[tuple[Any, int]]):
    """Fruit, each told apart by one of its values; the labels are in the order of these names."""

    def __init__(self, names: tuple[str, ...], seed: int, scale: float) -> None:
        self.class_names = names
        x = np.random.default_rng(seed).normal(size=(12, 4)).astype(np.float32)
        x[np.arange(12), np.arange(12) % 3] += 3
        super().__init__((scale * row, names.index(FRUIT[i % 3])) for i, row in enumerate(x))


@pytest.fixture(autouse=True)
def baskets(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("baskets")
    module.make = lambda names=FRUIT, seed=0, scale=1.0: Basket(tuple(names), seed, scale)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "baskets", module)


def data(*names: str, **options: Any) -> dict[str, Any]:
    return {"source": "baskets:make", "options": {"names": names or FRUIT, **options}}


World = InProcessWorld | GrpcWorld


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def make(kind: type[World], class_names: tuple[str, ...] = (), **settings: Any) -> World:
            spec = SPEC.model_copy(update={"data": SPEC.data.model_copy(update={"class_names": class_names})})
            world = kind(spec, tmp_path / f"{kind.__name__}-{len(list(tmp_path.iterdir()))}", **settings)
            stack.callback(world.close)
            return world

        yield make


def joining(transport: Transport, name: str, **given: Any) -> Joining:
    settings = ClientSettings.model_validate({"name": name, "device": "cpu", "data": given})
    return Joining(settings, transport, name.encode().ljust(16), build_torch_backend)


class Counting(Forwarding):
    """Counts Joins, and lets something happen after the first was answered."""

    def __init__(self, inner: Transport, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(inner)
        self.replies: list[pb.JoinReply] = []
        self._meanwhile = meanwhile

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        self.replies.append(super().join(request))
        if len(self.replies) == 1:
            self._meanwhile()
        return self.replies[-1]


def test_an_order_of_its_own_gives_the_bits_of_the_run_s_order_over_either_transport(
    opened: Callable[..., World],
) -> None:
    def digest(kind: type[World], *order: str) -> str:
        others = Member("b", data=data(*order, seed=1), device="cpu")
        summary = opened(kind, FRUIT).run(Member("a", data=data(), device="cpu"), others)
        assert summary["errors"] == {} and summary["class_names"] == list(FRUIT)
        return str(summary["model_sha256"])

    assert digest(InProcessWorld, *FRUIT) == digest(GrpcWorld, "kirsche", "apfel", "birne")


@pytest.mark.parametrize("kind", [InProcessWorld, GrpcWorld])
def test_another_scale_is_refused_and_the_run_goes_on_with_who_comes_mended(
    opened: Callable[..., World], kind: type[World]
) -> None:
    world = opened(kind)
    a = joining(world.transport(), "a", **data())
    assert a.ask().session_id
    with pytest.raises(DataError, match=r"input 'input' is .* here and .* in the data of a, .* times"):
        joining(world.transport(), "b", **data(seed=1, scale=1000.0)).ask()
    assert joining(world.transport(), "b", **data(seed=1)).ask().session_id


def test_a_client_that_another_overtakes_loads_its_data_under_the_other_s_names(opened: Callable[..., World]) -> None:
    world = opened(InProcessWorld)
    first = joining(world.transport(), "a", **data())
    racing = Counting(world.transport(), meanwhile=first.ask)
    second = joining(racing, "b", **data("kirsche", "apfel", "birne"))
    assert second.ask().session_id
    assert [tuple(reply.class_names) for reply in racing.replies] == [(), FRUIT, FRUIT]
    assert second.workspace is not None and second.workspace.facts is not None
    assert second.workspace.facts.class_names == FRUIT


def test_a_client_that_comes_back_says_its_facts_at_once_and_loads_nothing(opened: Callable[..., World]) -> None:
    counting = Counting(opened(InProcessWorld).transport())
    client = joining(counting, "a", **data())
    assert client.build(client.ask())
    kept = client.workspace
    assert not client.build(client.ask()) and client.workspace is kept
    assert [bool(reply.session_id) for reply in counting.replies] == [False, True, True]


def test_facts_of_another_run_s_data_are_not_taken(opened: Callable[..., World]) -> None:
    old, new = opened(InProcessWorld), opened(InProcessWorld)
    counting = Counting(old.transport())
    client = joining(counting, "a", **data())
    client.build(client.ask())
    counting._inner = new.transport()
    assert client.build(client.ask()), "built anew, for the new run"
    assert [bool(reply.session_id) for reply in counting.replies] == [False, True, False, True]


class Stubborn(Forwarding):
    """A server that never gives a session, and names what it likes."""

    names: tuple[str, ...] = ()

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        reply = super().join(request)
        reply.session_id, reply.class_names[:] = "", self.names
        return reply


@pytest.mark.parametrize(
    ("names", "says"),
    [((), "gives no session"), (("a", "a", "b"), "class names cannot be"), (("x",) * 1, "names 1 classes")],
)
def test_a_server_that_makes_no_sense_is_left(opened: Callable[..., World], names: tuple[str, ...], says: str) -> None:
    stubborn = Stubborn(opened(InProcessWorld).transport())
    stubborn.names = names
    with pytest.raises(BadReply, match=says):
        joining(stubborn, "a", **data()).ask()


def test_check_compares_too_and_takes_no_place(opened: Callable[..., World]) -> None:
    world = opened(GrpcWorld)
    settings = ClientSettings(name="b", server=world.address, device="cpu")
    a = joining(world.transport(), "a", **data())
    run_id = a.ask().run_id
    assert a.workspace is not None
    assert not ask_server(settings, PLAIN, run_id, a.workspace.facts).session_id
    wide = joining(Counting(world.transport()), "b", **data(scale=1000.0))
    with pytest.raises(DataError):
        wide.ask()
    assert wide.workspace is not None
    with pytest.raises(DataError, match="the first client"):
        ask_server(settings, PLAIN, run_id, wide.workspace.facts)
