"""Runs on text: over either transport alike, no padding beyond a batch's longest, and one tokeniser for all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny_text
from integration.worlds import GrpcWorld, InProcessWorld, Member
from tiny_language import write_decoder
from torch import nn

from heron_core.arrays import TensorSpec
from heron_core.data.batches import BatchOrder
from heron_core.data.sources.own import load_own
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.next_token import NextToken
from heron_core.spec.optimizer import OptimizerSpec
from heron_core.spec.run_spec import RunSpec
from heron_server.display.report import final_table
from heron_simulator.simulator import simulate

LENGTH, WIDTH, BATCH = 128, 4, 4


def model() -> SplitModel:
    """Each token is predicted from itself alone."""
    return SplitModel(
        front=lambda: nn.Embedding(tiny_text.VOCABULARY, WIDTH),
        auxiliary=lambda: nn.Linear(WIDTH, tiny_text.VOCABULARY),
        back=lambda: nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, tiny_text.VOCABULARY)),
        inputs=(tiny_text.tokens(LENGTH),),
        activations=(TensorSpec("hidden", (LENGTH, WIDTH), variable=True),),
        task=NextToken(tiny_text.VOCABULARY, LENGTH),
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder; the model is `letters:model`."""
    module = ModuleType("letters")
    module.model = model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "letters", module)
    tiny_text.folder(tmp_path)
    return tmp_path


def spec(source: str, **text: object) -> RunSpec:
    return RunSpec.model_validate({
        "rounds": 2, "model": {"name": "letters:model"},
        "data": {"source": source, "text": {"tokenizer": "base", **text},
                 **({"holdout": 0.25} if source == "client" else {"train_limit": 40, "test_limit": 8})},
        "method": {"local_steps": 2, "batch_size": BATCH, "micro_batch": 1},
        "federation": {"clients": 2},
    })  # fmt: skip


def rows(place: Path, name: str) -> Path:
    """Completions of 1 to 60 letters."""
    file = place / f"{name}.jsonl"
    pairs = ({"prompt": name, "completion": "xyz"[n % 3] * (1 + 5 * n)} for n in range(12))
    file.write_text("\n".join(json.dumps(pair) for pair in pairs))
    return file


def member(place: Path, name: str, folder: Path | None = None) -> dict[str, Any]:
    return {"name": name, "device": "cpu", "allow_model_code": ["letters:model"],
            "data": {"source": "jsonl", "path": str(rows(place, name)), "folder": str(folder or place)}}  # fmt: skip


@pytest.mark.parametrize("pool", [0, 2])
def test_an_upload_is_as_long_as_the_longest_of_its_batch(place: Path, pool: int) -> None:
    run = spec("client", by_length=pool)
    clients = [member(place, name) for name in ("a", "b")]
    found: dict[str, Any] = simulate(run, settings={"data_folder": place}, client_settings=clients).summary
    assert set(found["metrics"]) == {"token_loss", "perplexity", "token_accuracy"}
    assert found["metrics"]["perplexity"] == pytest.approx(np.exp(found["metrics"]["token_loss"]))
    assert found["input_contract"]["inputs"][0]["tokenizer"]
    sent = found["ledger"]["activations_up"]
    positions = sum(BATCH * length for rank, name in enumerate("ab") for length in longest(place, name, rank, run))
    assert sent == positions * WIDTH * 4
    assert sent < found["rounds"] * 2 * 2 * BATCH * LENGTH * WIDTH * 4 / 2


def longest(place: Path, name: str, rank: int, run: RunSpec) -> list[int]:
    """Of each batch of this client."""
    from heron_core.data import split_own
    from heron_core.data.source import lengths_of

    own = load_own("jsonl", path=place / f"{name}.jsonl", options={}, inputs=(tiny_text.tokens(LENGTH),),
                   labels=tiny_text.labels(LENGTH), text=tiny_text.asked(place, LENGTH))  # fmt: skip
    lengths = lengths_of(split_own(own, run.data, run.seed, rank)[0])
    order = BatchOrder(run.seed, rank, len(lengths), BATCH, lengths, run.data.text.by_length)
    return [int(lengths[order.at(position)].max()) for position in range(run.rounds * run.method.local_steps)]


