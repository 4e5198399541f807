"""A decoder cut after any of its blocks is the same decoder, bit for bit, whatever its family; others are refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import BLOCKS, SPEC, VOCABULARY, write_decoder

from heron_client.compute.backends.torch_per_sample import PerSample
from heron_core.errors import DataError, HeronError, ModelError
from heron_core.labels import IGNORED
from heron_core.models import build_split_model
from heron_core.models.adapt.per_sample import per_sample_obstacle
from heron_core.models.language.base_folder import base_fingerprint
from heron_core.models.language.causal_lm import causal_lm
from heron_core.models.language.loading import configuration, load
from heron_core.models.split_model import SplitModel, check_parts
from heron_core.models.tasks.token_logits import whole
from heron_core.spec.run_spec import ModelSpec
from heron_server.planning.measuring import measure_model

pytest.importorskip("transformers")
pytest.importorskip("peft")
GEMMA2 = {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 1.0}
QWEN2 = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {}, "gpt2": {}, "gemma2": GEMMA2, "qwen2": QWEN2, "cohere": {"logit_scale": 0.3}, "phi": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a decoder of each kind."""
    folder = tmp_path_factory.mktemp("data")
    for kind, settings in KINDS.items():
        write_decoder(folder / kind, kind, **settings)
    return folder


def split(data: Path, kind: str = "llama", **model: Any) -> SplitModel:
    return causal_lm(ModelSpec.model_validate({**SPEC, "base": kind, **model}), data, checks=True)


def tokens(rows: int = 2, length: int = 9) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("kind", "cut"), [*((kind, "1") for kind in KINDS), ("gpt2", "3")])
def test_front_then_back_is_the_model_itself(kind: str, cut: str, data: Path) -> None:
    model = split(data, kind, cut=cut)
    front, back = model.build("front", 0).eval(), model.build("back", 0).eval()
    with torch.no_grad():
        ours = whole(back(front(tokens())))
        theirs = load(data / kind, configuration(data / kind))(input_ids=tokens()).logits
    assert torch.equal(ours, theirs)  # adapters begin as nothing


def test_a_batch_of_which_no_token_counts_has_no_loss_and_a_gradient_of_zero(data: Path) -> None:
    model = split(data)
    back, hidden = model.build("back", 0), torch.zeros(1, 5, 16, requires_grad=True)
    losses = model.task.losses(back(hidden), torch.full((1, 5), IGNORED))
    losses.sum().backward()
    assert losses.tolist() == [0] and hidden.grad is not None and not hidden.grad.any()


