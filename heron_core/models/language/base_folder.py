"""The folder of the pretrained model that a run fine-tunes: where it lies, what must be in it, its fingerprint."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from heron_core.errors import DataError
from heron_core.files import sha256_of

FOLDER_SETTING = "set data.folder in the client's file or server.data_folder in the run file, or $HERON_DATA"
GET_ONE = "`heron-server fetch-model smollm2` makes a small one"
FILES = ("*.safetensors", "config.json", "tokenizer*", "vocab.*", "merges.txt", "chat_template*")
"""What the fingerprint is over: weights, their configuration, and the tokeniser."""


def base_folder(name: str, data_folder: Path | None) -> Path:
    """Where model.base lies on this side. `data_folder` None: $HERON_DATA. DataError: it is not there, or holds no
    weights as safetensors."""
    found = data_folder or (Path(os.environ["HERON_DATA"]) if os.environ.get("HERON_DATA") else None)
    if found is None:
        raise DataError(f"model.base = {name!r} lies in a data folder and none is named; {FOLDER_SETTING}")
    folder = found / name
    if not (folder / "config.json").is_file():
        raise DataError(
            f"model.base = {name!r}: no config.json in {folder}; put the model's folder there as transformers saves "
            f"it ({GET_ONE}), on the server and on every client, or {FOLDER_SETTING}"
        )
    if not any(folder.glob("*.safetensors")):
        pickles = ", ".join(sorted(path.name for path in folder.glob("*.bin")))
        there = f", only {pickles}, which is a pickle and could run code" if pickles else ""
        raise DataError(
            f"model.base = {name!r}: no weights as *.safetensors in {folder}{there}; save them with transformers' "
            "save_pretrained"
        )
    return folder


def base_fingerprint(name: str, data_folder: Path | None) -> str:
    """SHA-256 over weights, configuration and tokeniser of model.base on this side. Raises DataError."""
    folder = base_folder(name, data_folder)
    files = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    return _digest(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


def check_base(name: str, data_folder: Path | None, wanted: str) -> None:
    """DataError where this side's model.base has not the fingerprint `wanted`; empty: any will do."""
    if wanted and (found := base_fingerprint(name, data_folder)) != wanted:
        raise DataError(
            f"model.base = {name!r} must have the fingerprint {wanted}, the one in "
            f"{base_folder(name, data_folder)} has {found}; copy the server's folder there, with its tokeniser, or "
            "change model.base_sha256"
        )


@lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Of these files (path, bytes, time of change): names and contents."""
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path.name} {size} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
