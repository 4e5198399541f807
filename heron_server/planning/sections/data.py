"""The clients' shares of the data, and what is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from heron_core import data
from heron_core.data.source import Source
from heron_core.spec.data import DataSpec
from heron_server.text.tables import Section
from heron_server.text.units import percent_text

VALIDATION = "training samples set apart (data.validation):"


def data_section(chosen: DataSpec, sizes: Sequence[int], test: Source | None, classes: int) -> Section:
    """`sizes`: samples by rank, none where they are not known. `classes`: 0 where a label is not one class."""
    rows = [("source", chosen.source if not sizes else f"{chosen.source}, {chosen.partition} partition")]
    if sizes:
        low, middle, high = (f"{n:,.0f}" for n in (min(sizes), median(sizes), max(sizes)))
        rows.append(("samples a client", f"smallest {low}, median {middle}, largest {high}"))
    if test is not None and classes:
        share = max(data.class_histogram(test.labels, classes)) / max(1, len(test))
        rows.append(("majority-class accuracy", f"{percent_text(share)} on what is evaluated"))
    return Section("Data", rows)


def evaluator(chosen: DataSpec, test: Source | None) -> str | None:
    """Who evaluates, in words; None: nobody."""
    if test is not None:
        return f"by the server, on {VALIDATION if chosen.validation else 'its own'} {len(test):,} samples"
    if chosen.source == "client" and chosen.validation:
        return f"by the clients, on {percent_text(chosen.validation)} of their own {VALIDATION.rstrip(':')}"
    if chosen.source == "client" and chosen.holdout:
        return f"by the clients, on {percent_text(chosen.holdout)} of their own samples, held out"
    return None
