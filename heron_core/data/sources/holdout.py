"""What a client evaluates on, of its own data: a share of its samples or groups, and it learns from none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from heron_core.data.source import Source, Subset
from heron_core.errors import DataError
from heron_core.streams import generator

if TYPE_CHECKING:
    from heron_core.spec.data import DataSpec

By = Literal["sample", "group"]


def split_own(source: Source, spec: DataSpec, seed: int, name_or_rank: str | int) -> tuple[Source, Source]:
    """(train, evaluate on): of a client's own data. With data.validation the latter is of what the holdout leaves, and
    what is held out is used for neither. Raises DataError if nothing would be left to train on."""
    train, held_out = split_holdout(source, spec.holdout, seed, name_or_rank, by=spec.holdout_by)
    if spec.validation:
        return split_holdout(train, spec.validation, seed, name_or_rank, "validation", spec.holdout_by)
    return train, held_out


def split_holdout(
    source: Source, fraction: float, seed: int, name_or_rank: str | int, setting: str = "holdout", by: By = "sample"
) -> tuple[Source, Source]:
    """(train, held out): `fraction` of the samples or groups, at least one unless 0, from the client's own stream.

    Raises DataError if nothing would be left to train on, or the data knows no groups.
    """
    groups = groups_of(source) if by == "group" and fraction > 0 else np.arange(len(source))
    kinds, place = np.unique(groups, return_inverse=True)
    num_held = max(1, round(fraction * len(kinds))) if fraction > 0 else 0
    if num_held >= len(kinds):
        raise DataError(
            f"{len(kinds)} {by}s leave none to train on after {setting} = {fraction}; add data or lower data.{setting}"
        )
    order = generator(seed, setting, name_or_rank).permutation(len(kinds))
    held = np.isin(place, order[:num_held])
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def groups_of(source: Source) -> NDArray[np.int64]:
    """The number of each sample's group. Raises DataError where the source has none.

    One that stands around another has it as `wraps`, and as `indices` which of its samples it gives, if not all.
    """
    if (within := getattr(source, "wraps", None)) is not None:
        groups = groups_of(within)
        return groups[source.indices] if hasattr(source, "indices") else groups
    found = getattr(source, "groups", None)
    if found is None:
        raise DataError(
            'data.holdout_by = "group" needs to know whose each sample is, and the data does not say; name the column '
            "in data.table.group, give your own dataset an attribute `groups` (one for each sample), or hold out by "
            "sample"
        )
    if np.ndim(found) != 1 or len(found) != len(source):
        raise DataError(
            f"`groups` must have one entry for each of {len(source)} samples, got {np.shape(found)}; mend the data"
        )
    numbered: NDArray[np.int64] = np.unique(np.asarray(found), return_inverse=True)[1]
    return numbered
