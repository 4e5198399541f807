"""A tokeniser of bytes with two special tokens, small enough for unit tests, and what a language model asks of text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heron_core.arrays import TensorSpec
from heron_core.data.sources.asked import TextAsked
from heron_core.labels import LabelSpec
from heron_core.spec.text import TextSpec

START, END, VOCABULARY = "<|start|>", "<|end|>", 258
TEMPLATE = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def folder(place: Path, name: str = "base", template: str | None = TEMPLATE, **config: object) -> Path:
    """`place`/`name` with tokenizer.json and tokenizer_config.json."""
    rust = pytest.importorskip("tokenizers")
    alphabet = sorted(rust.pre_tokenizers.ByteLevel.alphabet())
    made = rust.Tokenizer(rust.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = rust.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = rust.decoders.ByteLevel()
    made.add_special_tokens([rust.AddedToken(text, special=True) for text in (START, END)])
    (place / name).mkdir(parents=True)
    made.save(str(place / name / "tokenizer.json"))
    told = {"bos_token": START, "eos_token": {"content": END}, "chat_template": template, **config}
    (place / name / "tokenizer_config.json").write_text(json.dumps(told))
    return place / name


def tokens(length: int = 64, count: int = VOCABULARY) -> TensorSpec:
    """A language model's input."""
    return TensorSpec("tokens", (length,), "int64", variable=True, count=count)


def labels(length: int = 64, count: int = VOCABULARY) -> LabelSpec:
    """A language model's labels."""
    return LabelSpec((length,), variable=True, count=count, maskable=True)


def asked(place: Path, length: int = 64, count: int = VOCABULARY, **table: object) -> TextAsked:
    """What the loaders of text are asked for, with the tokeniser in `place`/base."""
    spec = TextSpec.model_validate({"tokenizer": "base", **table})
    return TextAsked(spec, spec.tokenizer, tokens(length, count), place)
