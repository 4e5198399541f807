"""A model, or its first blocks, as transformers builds it, over weights that stay in the file's pages where they can.

A process that maps the file shares its pages with every other one, and what it never uses is never read.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from logging import ERROR
from pathlib import Path

import torch
from torch import Tensor

from heron_core.errors import DataError, ModelError
from heron_core.models.language.library import Config, Decoder
from heron_core.own_code import said_by
from heron_core.streams import seeded_torch

WEIGHTS = "model.safetensors"


@contextmanager
def quiet_library() -> Iterator[None]:
    """Inside, transformers draws no bar, and neither it nor peft says anything below an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _loading() -> Iterator[None]:
    """The same, and random numbers that are drawn meanwhile are nobody else's."""
    with quiet_library(), seeded_torch(0, "init", "base"):
        yield


def configuration(folder: Path) -> Config:
    """config.json, of the text model where there are several. DataError: not one that transformers reads."""
    from transformers import AutoConfig

    try:
        with _loading():
            return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (Exception, SystemExit) as error:
        raise DataError(f"{folder / 'config.json'} cannot be used: {said_by(error)}") from None


def num_blocks(config: Config) -> int:
    """How many blocks the model has."""
    return int(config.get_text_config().num_hidden_layers)


def shortened(config: Config, blocks: int) -> Config:
    """`config` of the model that has the first `blocks` only; lists with one entry a block are cut as well."""
    cut = deepcopy(config)
    text, whole = cut.get_text_config(), num_blocks(config)
    for name, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == whole:
            setattr(text, name, value[:blocks])
    text.num_hidden_layers = blocks
    return cut


def load(folder: Path, config: Config, dtype: torch.dtype = torch.float32) -> Decoder:
    """The model of this configuration with the folder's weights, none of which moves; in evaluation mode.

    Tensors of this dtype stay in their file's pages, others are converted. ModelError: transformers has no causal
    language model of this kind, or the weights are not one's.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        kind: Decoder = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        if kind is None:
            raise ModelError(f"transformers has no causal language model of the kind {config.model_type}")
        with _loading():
            model, info = kind.from_pretrained(
                None, config=deepcopy(config), state_dict=_mapped(folder), dtype=dtype, output_loading_info=True
            )
        if missing := sorted(info["missing_keys"]):
            more = " and others" if len(missing) > 3 else ""
            raise ModelError(f"there are no weights for {', '.join(missing[:3])}{more}")
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, ModelError) else said_by(error)
        raise ModelError(f"{folder} cannot be loaded as a causal language model: {said}; take another") from None
    return model.requires_grad_(False).eval()


def _mapped(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's weights, over the pages of their files."""
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.is_file() else [WEIGHTS]
    return {name: tensor for file in names for name, tensor in load_file(folder / Path(file).name).items()}
