"""The tokeniser in a model's folder: tokenizer.json, and what stands beside it about its special tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from heron_core.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Rust

FILE = "tokenizer.json"
ASIDE = ("tokenizer_config.json", "generation_config.json", "config.json")
"""Where the special tokens are named, by text or by id; the first that does counts."""
REMEMBERED = 1 << 14
"""Texts whose ids are kept: a meaning has many references."""
CURE = "copy the model's whole folder, as save_pretrained wrote it"


class Tokenizer:
    """Texts to ids and back, and the ids that stand between and after texts."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError where the folder holds no tokeniser that can be read, or nothing says how a text ends."""
        self.folder = folder
        text = _read(folder / FILE)
        self._made = _made(folder / FILE, text)
        self.ids = lru_cache(REMEMBERED)(self._ids)
        """Of the text alone, without tokens that stand around it."""
        self._said = [_table(folder / name) for name in ASIDE]
        self._content = json.loads(text)
        end = self._special("eos")
        if end is None:
            raise DataError(f"{folder}: no eos_token is named in {' or '.join(ASIDE)}; {CURE}")
        self.end = end
        """Closes a text."""
        start = self._special("bos")
        self.separator = end if start is None else start
        """Stands between a prompt and its completion where the data has no such mark of its own."""

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._made.encode(text, add_special_tokens=False).ids)

    def ids_and_starts(self, text: str) -> tuple[list[int], list[int]]:
        """The ids, and where in the text each one's characters begin."""
        found = self._made.encode(text, add_special_tokens=False)
        return list(found.ids), [start for start, _ in found.offsets]

    def text(self, ids: Sequence[int]) -> str:
        """What these ids say, special tokens left out."""
        return str(self._made.decode([int(i) for i in ids]))

    @cached_property
    def opening(self) -> list[int]:
        """What the model expects before a text, such as one token of Llama's; usually nothing."""
        inner, whole = self.ids("a"), tuple(self._made.encode("a").ids)
        before = len(whole) - len(inner)
        return list(whole[:before]) if whole[before:] == inner else []

    @cached_property
    def template(self) -> str:
        """The chat template. Raises DataError where the folder has none."""
        file = self.folder / "chat_template.jinja"
        given: object = _read(file) if file.is_file() else self._said[0].get("chat_template")
        if isinstance(given, list):  # several by name
            given = next((each.get("template") for each in given if each.get("name") == "default"), None)
        if not isinstance(given, str):
            raise DataError(
                f"{self.folder} has no chat template, which `messages` need; give prompt and completion, or take a "
                "model that was trained on chats"
            )
        return given

    def special_texts(self) -> dict[str, str]:
        """`bos_token` and so on, as a chat template calls them."""
        return {key: text for key in ("bos_token", "eos_token", "pad_token") if (text := _named(self._said[0], key))}

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of all that makes ids of texts, whatever its files' layout."""
        kept = {key: value for key, value in self._content.items() if key not in ("padding", "truncation")}
        try:
            template = self.template
        except DataError:
            template = ""
        told = json.dumps([kept, self.separator, self.end, template], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def _special(self, which: str) -> int | None:
        for said in self._said:
            if name := _named(said, f"{which}_token"):
                found: int | None = self._made.token_to_id(name)
                if found is None:
                    raise DataError(f"{self.folder}: {which}_token {name!r} is no token of {FILE}; {CURE}")
                return found
            given = said.get(f"{which}_token_id")
            given = given[0] if isinstance(given, list) and given else given
            if isinstance(given, int):
                return given
        return None


def _named(said: Mapping[str, object], key: str) -> str:
    """The text of a special token; empty where it has none."""
    given = said.get(key)
    given = given.get("content") if isinstance(given, dict) else given
    return given if isinstance(given, str) else ""


def _made(file: Path, text: str) -> Rust:
    try:
        from tokenizers import Tokenizer as Rust
    except ImportError:
        raise DataError('text needs the package tokenizers; pip install "heron-sfl[lm]"') from None
    try:
        made = Rust.from_str(text)
    except Exception as error:  # the package raises plain Exception
        raise DataError(f"{file} is no tokeniser that can be read ({error}); {CURE}") from error
    made.no_padding()
    made.no_truncation()
    return made


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"no tokeniser at {file}; {CURE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); {CURE}") from error


def _table(file: Path) -> Mapping[str, object]:
    """What a JSON file says, nothing where there is none. Raises DataError for one that is broken."""
    if not file.is_file():
        return {}
    try:
        found: object = json.loads(_read(file))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}); {CURE}") from None
    return found if isinstance(found, dict) else {}
