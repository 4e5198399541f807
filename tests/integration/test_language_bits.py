"""A pretrained decoder with adapters ends with the plain reference loop's bits, in every way of training it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from integration.references import reference_run
from tiny_language import SPEC, VOCABULARY, write_decoder

from heron_core import load_model
from heron_core.data import load_own, split_holdout
from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_simulator.simulator import simulate

pytest.importorskip("transformers")
pytest.importorskip("peft")
METHOD: dict[str, Any] = {"name": "heron", "local_steps": 2, "batch_size": 3, "micro_batch": 1}
ZO = {"zo": {"mu": 1e-2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of server and clients."""
    data = tmp_path_factory.mktemp("data")
    write_decoder(data / "tiny")
    return data


def spec_of(method: dict[str, Any], rounds: int = 1, **model: Any) -> RunSpec:
    return RunSpec.model_validate({
        "rounds": rounds, "model": {**SPEC, **model}, "data": {"source": "client", "holdout": 0.0},
        "method": {**METHOD, **method}, "federation": {"clients": 2, "min_clients": 2},
    })  # fmt: skip


def simulated(spec: RunSpec, folder: Path, **more: Any) -> dict[str, Any]:
    own = [{"source": "tiny_language:samples", "options": {"part": rank}, "folder": folder} for rank in range(2)]
    settings = ServerSettings(data_folder=folder, test_data="tiny_language:test_samples")
    clients: list[dict[str, object]] = [{"name": f"c{rank}", "data": each} for rank, each in enumerate(own)]
    found: dict[str, Any] = simulate(spec, settings=settings, client_settings=clients, **more).summary
    return found


def shares(spec: RunSpec, folder: Path) -> list[Any]:
    model = build_split_model(spec.model, data_folder=folder)
    sources = [
        load_own(
            "tiny_language:samples", path=None, options={"part": r}, inputs=model.inputs, labels=model.task.labels
        )
        for r in range(2)
    ]  # fmt: skip
    return [split_holdout(source, 0.0, spec.seed, rank)[0] for rank, source in enumerate(sources)]


@pytest.mark.parametrize(
    "method",
    [
        ZO,
        {**ZO, "auxiliary_update": "zo"},
        {**ZO, "auxiliary_update": "server"},
        {"zo": {"mu": 1e-2, "scope": "sample"}, "auxiliary_update": "server", "micro_batch": 3},
        {**ZO, "objective": "cut_gradient"},
        {**ZO, "objective": "cut_gradient", "mixing": True},
        {**ZO, "auxiliary_update": "server", "mixing": True},
        {"name": "cse_fsl"},
        {"name": "sflv2", "micro_batch": 0},
        {"name": "frozen"},
    ],
    ids=str,
)
def test_a_decoder_gives_the_reference_bits_in_every_method(method: dict[str, Any], folder: Path) -> None:
    spec = spec_of(method)
    assert simulated(spec, folder)["model_sha256"] == reference_run(spec, folder, shares(spec, folder))


@pytest.mark.parametrize("adapter", ["lora_xs", "embedding"])
def test_few_numbers_with_one_direction_for_each_sequence_give_the_reference_bits_and_few_bytes(
    adapter: str, folder: Path
) -> None:
    method = {"zo": {"mu": 1e-2, "scope": "sample"}, "auxiliary_update": "server", "micro_batch": 3}
    spec = spec_of(method, language={**SPEC["language"], "client_adapter": adapter})
    summary = simulated(spec, folder)
    assert summary["model_sha256"] == reference_run(spec, folder, shares(spec, folder))
    front = build_split_model(spec.model, data_folder=folder).build("front", 0)
    numbers = sum(p.numel() for p in front.parameters() if p.requires_grad)
    assert summary["ledger"]["client_state_up"] == 2 * 4 * numbers


@pytest.mark.parametrize(("adapter", "at_client"), [("lora", "lora_"), ("embedding", "embedding.")])
def test_a_resumed_run_ends_with_the_undisturbed_bits_and_the_folder_holds_adapters(
    adapter: str, at_client: str, folder: Path, tmp_path: Path
) -> None:
    language = {**SPEC["language"], "client_adapter": adapter}
    one, two = (spec_of(ZO, rounds=rounds, language=language) for rounds in (1, 2))
    simulated(one, folder, run_dir=tmp_path)
    summary = simulated(two, folder, run_dir=tmp_path, resume=True)
    assert summary["model_sha256"] == simulated(two, folder)["model_sha256"]
    model = load_model(tmp_path / "model", data_folder=folder)
    kept = [name for name, p in model.named_parameters() if name in model.state_dict()]
    assert kept and all("lora_" in name or at_client in name for name in kept)
    assert any(at_client in name for name in kept)
    logits = model(torch.arange(3, 9)[None])
    assert logits.shape == (1, 6, VOCABULARY)
