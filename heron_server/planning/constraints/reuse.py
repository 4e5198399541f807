"""What must not change where activations are used again, and where they find room.

Each function gives one sentence for each constraint that is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heron_core.spec.methods import method_of, tolerates
from heron_core.spec.run_spec import RunSpec
from heron_server.planning.facts import ModelFacts
from heron_server.planning.traffic import kept_bytes
from heron_server.text.units import bytes_text

SAME_EACH_TIME = ("raw", "bf16")
"""Codecs that give the same bytes for the same values."""


def reuse(spec: RunSpec, facts: ModelFacts) -> Iterator[str]:
    """The front gives a sample the same activations in every pass, or moves them a little; and so does the codec."""
    if not spec.codec.reuse:
        return
    learns = tolerates(spec)
    if learns:
        yield from _of_a_front_that_learns(spec, facts)
    moving = facts.across_batch.get("front")
    if moving and spec.method.running_statistics == "update" and not learns:
        yield (
            f"codec.reuse uses activations again, and {moving} normalises across the batch and moves its running "
            'statistics; set method.running_statistics = "keep", or codec.reuse = false'
        )
    if facts.drawing and not learns and spec.method.running_statistics == "update" and spec.codec.exact:
        yield (
            f"codec.reuse uses activations again, and {facts.drawing} draws others in each pass; take it out, or set "
            'method.running_statistics = "keep", with which the front runs as in evaluation, or codec.exact = false'
        )
    if facts.varying:
        yield (
            f"codec.reuse keeps samples of one size, and {', '.join(facts.varying)} varies in length; pad every "
            "sample to one length, or set codec.reuse = false"
        )
    if spec.codec.exact and spec.codec.uploads not in SAME_EACH_TIME:
        yield (
            f'codec.reuse with codec.uploads = "{spec.codec.uploads}" rounds each sample at random once, and without '
            "reuse anew in each pass, so that results differ; set codec.exact = false, or take "
            f'uploads = "{SAME_EACH_TIME[1]}"'
        )


def _of_a_front_that_learns(spec: RunSpec, facts: ModelFacts) -> Iterator[str]:
    row, name = method_of(spec.method), spec.method.name
    if not row.uploads or row.returns_cut_gradients:
        what = "returns cut gradients, which would be of what was sent earlier" if row.uploads else "uploads nothing"
        yield f"codec.reuse keeps activations for the server's own training, and {name} {what}; set it to false"
    moving = facts.across_batch.get("front") or facts.drawing
    if moving:
        yield (
            f"codec.reuse sends a sample's activations again where they have moved, and with {moving} they do in each "
            'pass; take model.norm = "group" and no dropout, or set codec.reuse = false'
        )
    whole = [f"{tensor.name} {tensor.dtype}" for tensor in facts.activations if not tensor.is_floating]
    if whole:
        yield (
            f"codec.tolerance says how far floating-point activations may move, and the cut has {', '.join(whole)}; "
            "set codec.reuse = false"
        )


def reuse_budget(spec: RunSpec, facts: ModelFacts, budget: int, sizes: Sequence[int]) -> Iterator[str]:
    """There is room for all samples. `sizes`: how many by rank."""
    needed = kept_bytes(spec, facts, sizes)
    if spec.codec.reuse and needed > budget:
        yield (
            f"codec.reuse keeps {sum(sizes):,} samples of {len(sizes)} clients, {bytes_text(needed)} ({needed:,} "
            f"bytes), and server.reuse_budget is {bytes_text(budget)}; raise it, cut where activations are smaller, or "
            "set codec.reuse = false"
        )
