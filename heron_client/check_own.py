"""`heron-client check --model ... --data ...`: your own model and data keep their contracts. No server is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heron_core.config import apply_overrides
from heron_core.errors import ConfigError
from heron_core.own_code import find_code_in

if TYPE_CHECKING:
    from heron_core.models.split_model import SplitModel

Options = dict[str, object]


def check_own(
    model: str | None, data: str | None, options: Sequence[str], python_path: Sequence[Path], say: Callable[[str], None]
) -> None:
    """Says what was found to hold. Raises ModelError or DataError for the first thing that does not."""
    of_model, of_data = _options(model, data, options)
    find_code_in([*python_path, Path.cwd()])
    made = _check_model(model, of_model, say) if model is not None else None
    if data is not None:
        from heron_core.testing import check_dataset

        if "path" in of_data:
            of_data["path"] = Path(str(of_data["path"]))  # as data.path of the client's file comes
        say(str(check_dataset(data, made, options=of_data)))


def _check_model(model: str, options: Options, say: Callable[[str], None]) -> SplitModel:
    from heron_core.testing import check_split_model  # torch, which data alone does not need
    from heron_core.testing.split_models.check import split_model

    say(str(check_split_model(model, options=options)))
    return split_model(model, options)


def _options(model: str | None, data: str | None, given: Sequence[str]) -> tuple[Options, Options]:
    """Those of the model's factory and of the data's: `model.KEY`, `data.KEY`, or KEY where only one is checked."""
    alone = "data." if model is None else "model." if data is None else ""
    found: dict[str, Options] = {"model": {}, "data": {}}
    for option in given:
        key = option.partition("=")[0].strip()
        if not alone and not key.startswith(("model.", "data.")):
            raise ConfigError(f"--option {option}: whose is it? Say model.{key}=... or data.{key}=...")
        apply_overrides(found, [option if key.startswith(("model.", "data.")) else alone + option], "--option")
    return found["model"], found["data"]
