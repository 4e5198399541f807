"""`heron-client check --model ... --data ...`: your own model and data keep their contracts. No server is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heron_core.config import apply_overrides
from heron_core.data.sources.own import KINDS
from heron_core.errors import ConfigError
from heron_core.own_code import find_code_in

if TYPE_CHECKING:
    from heron_core.models.split_model import SplitModel

Options = dict[str, object]
AGAIN = 64
"""Samples of files that are read again."""


def check_own(
    model: str | None, data: str | None, options: Sequence[str], python_path: Sequence[Path], say: Callable[[str], None]
) -> None:
    """Says what was found to hold. Raises ModelError or DataError for what does not."""
    of_model, of_data = _options(model, data, options)
    find_code_in([*python_path, Path.cwd()])
    made = _check_model(model, of_model, say) if model is not None else None
    if data is not None:
        if "path" in of_data:
            of_data["path"] = Path(str(of_data["path"]))  # as data.path of the client's file comes
        _check_data(data, of_data, made, say)


def _check_data(data: str, options: Options, model: SplitModel | None, say: Callable[[str], None]) -> None:
    """Opens every sample once, and says all that is wrong together; then looks at the promises of a dataset."""
    from heron_client.check_data import check_samples
    from heron_core.testing import check_dataset
    from heron_core.testing.own_data import Specs, open_data

    wanted = None if model is None else Specs(model.inputs, model.task.labels)
    source, specs = open_data(data, options, wanted)
    lines = check_samples(source, *specs, say)
    in_files = data.partition(":")[0] in KINDS  # Heron's own sources are the same when read again
    say(str(check_dataset(data, model, options=options, most=AGAIN if in_files else 0)))
    for line in lines:
        say(f"  --  {line}")


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