def test_only_adapters_train_travel_and_are_state_and_copies_share_the_rest(data: Path) -> None:
    model = split(data)
    for part in ("front", "auxiliary", "back"):
        built = model.build(part, 0)
        moving = {name for name, p in built.named_parameters() if p.requires_grad}
        assert moving == set(built.state_dict()) and moving
        assert all("lora_" in name or name.startswith("map.") for name in moving)
        assert model.learned_buffers(built) == {}
        copy = deepcopy(built)
        shared = {n for n, p in copy.named_parameters() if p.data_ptr() == built.get_parameter(n).data_ptr()}
        assert shared == {name for name, _ in built.named_parameters()} - moving
        copy.load_state_dict(built.state_dict())
        with pytest.raises(RuntimeError, match="Missing key"):
            copy.load_state_dict({})


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_core_between_the_largest_singular_vectors_trains_alone(kind: str, data: Path) -> None:
    model = split(data, kind, language={"length": 12, "client_adapter": "lora_xs"})
    front, plain = model.build("front", 0).eval(), split(data, kind).build("front", 0).eval()
    moving = {name: p for name, p in front.named_parameters() if p.requires_grad}
    assert moving.keys() == front.state_dict().keys() and all(p.shape == (2, 2) for p in moving.values())
    assert torch.equal(front(tokens()), plain(tokens()))
    with torch.no_grad():
        for core in moving.values():
            core.copy_(torch.eye(2))
    name = next(iter(moving)).removesuffix(".lora_A.default.weight")
    layer, x = front.get_submodule(name), torch.eye(16)
    added = (layer(x) - layer.base_layer(x)) / layer.scaling["default"]  # the weight, of rank 2
    weight = layer.base_layer.weight if kind == "gpt2" else layer.base_layer.weight.T
    assert torch.linalg.matrix_rank(added, tol=1e-4) == 2
    torch.testing.assert_close(torch.linalg.matrix_norm(added, 2), torch.linalg.matrix_norm(weight, 2))
    back = {n for n, p in model.build("back", 0).named_parameters() if p.requires_grad}
    assert any("lora_B" in n for n in back)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_the_embedding_is_the_model_with_other_embeddings_and_a_tied_head_that_stays(
    kind: str, data: Path
) -> None:
    model = split(data, kind, language={"length": 12, "client_adapter": "embedding", "auxiliary_rank": 3, "alpha": 3.0})
    front, head, back = (model.build(part, 0).eval() for part in ("front", "auxiliary", "back"))
    assert {name: tuple(t.shape) for name, t in front.state_dict().items()} == {
        "embedding.down.weight": (2, 16), "embedding.up.weight": (16, 2),
    }  # fmt: skip
    assert set(head.state_dict()) == {"map.down.weight", "map.up.weight"}
    assert all(name.startswith("lm.") for name in back.state_dict())
    whole_model = load(data / kind, configuration(data / kind))
    with torch.no_grad():
        assert torch.equal(whole(back(front(tokens()))), whole_model(input_ids=tokens()).logits)
        down, up = front.state_dict(keep_vars=True).values()
        up.normal_(generator=torch.Generator().manual_seed(2))
        embeddings = whole_model.get_input_embeddings()(tokens())
        mapped = embeddings + embeddings @ (1.5 * down.T) @ up.T
        theirs = whole_model(inputs_embeds=mapped).logits
        torch.testing.assert_close(whole(back(front(tokens()))), theirs, rtol=1e-3, atol=1e-3)
        copied = deepcopy(front)
        up.zero_()
        torch.testing.assert_close(whole(back(copied(tokens()))), theirs, rtol=1e-3, atol=1e-3)
        assert torch.equal(whole(back(front(tokens()))), whole_model(input_ids=tokens()).logits)


def test_the_heads_map_begins_as_nothing_and_copied_blocks_are_the_servers(data: Path) -> None:
    model = split(data, language={"length": 12, "auxiliary_blocks": BLOCKS - 2, "auxiliary_rank": 3})
    front, head, back = (model.build(part, 0).eval() for part in ("front", "auxiliary", "back"))
    hidden = front(tokens())
    assert torch.equal(whole(head(hidden)), whole(back(hidden)))
    with torch.no_grad():
        head.map.up.weight.fill_(0.1)
    assert not torch.equal(whole(head(hidden)), whole(back(hidden)))


def test_a_short_sequence_padded_on_the_right_gives_what_it_gives_alone(data: Path) -> None:
    front = split(data, "gpt2").build("front", 0).eval()
    alone = front(tokens(1, 5))
    padded = front(torch.cat([tokens(1, 5), torch.zeros(1, 4, dtype=torch.int64)], dim=1))
    torch.testing.assert_close(padded[:, :5], alone)


def test_the_parts_keep_the_contract_that_a_server_checks(data: Path) -> None:
    assert set(check_parts(split(data))) == {"front", "auxiliary", "back"}


def test_weights_stay_in_the_pages_of_their_file(data: Path) -> None:
    first, second = (load(data / "llama", configuration(data / "llama")) for _ in range(2))
    maps = Path("/proc/self/maps").read_text()
    ranges = [line.split()[0].split("-") for line in maps.splitlines() if "llama/model.safetensors" in line]
    for model in (first, second):
        at = model.get_input_embeddings().weight.data_ptr()
        assert any(int(low, 16) <= at < int(high, 16) for low, high in ranges)


def refused(data: Path, kind: type[HeronError], said: str, **model: Any) -> None:
    with pytest.raises(kind, match=said):
        spec = ModelSpec.model_validate({**SPEC, "base": "llama", **model})
        build_split_model(spec, data_folder=data).build("front", 0)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"base": ""}, "needs model.base"),
        ({"cut": "4"}, r"1 to 3 for model.base = \"llama\" with its 4 blocks, got '4'"),
        ({"cut": ""}, "1 to 3"),
        ({"trainable": "all"}, 'model.trainable = "lora"'),
        ({"task": "classification"}, "next_token"),
        ({"language": {"length": 33}}, "context of 32 tokens"),
        ({"language": {"length": 12, "auxiliary_blocks": 3}}, "auxiliary_blocks = 3"),
        ({"language": {"length": 12, "targets": ("query",)}}, "called query; there are down_proj"),
    ],
    ids=str,
)
def test_settings_that_the_model_cannot_have_are_refused(model: dict[str, Any], said: str, data: Path) -> None:
    refused(data, ModelError, said, **model)


