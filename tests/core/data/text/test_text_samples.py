"""What counts of a text: the completion, the assistant's turns, all of it; and what becomes of what is too long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_text

from heron_core.data.text import sample
from heron_core.data.text.sample import Sample
from heron_core.data.text.source import TextSource
from heron_core.data.text.tokenizer import Tokenizer
from heron_core.errors import DataError
from heron_core.labels import IGNORED
from heron_core.spec.text import TextSpec


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer(tiny_text.folder(tmp_path))


def source_of(samples: list[Sample], tokenizer: Tokenizer, length: int = 64, **table: object) -> TextSource:
    return TextSource(samples, tokenizer, TextSpec.model_validate(table), tiny_text.tokens(length), "jsonl")


def learned(source: TextSource, tokenizer: Tokenizer, i: int = 0) -> str:
    """What the labels of sample i say, the end token as a bar."""
    (_,), labels = source.batch(np.array([i]))
    ids = labels[0][labels[0] != IGNORED].tolist()
    return "".join("|" if id_ == tokenizer.end else tokenizer.text([id_]) for id_ in ids)


def test_of_a_prompt_and_its_completion_the_completion_counts(tokenizer: Tokenizer) -> None:
    source = source_of([sample.answer(tokenizer, "2+2=", "four", "line 1")], tokenizer)
    (tokens,), labels = source.batch(np.array([0]))
    assert tokenizer.text(tokens[0]) == "2+2=four" and learned(source, tokenizer) == "four|"
    assert (labels[0, :3] == IGNORED).all() and labels[0, 3] == tokens[0, 4]


def test_as_in_the_experiments_on_e2e_a_token_and_a_space_stand_between(tokenizer: Tokenizer) -> None:
    found = sample.answer(tokenizer, "name : A", "A is here .", "line 1", separated=True)
    assert found.ids.tolist() == [
        *tokenizer.ids("name : A"), tokenizer.separator, *tokenizer.ids(" A is here ."), tokenizer.end
    ]  # fmt: skip
    assert learned(source_of([found], tokenizer), tokenizer) == " A is here .|"


def test_of_a_chat_the_turns_of_the_assistant_count_with_their_end(tokenizer: Tokenizer) -> None:
    roles = [("system", "s"), ("user", "hi"), ("assistant", "héy"), ("user", "2"), ("assistant", "two")]
    messages = [{"role": role, "content": content} for role, content in roles]
    source = source_of([sample.chat(tokenizer, messages, "line 1")], tokenizer, 128)
    assert learned(source, tokenizer).encode("utf-8", "replace").startswith(b"h")
    (tokens,), labels = source.batch(np.array([0]))
    after = np.roll(tokens[0], -1)
    assert (labels[0][:-1] == after[:-1])[labels[0][:-1] != IGNORED].all()
    counted = labels[0][labels[0] != IGNORED].tolist()
    turns = [*tokenizer.ids("héy"), 257, *tokenizer.ids("\n"), *tokenizer.ids("two"), 257, *tokenizer.ids("\n")]
    assert counted == turns


def test_packed_samples_stand_end_to_end_and_each_token_is_predicted_once(tokenizer: Tokenizer) -> None:
    samples = [sample.plain(tokenizer, text, f"line {n}") for n, text in enumerate(("abcde", "fg", "hij"))]
    source = source_of(samples, tokenizer, 4, packing=True)
    assert source.lengths.tolist() == [4, 4, 4]
    assert "".join(learned(source, tokenizer, i) for i in range(3)) == "bcde|fg|hij|"


def test_the_end_of_a_long_text_is_cut_and_counted_or_refused(tokenizer: Tokenizer) -> None:
    def samples() -> list[Sample]:
        texts = (("a", "bcdefgh"), ("abcdefghi", "j"), ("a", "b"))
        return [sample.answer(tokenizer, *text, f"line {n}") for n, text in enumerate(texts, 1)]

    source = source_of(samples(), tokenizer, 6)
    assert len(source) == 2 and learned(source, tokenizer) == "bcdefg"
    assert str(source.changed) == "1 texts longer than the model's context, whose end was left out (first: line 1)"
    assert str(source.skipped) == "1 texts of which the model's context leaves nothing to learn (first: line 2)"
    with pytest.raises(DataError, match="line 1: 8 tokens, the model takes 6; shorten the text, or set"):
        source_of(samples(), tokenizer, 6, too_long="refuse")
    with pytest.raises(DataError, match=r"jsonl: no sample is left to learn from; 1 texts .* \(first: line 2\)"):
        source_of(samples()[1:2], tokenizer, 6)


def test_the_longest_of_a_batch_decides_how_far_it_is_padded(tokenizer: Tokenizer) -> None:
    source = source_of([sample.plain(tokenizer, "a" * n, str(n)) for n in (5, 20, 3)], tokenizer)
    for indices, length in (([0], 5), ([0, 2], 5), ([1, 2], 20)):
        (tokens,), labels = source.batch(np.array(indices))
        assert tokens.shape == labels.shape == (len(indices), length) and tokens.dtype == labels.dtype == np.int64
    (tokens,), labels = source.batch(np.array([0, 2]))
    assert (tokens[1, 3:] == 0).all() and (labels[1, 3:] == IGNORED).all() and (labels[1, :3] != IGNORED).all()
    assert source.labels.shape == (3, 20)


def test_another_models_tokeniser_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"line 1: the tokeniser in .*base gives the id 257, the model knows 0 to 199"):
        TextSource([sample.plain(tokenizer, "a", "line 1")], tokenizer, TextSpec(), tiny_text.tokens(8, 200), "text")


def test_swapped_tokens_stand_in_the_input_and_not_in_what_is_to_be_predicted(tokenizer: Tokenizer) -> None:
    samples = [sample.answer(tokenizer, "a", "bcd", "line 1")]
    plain, swapped = (source_of(samples, tokenizer, shift=shift) for shift in ("none", "swapped"))
    everything = np.arange(1)
    assert np.array_equal(plain.batch(everything)[1], swapped.batch(everything)[1])
    before, after = plain.batch(everything)[0][0], swapped.batch(everything)[0][0]
    assert (before != after).all() and len(np.unique(after)) == len(np.unique(before))


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("hi", r"line 3: messages must be a list of .*, got str"),
        ([{"role": "user"}], "message 1 is not"),
        ([{"role": "user", "content": "hi"}], "no message is the assistant's"),
    ],
)
def test_what_is_no_chat_is_refused(messages: object, says: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=says):
        sample.chat(tokenizer, messages, "line 3")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "has no chat template, which `messages` need"),
        ("{% for m in messages %}", "the model's chat template cannot be read"),
        ("{{ raise_exception('roles must alternate') }}", "line 3: the model's chat template refuses .*: roles must"),
        ("{% for m in messages|reverse %}{{ m['content'] }}{% endfor %}", "line 3: .* does not write turn 2 behind"),
        ("{{ messages.append(1) }}", "line 3: the model's chat template refuses"),
    ],
)
def test_a_template_that_does_not_tell_turns_apart_is_refused(template: str | None, says: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny_text.folder(tmp_path, template=template))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    with pytest.raises(DataError, match=says):
        sample.chat(tokenizer, messages, "line 3")
