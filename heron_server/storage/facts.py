"""What a checkpoint says of a run beside its tensors, and what may be wrong with that where it is read."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from heron_server.metrics.figures import SavedRecords
from heron_server.metrics.ledger import Ledger


class Facts(TypedDict):
    """As the header of the file has it."""

    run_id: str
    rounds_done: int
    table: dict[str, int]
    """Client name -> rank."""
    owners: dict[str, str]
    """Client name -> SHA-256 of its instance key, hexadecimal: whose name it is, without what proves it."""
    ledger: dict[str, int]
    """As in Ledger.as_dict."""
    records: SavedRecords
    class_names: list[str]
    """In the order of the labels; empty where nobody knows them."""


def oddities(header: object) -> Iterator[str]:
    """What keeps a value read from JSON from being Facts, one sentence each."""
    found = list(mistyped(header, Facts, "the header"))
    yield from found
    if not found:
        assert isinstance(header, dict)
        yield from (f"the ledger lacks {kind!r}" for kind in Ledger().as_dict() if kind not in header["ledger"])


def mistyped(found: object, hint: object, name: str) -> Iterator[str]:
    """What keeps a value read from JSON from being of this type. Every int is a count of something, none is negative.

    `name`: what it is, for the sentences.
    """
    if isinstance(hint, UnionType):  # a type or None
        if found is not None:
            yield from mistyped(found, get_args(hint)[0], name)
    elif is_typeddict(hint) and isinstance(found, dict):
        for key, inner in get_type_hints(hint, include_extras=True).items():
            optional = get_origin(inner) is NotRequired
            if key in found:
                yield from mistyped(found[key], get_args(inner)[0] if optional else inner, f"{name}'s {key}")
            elif not optional:
                yield f"{name} lacks {key!r}"
    elif get_origin(hint) is dict and isinstance(found, dict):
        for key, value in found.items():
            yield from mistyped(value, get_args(hint)[1], f"{name}'s {key}")
    elif get_origin(hint) is list and isinstance(found, list):
        for number, value in enumerate(found):
            yield from mistyped(value, get_args(hint)[0], f"{name}'s {number}")
    elif not _is_one(found, hint):
        yield f"{name} is {str(found)[:50]}, expected {'a count' if hint is int else getattr(hint, '__name__', hint)}"


def _is_one(found: object, hint: object) -> bool:
    if hint is int:
        return type(found) is int and found >= 0
    if hint is float:
        return type(found) in (int, float)
    return isinstance(hint, type) and not is_typeddict(hint) and isinstance(found, hint)
