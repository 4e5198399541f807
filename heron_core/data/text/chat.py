"""A chat as the model's own template writes it, and which stretches of that are the assistant's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from heron_core.errors import DataError

if TYPE_CHECKING:
    from jinja2 import Template

ASSISTANT = "assistant"
Message = Mapping[str, str]
Span = tuple[int, int]


def turns(template: str, specials: Mapping[str, str], messages: object, place: str) -> tuple[str, list[Span]]:
    """The chat's text, and [first, end) of the characters of each turn of the assistant, its end mark included.

    Raises DataError where the messages are none, or the template does not write one turn behind the other.
    """
    found = _messages(messages, place)
    made = _compiled(template)

    def written(count: int, opens: bool) -> str:
        return _render(made, found[:count], specials, opens, place)

    whole = written(len(found), False)
    spans = []
    for number, message in enumerate(found):
        if message["role"] != ASSISTANT:
            continue
        before, after = written(number, True), written(number + 1, False)
        if not (after.startswith(before) and whole.startswith(after)):
            raise DataError(
                f"{place}: the chat template does not write turn {number + 1} behind those before it, so that nobody "
                "can tell which tokens are the assistant's; give prompt and completion instead"
            )
        spans.append((len(before), len(after)))
    return whole, spans


def _messages(given: object, place: str) -> Sequence[Message]:
    wanted = 'a list of {"role": ..., "content": ...}, texts both'
    if not isinstance(given, list | tuple) or not given:
        raise DataError(f"{place}: messages must be {wanted}, got {type(given).__name__}; mend it")
    for number, each in enumerate(given, 1):
        if not isinstance(each, Mapping) or not all(isinstance(each.get(k), str) for k in ("role", "content")):
            raise DataError(f"{place}: messages must be {wanted}; message {number} is not; mend it")
    if not any(each["role"] == ASSISTANT and each["content"].strip() for each in given):
        raise DataError(f"{place}: no message is the assistant's, and nothing else is learned from; leave it out")
    return given


@lru_cache(maxsize=4)
def _compiled(template: str) -> Template:
    """Raises DataError for a template that cannot be read."""
    try:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise DataError('chats need the package jinja2; pip install "heron-sfl[lm]"') from None
    kitchen = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    kitchen.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    kitchen.globals["raise_exception"] = _refuse
    try:
        return kitchen.from_string(template)
    except TemplateError as error:
        raise DataError(f"the model's chat template cannot be read ({error}); copy the model's folder anew") from error


def _refuse(message: str) -> NoReturn:
    """What templates call for messages that they do not take."""
    raise DataError(message)


def _render(made: Template, messages: Sequence[Message], specials: Mapping[str, str], opens: bool, place: str) -> str:
    try:
        return made.render(messages=list(messages), add_generation_prompt=opens, **specials)
    except Exception as error:  # a template is a program, and raises what it likes
        raise DataError(f"{place}: the model's chat template refuses these messages: {error}; mend them") from error
