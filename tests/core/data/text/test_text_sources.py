"""Text on the disk, and the texts of experiments: what is read, and what is said where that fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_text

from heron_core.data import Source, check_source, load_own
from heron_core.data.contract import contract_of
from heron_core.data.experiment import Experiment, client_share, load_experiment
from heron_core.data.facts import skipped_of
from heron_core.data.source import lengths_of
from heron_core.data.sources.holdout import groups_of
from heron_core.data.text.shifts import code_of
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError
from heron_core.spec.data import DataSpec


def own(kind: str, path: Path | None, place: Path, skip: bool = False, **table: object) -> Source:
    """Loaded for a language model whose tokeniser lies in `place`/base."""
    return load_own(
        kind, path=path, options={}, inputs=(tiny_text.tokens(),), labels=tiny_text.labels(),
        on_bad_sample="skip" if skip else "refuse", text=tiny_text.asked(place, **table),
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny_text.folder(tmp_path)
    return tmp_path


def lines(place: Path, *rows: object) -> Path:
    """Each row as JSON, a text as it is."""
    file = place / "rows.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return file


CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def test_json_lines_of_three_kinds(place: Path) -> None:
    file = lines(place, {"prompt": "1+1=", "completion": "2"}, "", {"text": "abc"}, {"messages": CHAT})
    source = own("jsonl", file, place)
    check_source(source, (tiny_text.tokens(),), tiny_text.labels())
    assert lengths_of(source).tolist()[:2] == [5, 3] and len(source) == 3
    said = contract_of(source, (tiny_text.tokens(),))
    assert said.source == "jsonl" and said.inputs[0].tokenizer == Tokenizer(place / "base").sha256


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{broken", r"rows.jsonl, line 2: no JSON \(.*\); each line must be one object"),
        ("[1]", "line 2: each line must be one JSON object, got list"),
        ({"prompt": "a", "completion": " "}, "line 2: the completion is empty"),
        ({"prompt": "a"}, "line 2: completion must be a text, got NoneType"),
        ({"text": ""}, "line 2: the text is empty"),
        ({"texts": "a"}, "line 2: expected prompt and completion, or messages, or text, got texts; rename them"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_or_passed_over(row: object, says: str, place: Path) -> None:
    file = lines(place, {"text": "abc"}, row, {"text": "def"})
    with pytest.raises(DataError, match=says):
        own("jsonl", file, place)
    kept = own("jsonl", file, place, skip=True)
    assert len(kept) == 2 and str(skipped_of(kept)).startswith("1 lines that cannot be used (first: line 2: ")


def test_plain_text_is_packed_file_behind_file(place: Path) -> None:
    folder = place / "books"
    folder.mkdir()
    for name in ("b.txt", "a.txt", ".hidden.txt"):
        (folder / name).write_text(name[0] * 100)
    source = own("text", folder, place)
    assert lengths_of(source).tolist() == [64, 64, 64, 9]
    (tokens,), _ = source.batch(np.array([1]))
    assert tokens[0].tolist().count(257) == 1 and Tokenizer(place / "base").text(tokens[0]) == "a" * 36 + "b" * 27
    assert len(own("text", folder / "a.txt", place)) == 2


@pytest.mark.parametrize(
    ("kind", "path", "table", "says"),
    [
        ("jsonl", "none.jsonl", {}, "no file at .*none.jsonl; set data.path"),
        ("text", "none.txt", {}, "no file at .*none.txt; set data.path"),
        ("text", ".", {}, r"holds no \.txt file"),
        ("text", "latin.bin", {}, "cannot be read as UTF-8"),
        ("text", "some.bin", {"tokenizer": ""}, r"text needs a tokeniser, and the run names none; set data\.text\.tok"),
        ("text", "some.bin", {"tokenizer": "none"}, r"no tokeniser at .*none/tokenizer\.json"),
        ("text", "some.bin", {"tokenizer_sha256": "0" * 64}, "is another tokeniser than the run's"),
    ],
)
def test_what_is_not_there_or_not_text_is_refused(
    kind: str, path: str, table: dict[str, object], says: str, place: Path
) -> None:
    (place / "latin.bin").write_bytes("größe".encode("latin-1"))
    (place / "some.bin").write_text("some text")
    with pytest.raises(DataError, match=says):
        own(kind, place / path, place, **table)


def test_a_model_that_takes_no_tokens_has_no_text(place: Path) -> None:
    with pytest.raises(DataError, match="is text, and no run's language model says what tokens it is made of"):
        load_own("jsonl", path=place, options={}, inputs=(tiny_text.tokens(),), labels=tiny_text.labels())
    with pytest.raises(DataError, match=r'data\.source = "e2e" is text, and the model takes no'):
        load_experiment(DataSpec(source="e2e"), 0, place)


def experiment(place: Path, source: str, length: int = 200, **table: object) -> Experiment:
    spec = DataSpec.model_validate({"source": source})
    return load_experiment(spec, 0, place, text=tiny_text.asked(place, length, **table))


def test_e2e_is_read_as_meaning_and_reference(place: Path) -> None:
    (place / "e2e").mkdir()
    for half, count in (("train", 6), ("test", 2)):
        text = "".join(f"name : A{n // 2} | area : b||A{n // 2} is {n} . \n" for n in range(count))
        (place / "e2e" / f"{half}.txt").write_text(text)
    found = experiment(place, "e2e")
    tokenizer = Tokenizer(place / "base")
    (tokens,), _ = found.train.batch(np.array([1]))
    assert tokenizer.text(tokens[0]) == "name : A0 | area : b A0 is 1 ."
    assert (len(found.train), len(found.test), groups_of(found.train).tolist()) == (6, 2, [0, 0, 1, 1, 2, 2])
    (tokens,), _ = experiment(place, "e2e", shift="codes").train.batch(np.array([1]))
    assert tokenizer.text(tokens[0]) == f"name : {code_of('A0')} | area : {code_of('b')} A0 is 1 ."
    share = client_share(found, DataSpec.model_validate({"source": "e2e", "partition": "groups"}), 0, 0, 3)
    assert len(share) == 2

    (place / "e2e" / "test.txt").write_text("no bars\n")
    with pytest.raises(DataError, match=r"test.txt, line 1: expected meaning\|\|reference, got 'no bars'"):
        experiment(place, "e2e")
    (place / "e2e" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train.txt cannot be read .*; put the E2E NLG set's train.txt and test.txt"):
        experiment(place, "e2e")


def test_restaurants_are_the_same_everywhere_and_those_of_the_test_are_new(place: Path) -> None:
    found, again = experiment(place, "restaurants"), experiment(place, "restaurants")
    assert (len(found.train), len(found.test)) == (600, 100)
    first, second = (each.train.batch(np.array([7]))[0][0] for each in (found, again))
    tokenizer = Tokenizer(place / "base")
    assert np.array_equal(first, second) and tokenizer.text(first[0]).startswith("name : ")
    told = [
        {tokenizer.text(half.prompt_and_rest(i)[0]) for i in range(len(half))}  # type: ignore[attr-defined]
        for half in (found.train, found.test)
    ]
    assert len(told[0]) > 200 and len(told[1]) == 100 and not told[0] & told[1]
    assert len(set(groups_of(found.train).tolist())) == len(told[0])
