"""Text for language models: `text` and `jsonl` of a client's own, `e2e` and `restaurants` of experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heron_core.arrays import TensorSpec
from heron_core.data.sources.asked import Asked, Options, TextAsked, data_folder
from heron_core.data.text.meanings import Half, e2e, restaurants, samples_of
from heron_core.data.text.rows import Row, json_lines
from heron_core.data.text.rows import samples_of as samples_of_rows
from heron_core.data.text.sample import plain
from heron_core.data.text.source import TextSource
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

if TYPE_CHECKING:
    from heron_core.spec.data import DataSpec
    from heron_core.spec.run_spec import RunSpec

EXPERIMENTS = ("e2e", "restaurants")


def load_jsonl(asked: Asked) -> TextSource:
    """A sample a line: prompt and completion, messages, or text. Raises DataError, which names the line."""
    asked.takes_options()
    return load_rows(asked, json_lines(asked.given_path()))


def load_rows(asked: Asked, rows: Iterable[Callable[[], Row]]) -> TextSource:
    """A sample a row. Raises DataError."""
    text, tokens = _wanted(asked)
    tokenizer = tokenizer_of(text)
    skipped: list[tuple[str, str]] | None = [] if asked.skip_bad else None
    samples = list(samples_of_rows(rows, tokenizer, skipped))
    return TextSource(samples, tokenizer, text.spec, tokens, asked.source, skipped or ())


def load_text(asked: Asked) -> TextSource:
    """A plain text file, or all .txt files of a folder in the order of their names: packed, the end token between two
    files. Raises DataError."""
    asked.takes_options()
    text, tokens = _wanted(asked)
    tokenizer, path = tokenizer_of(text), asked.given_path()
    samples = [plain(tokenizer, _read(file), str(file)) for file in _files(path)]
    return TextSource(samples, tokenizer, text.spec.model_copy(update={"packing": True}), tokens, asked.source)


def load_experiment_text(spec: DataSpec, text: TextAsked | None) -> tuple[TextSource, TextSource]:
    """(train, test). Raises DataError where the model takes no tokens, no tokeniser is named, or files are missing."""
    if text is None:
        raise DataError(f'data.source = "{spec.source}" is text, and the model takes no tokens; take a language model')
    tokenizer = tokenizer_of(text)

    def half(which: Half) -> TextSource:
        pairs = restaurants(which) if spec.source == "restaurants" else e2e(data_folder("e2e", text.folder), which)
        return TextSource(samples_of(pairs, tokenizer, text.spec), tokenizer, text.spec, text.tokens, spec.source)

    return half("train"), half("test")


def asked_of(spec: RunSpec, inputs: Sequence[TensorSpec], folder: Path | None) -> TextAsked | None:
    """How a run's texts become `inputs`; None where these are no tokens. `folder`: as in TextAsked."""
    if len(inputs) != 1 or inputs[0].dtype != "int64" or not inputs[0].variable:
        return None
    return TextAsked(spec.data.text, spec.data.text.tokenizer or spec.model.base, inputs[0], folder)


def tokenizer_of(text: TextAsked) -> Tokenizer:
    """Raises DataError where there is none, or it is another than the run's."""
    if not text.tokenizer:
        raise DataError(
            "text needs a tokeniser, and the run names none; set data.text.tokenizer in the run file to the model's "
            "folder in each side's data folder"
        )
    found = Tokenizer(data_folder("text", text.folder) / text.tokenizer)
    wanted = text.spec.tokenizer_sha256
    if wanted and found.sha256 != wanted:
        raise DataError(
            f"{found.folder} is another tokeniser than the run's: its fingerprint is {found.sha256}, "
            f"data.text.tokenizer_sha256 is {wanted}; copy the folder of the one who wrote the run file"
        )
    return found


def no_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """Text alone does not say what tokens it is made of: DataError."""
    raise DataError(f"{path} is text, which becomes a sample by a model's tokeniser; check it with a client file")


def _wanted(asked: Asked) -> tuple[TextAsked, TensorSpec]:
    if asked.text is None:
        raise DataError(
            f"data.source = {asked.source!r} is text, and no run's language model says what tokens it is made of; take "
            "one (model.name = \"causal_lm\"), or check the data with a client file"
        )
    return asked.text, asked.one_input()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(each for each in path.glob("*.txt") if not each.name.startswith("."))
        if not found:
            raise DataError(f"{path} holds no .txt file; put one there, or set data.path to a file")
        return found
    if not path.is_file():
        raise DataError(f"no file at {path}; set data.path in the client's file, or the server's test_path")
    return [path]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 ({error}); save it so") from None
