"""The split model of a pretrained decoder: first blocks at the client, the others at the server, adapters on each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.language.adapters import add_adapters, is_adapter, keep_cores
from heron_core.models.language.base_folder import base_folder, check_base
from heron_core.models.language.check import check_cut
from heron_core.models.language.library import Config, Decoder
from heron_core.models.language.loading import configuration, load, num_blocks, shortened
from heron_core.models.language.parts import Front, LanguagePart, Tail
from heron_core.models.language.rounding import round_embedding, round_layers
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.next_token import NextToken
from heron_core.spec.language import LanguageSpec
from heron_core.spec.run_spec import ModelSpec

P = TypeVar("P", bound=LanguagePart)


def causal_lm(spec: ModelSpec, data_folder: Path | None, *, checks: bool) -> SplitModel:
    """model.base in the data folder (None: $HERON_DATA), cut after block model.cut.

    `checks`: pass tokens through it and see that the cut is exact and the model causal; a client leaves that to its
    server. DataError: the folder is not there, or another; ModelError: what is in it cannot be used like that.
    """
    _refuse_other_settings(spec)
    folder = base_folder(spec.base, data_folder)
    check_base(spec.base, data_folder, spec.base_sha256)
    config, language = configuration(folder), spec.language
    cut = _cut(spec, num_blocks(config))
    _check_length(language, config)
    parts = _Parts(folder, config, cut, spec)
    if checks:
        check_cut(parts.whole(), parts.bare_front, parts.bare_back)
    text = config.get_text_config()
    return SplitModel(
        front=parts.front,
        auxiliary=parts.head,
        back=parts.back,
        inputs=(TensorSpec("tokens", (language.length,), "int64", variable=True, count=text.vocab_size),),
        activations=(TensorSpec("hidden", (language.length, text.hidden_size), variable=True),),
        task=NextToken(text.vocab_size, language.length),
        trainable=partial(is_adapter, cores=language.client_adapter == "lora_xs"),
        learned=lambda name: False,
    )


class _Parts:
    """Builds each part, over the same files."""

    def __init__(self, folder: Path, config: Config, cut: int, spec: ModelSpec) -> None:
        self._folder, self._config, self._cut, self._spec = folder, config, cut, spec

    def whole(self) -> Decoder:
        """The model as it is."""
        return load(self._folder, self._config)

    def bare_front(self) -> Front:
        """Without adapters."""
        return Front(load(self._folder, shortened(self._config, self._cut)))

    def bare_back(self) -> Tail:
        """Without adapters."""
        return Tail(load(self._folder, self._config), self._cut)

    def front(self) -> Front:
        """The first blocks."""
        part, weights = self.bare_front(), self._spec.language.front_weights
        if weights != "float32":
            round_embedding(part)
        self._adapt(part, self._at_client)
        if weights != "float32":
            round_layers(part, weights)
        return part.seal()

    def head(self) -> Tail:
        """Copies of the next blocks, the low-rank map, the final norm and the unembedding."""
        language = self._spec.language
        blocks = self._cut + language.auxiliary_blocks
        lm = load(self._folder, shortened(self._config, blocks))
        return self._adapt(Tail(lm, self._cut, language.auxiliary_rank), self._at_client).seal()

    def back(self) -> Tail:
        """All other blocks."""
        dtype = getattr(torch, self._spec.language.server_dtype)
        return self._adapt(Tail(load(self._folder, self._config, dtype), self._cut), "lora").seal()

    @property
    def _at_client(self) -> str:
        return self._spec.language.client_adapter

    def _adapt(self, part: P, adapter: str) -> P:
        language, rank = self._spec.language, self._spec.lora_rank
        if adapter == "embedding":
            part.lm.requires_grad_(False)
            if isinstance(part, Front):
                part.map_embedding(rank, language.alpha / rank)
            return part
        add_adapters(part, rank, language.alpha, language.targets)
        if adapter == "lora_xs":
            keep_cores(part)
        return part


def _cut(spec: ModelSpec, blocks: int) -> int:
    if not spec.cut.isdecimal() or not 0 < int(spec.cut) < blocks:
        raise ModelError(
            f"model.cut of {spec.name} is the number of blocks at the client, 1 to {blocks - 1} for "
            f'model.base = "{spec.base}" with its {blocks} blocks, got {spec.cut!r}'
        )
    if int(spec.cut) + spec.language.auxiliary_blocks > blocks:
        raise ModelError(
            f"model.language.auxiliary_blocks = {spec.language.auxiliary_blocks} copies more than the "
            f"{blocks - int(spec.cut)} blocks behind model.cut = {spec.cut}; lower it"
        )
    return int(spec.cut)


def _check_length(language: LanguageSpec, config: Config) -> None:
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    if most is not None and language.length > most:
        raise ModelError(
            f"model.language.length = {language.length} is longer than the model's context of {most} tokens; lower it"
        )


def _refuse_other_settings(spec: ModelSpec) -> None:
    if not spec.base:
        raise ModelError(
            f"{spec.name} needs model.base, the folder of the pretrained model in each side's data folder, such as "
            '"smollm2" (`heron-server fetch-model smollm2` makes it)'
        )
    if spec.trainable != "lora":
        raise ModelError(f'{spec.name} trains adapters alone: set model.trainable = "lora", got "{spec.trainable}"')
    if spec.task not in ("", "next_token"):
        raise ModelError(f'{spec.name} is for "next_token", got model.task = "{spec.task}"; leave it empty')