def test_the_restaurants_give_the_same_bits_over_either_transport(place: Path) -> None:
    def digest(kind: type[InProcessWorld | GrpcWorld]) -> str:
        world = kind(spec("restaurants", by_length=2, shift="codes"), place / kind.__name__, data_folder=place)
        data, code = {"folder": str(place)}, ["letters:model"]
        summary = world.run(*(Member(n, device="cpu", data=data, allow_model_code=code) for n in "ab"))
        world.close()
        assert summary["errors"] == {}
        return str(summary["model_sha256"])

    assert digest(InProcessWorld) == digest(GrpcWorld)


def test_a_client_with_another_tokeniser_is_refused(place: Path) -> None:
    other = tiny_text.folder(place, "elsewhere/base", eos_token=tiny_text.START).parent
    world = InProcessWorld(spec("client"), place / "run", data_folder=place)
    good = [Member(**member(place, name)) for name in ("a", "b")]
    summary = world.run(good[0], Member(**member(place, "c", other)), good[1])
    world.close()
    assert list(summary["errors"]) == ["c"] and isinstance(summary["errors"]["c"], DataError)
    assert "became tokens by the tokeniser" in str(summary["errors"]["c"])
    assert "the data of a, the first client" in str(summary["errors"]["c"])


def test_the_summary_has_the_figures_before_training_and_what_the_model_writes(place: Path) -> None:
    (place / "e2e").mkdir()
    for half, count in (("train", 16), ("test", 8)):
        text = "".join(f"name : {'ab'[n % 2]}||{'ab'[n % 2] * 9} . \n" for n in range(count))
        (place / "e2e" / f"{half}.txt").write_text(text)
    run = spec("e2e").model_copy(update={"rounds": 20, "server_optimizer": OptimizerSpec(lr=3e-2)})
    run = run.model_copy(update={"data": run.data.model_copy(update={"train_limit": 0, "test_limit": 0})})
    code = {"allow_model_code": ["letters:model"], "data": {"folder": str(place)}}
    settings = {"data_folder": place, "evaluate_start": True, "written_samples": 1}
    summary = simulate(run, settings=settings, client_settings=code).summary
    before, after = summary["start"]["metrics"]["perplexity"], summary["metrics"]["perplexity"]
    assert before == pytest.approx(tiny_text.VOCABULARY, rel=0.3) and after < before / 2
    (sample,) = summary["samples"]
    assert sample["prompt"].startswith("name : ") and sample["reference"] in ("aaaaaaaaa .", "bbbbbbbbb .")
    lines = [" ".join(line.split()) for line in final_table([summary]).splitlines()]
    assert "Written" in lines and f"written {sample['written']}".strip() in lines
    assert any(line.startswith("perplexity before training ") for line in lines)


def test_a_pretrained_decoder_learns_text_by_the_tokeniser_in_its_own_folder(place: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    write_decoder(place / "base", vocab_size=tiny_text.VOCABULARY, max_position_embeddings=LENGTH)
    tables = {"name": "causal_lm", "base": "base", "cut": "1", "trainable": "lora", "language": {"length": 96}}
    run = spec("restaurants", tokenizer="", shift="swapped", too_long="cut")
    run = RunSpec.model_validate(run.model_dump() | {"model": tables, "rounds": 1})
    settings = {"data_folder": place, "evaluate_start": True, "written_samples": 1}
    summary = simulate(run, settings=settings, client_settings={"data": {"folder": str(place)}}).summary
    assert summary["start"]["metrics"]["token_loss"] > 0 and len(summary["samples"]) == 1
    assert summary["input_contract"]["inputs"][0]["tokenizer"] == Tokenizer(place / "base").sha256
