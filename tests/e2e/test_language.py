"""A decoder's adapters over gRPC in every way of training them, texts of many lengths, the server and then a client
killed on the way: the bits of the simulator and of the reference loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_text
from integration.references import reference_run
from processes import WARM, Bench, Program, Warm, spec_of
from test_kill_9 import killed_in_round_2, resumed
from tiny_language import SPEC, write_decoder

from heron_core.data import load_own, split_holdout
from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_simulator.simulator import simulate

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytestmark = pytest.mark.slow
CLIENTS, ROUNDS, LENGTH, BASE = 2, 2, 32, "tiny"
PART_OF_A_ROUND_BYTES = 40_000
"""Of some 100 kB that the clients upload in one."""
HERON: dict[str, Any] = {"name": "heron", "micro_batch": 1, "zo": {"mu": 1e-2}}
METHODS: dict[str, dict[str, Any]] = {
    "joint": {**HERON, "auxiliary_update": "zo"},
    "one direction for each sequence": {
        **HERON, "auxiliary_update": "server", "micro_batch": 0, "zo": {"scope": "sample", "mu": 1e-2},
    },
    "on the cut gradient, mixed batches": {**HERON, "objective": "cut_gradient", "mixing": True},
    "first order, of the embedding alone": {"name": "cse_fsl"},
    "SplitLoRA": {"name": "sflv2"},
    "frozen": {"name": "frozen"},
}  # fmt: skip


def run_of(method: str) -> dict[str, Any]:
    adapter = "embedding" if "embedding" in method else "lora"
    language = {**SPEC["language"], "length": LENGTH, "client_adapter": adapter}
    return {
        "rounds": ROUNDS, "model": {**SPEC, "language": language}, "data": {"source": "client", "holdout": 0.0},
        "method": {**METHODS[method], "local_steps": 8, "batch_size": 4},
        "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
    }  # fmt: skip


class Parties:
    """Two daemons, each with a text of its own, that look for one server after another at the address of `door`."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.door, self.folder = bench, bench.relay(), bench.folder
        tiny_text.folder(self.folder, BASE)
        write_decoder(self.folder / BASE, vocab_size=tiny_text.VOCABULARY)
        pairs = [{"prompt": "ab", "completion": "xyz"[n % 3] * (1 + n % 27)} for n in range(100)]
        for number, share in enumerate((pairs[:50], pairs[50:90], pairs[90:])):
            file = self.folder / f"{number}.jsonl"
            file.write_text("\n".join(map(json.dumps, share)))
        self.data = [self._data(number) for number in range(CLIENTS)]
        self.served = {"data_folder": str(self.folder), "test_data": "jsonl", "test_path": self._data(CLIENTS)["path"]}
        self._clients = [self._start(number) for number in range(CLIENTS)]

    def _data(self, number: int) -> dict[str, str]:
        return {"source": "jsonl", "path": str(self.folder / f"{number}.jsonl"), "folder": str(self.folder)}

    def _start(self, number: int) -> Program:
        where = {"once": False, "retry_for_s": 0.0}
        return self._bench.client(f"client-{number}", self.door.address, data=self.data[number], **where)

    def restarted(self, number: int) -> None:
        """kill -9, and started again."""
        self._clients[number].kill()
        self._clients[number] = self._start(number)

    def simulated(self, spec: RunSpec) -> str:
        clients: list[dict[str, object]] = [{"name": f"client-{n}", "data": own} for n, own in enumerate(self.data)]
        return str(simulate(spec, settings=self.served, client_settings=clients).summary["model_sha256"])

    def by_reference(self, spec: RunSpec) -> str:
        model = build_split_model(spec.model, data_folder=self.folder)
        asked = {"inputs": model.inputs, "labels": model.task.labels,
                 "text": tiny_text.asked(self.folder, LENGTH, tokenizer=BASE)}  # fmt: skip
        own = [load_own("jsonl", path=Path(data["path"]), options={}, **asked) for data in self.data]
        shares = [split_holdout(source, 0.0, spec.seed, rank)[0] for rank, source in enumerate(own)]
        return reference_run(spec, self.folder, shares)


@pytest.fixture(scope="module")
def warm_with_library(warm: None) -> Iterator[None]:
    """Every process of this file uses transformers and peft: they are imported once."""
    library = ("transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama", "peft")
    WARM.insert(0, Warm(*library, PYTHONWARNINGS="error", GRPC_VERBOSITY="NONE", GRPC_DNS_RESOLVER="native"))
    yield
    WARM.pop(0).close()


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory, warm_with_library: None) -> Iterator[Parties]:
    with Bench(tmp_path_factory.mktemp("parties")) as bench:
        yield Parties(bench)


@pytest.mark.parametrize("method", METHODS)
def test_a_decoder_goes_on_with_the_bits_of_simulator_and_reference_after_kill_9_of_server_and_client(
    bench: Bench, parties: Parties, method: str
) -> None:
    """The server in round 2, then a client in the same round, which waits for it."""
    run = run_of(method)
    served, door = {**run, "server": {**parties.served, "grace_s": 60.0}}, parties.door
    killed_in_round_2(bench, served, door, PART_OF_A_ROUND_BYTES)
    server = resumed(bench, served, door)
    server.event("round_began", round=2)
    door.holds_up_after(PART_OF_A_ROUND_BYTES)
    parties.restarted(1)
    door.let_go()
    summary = server.summary()
    assert [record["participants"] for record in summary["history"]] == [CLIENTS] * ROUNDS
    assert summary["model_sha256"] == parties.simulated(spec_of(run)) == parties.by_reference(spec_of(run))
