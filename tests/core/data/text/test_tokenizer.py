"""A model's tokeniser: its special tokens, its fingerprint, and what is said where it cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_text

from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError


def test_texts_become_ids_and_come_back(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny_text.folder(tmp_path))
    ids = tokenizer.ids("Zoë's café")
    assert len(ids) == len("Zoë's café".encode()) and tokenizer.text([*ids, tokenizer.end]) == "Zoë's café"
    assert (tokenizer.separator, tokenizer.end, tokenizer.opening) == (256, 257, [])


def test_the_fingerprint_is_of_what_makes_ids_and_not_of_the_files_layout(tmp_path: Path) -> None:
    first = Tokenizer(tiny_text.folder(tmp_path, "a"))
    other = tiny_text.folder(tmp_path, "b", padding_side="left")
    content = json.loads((other / "tokenizer.json").read_text())
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
    (other / "tokenizer.json").write_text(json.dumps(content | {"padding": padding}))
    assert Tokenizer(other).sha256 == first.sha256
    assert Tokenizer(other).ids("ab") == first.ids("ab")
    for name, config in (("c", {"eos_token": tiny_text.START}), ("d", {"template": "{{ messages }}"})):
        assert Tokenizer(tiny_text.folder(tmp_path, name, **config)).sha256 != first.sha256  # type: ignore[arg-type]


def test_special_tokens_may_be_named_by_id_in_the_models_config(tmp_path: Path) -> None:
    place = tiny_text.folder(tmp_path, eos_token=None, bos_token=None)
    with pytest.raises(DataError, match=r"no eos_token is named in tokenizer_config.json or .*; copy the"):
        Tokenizer(place)
    (place / "config.json").write_text(json.dumps({"eos_token_id": [257, 3]}))
    assert (Tokenizer(place).end, Tokenizer(place).separator) == (257, 257)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", None, "no tokeniser at .*tokenizer.json; copy the model's whole folder"),
        ("tokenizer.json", "{", "is no tokeniser that can be read"),
        ("tokenizer_config.json", "{", "is not JSON"),
        ("tokenizer_config.json", '{"eos_token": "</s>"}', "eos_token '</s>' is no token of tokenizer.json"),
    ],
)
def test_what_is_no_tokeniser_is_refused(name: str, content: str | None, says: str, tmp_path: Path) -> None:
    place = tiny_text.folder(tmp_path)
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_text(content)
    with pytest.raises(DataError, match=says):
        Tokenizer(place)