def test_a_folder_without_a_model_or_with_a_pickle_alone_is_refused(data: Path, tmp_path: Path) -> None:
    refused(tmp_path, DataError, "no config.json in .*fetch-model")
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text("{")
    refused(tmp_path, DataError, "no weights as")
    (tmp_path / "llama" / "pytorch_model.bin").touch()
    refused(tmp_path, DataError, "only pytorch_model.bin, which is a pickle")
    (tmp_path / "llama" / "model.safetensors").touch()
    refused(tmp_path, DataError, "config.json cannot be used")


def test_an_encoder_is_refused_by_what_it_does(tmp_path: Path) -> None:
    write_decoder(tmp_path / "llama", "bert", is_decoder=False)
    refused(tmp_path, ModelError, "BertLMHeadModel is not causal")


def test_weights_of_another_model_are_refused(tmp_path: Path, data: Path) -> None:
    write_decoder(tmp_path / "llama")
    (tmp_path / "llama" / "config.json").write_text((data / "gpt2" / "config.json").read_text())
    refused(tmp_path, ModelError, "no weights for")


def test_another_base_or_tokeniser_has_another_fingerprint_and_is_refused(tmp_path: Path, data: Path) -> None:
    found = base_fingerprint("llama", data)
    refused(data, DataError, "must have the fingerprint", base_sha256="0" * 64)
    build_split_model(ModelSpec.model_validate({**SPEC, "base": "llama", "base_sha256": found}), data_folder=data)
    (tmp_path / "llama").mkdir()
    for file in (data / "llama").iterdir():
        (tmp_path / "llama" / file.name).write_bytes(file.read_bytes())
    assert base_fingerprint("llama", tmp_path) == found
    (tmp_path / "llama" / "tokenizer.json").write_text("{}")
    assert base_fingerprint("llama", tmp_path) != found


@pytest.mark.parametrize("adapter", ["lora", "embedding"])
def test_each_sequence_may_have_adapters_of_its_own(adapter: str, data: Path) -> None:
    model = split(data, language={"length": 12, "client_adapter": adapter})
    front = model.build("front", 0).eval().requires_grad_(False)
    names = [f"front.{name}" for name in front.state_dict()]
    assert per_sample_obstacle(model, model.build("front", 0), 0) is None
    count = sum(tensor.numel() for tensor in front.state_dict().values())
    theta_BP = 0.1 * torch.randn(3, count, generator=torch.Generator().manual_seed(1))
    with PerSample(front, names).parameters(theta_BP):
        together = front(tokens(3))
    for row, theta in enumerate(theta_BP):
        at = 0
        for tensor in front.state_dict(keep_vars=True).values():
            tensor.data.copy_(theta[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()
        torch.testing.assert_close(together[row : row + 1], front(tokens(3)[row : row + 1]), rtol=1e-4, atol=1e-4)


def test_what_is_saved_and_learned_of_it_is_counted_by_its_adapters(data: Path) -> None:
    back = measure_model(split(data), 0, own=False).parts["back"]
    adapters = 2 * 2 * (2 * 16 + 16 + 8) * 4  # two blocks, rank 2, q 16 -> 16 and v 16 -> 8, float32
    assert back.saved_bytes == back.trainable_bytes == adapters < back.parameter_bytes


def test_a_bfloat16_backbone_has_adapters_and_logits_in_float32(data: Path) -> None:
    model = split(data, language={"length": 12, "server_dtype": "bfloat16"})
    front, back = model.build("front", 0), model.build("back", 0)
    assert {p.dtype for p in front.parameters()} == {torch.float32}
    assert {p.dtype for p in back.parameters()} == {torch.float32, torch.bfloat16}
    logits = whole(back(front(tokens()).detach()))
    logits.sum().backward()
    assert logits.dtype == torch.float32
    moving = [p for p in back.parameters() if p.requires_grad]
    assert all(p.dtype == torch.float32 and p.grad is not None and torch.isfinite(p.grad).all() for p in moving)
