"""An experiment's data from one `.npz` in each side's data folder: x and y, and perhaps groups and a test part.

What x and y may be is as for a client's own `.npz` (npz.py), but classes are numbers: an experiment has no names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from heron_core.arrays import Array
from heron_core.data.source import Source
from heron_core.data.sources.asked import FOLDER_SETTING, data_folder
from heron_core.data.sources.holdout import By, split_holdout
from heron_core.data.sources.npz import NamedArrays, from_arrays, read_members, specs_of_arrays
from heron_core.errors import DataError
from heron_core.files import sha256_of

if TYPE_CHECKING:
    from heron_core.spec.data import DataSpec

CURE = "save it so with numpy.savez"


def load(spec: DataSpec, seed: int, folder: Path | None = None) -> tuple[Source, Source]:
    """(train, test): the file's own test part, else data.test_share of its samples or groups, drawn by the seed.

    `folder` None: $HERON_DATA. Raises DataError where the file is missing, is another, or does not hold what it should.
    """
    path = _found(spec, folder)
    held = read_members(path, ("x", "y"), ("groups", "x_test", "y_test"), cure=CURE)
    _check(path, held, spec)
    train = _half(path, held["x"], held["y"], held)
    train.groups = held.get("groups")
    if "x_test" in held:
        return train, _half(path, held["x_test"], held["y_test"], held)
    by: By = "group" if spec.partition == "groups" else "sample"
    return split_holdout(train, spec.test_share, seed, "experiment", "test_share", by)


def _found(spec: DataSpec, folder: Path | None) -> Path:
    path = data_folder("arrays", folder) / spec.file
    if not path.is_file():
        raise DataError(f"no file at {path}, which data.file = {spec.file!r} names; put it there, or {FOLDER_SETTING}")
    if spec.file_sha256:
        found = sha256_of(path)
        if found != spec.file_sha256:
            raise DataError(
                f"{path} is another file than the run's: its SHA-256 is {found}, data.file_sha256 is "
                f"{spec.file_sha256}; copy the file of the one who wrote the run file"
            )
    return path


def _check(path: Path, held: Mapping[str, Array], spec: DataSpec) -> None:
    """What one array alone does not tell."""
    if not held["x"].ndim:
        raise DataError(f"{path}: x must be [N, ...], got one number; {CURE}")
    if ("x_test" in held) != ("y_test" in held):
        raise DataError(f"{path}: x_test and y_test are a test part together, the file has one of them; {CURE}")
    if "x_test" in held and held["x_test"].dtype != held["x"].dtype:
        raise DataError(f"{path}: x_test must be {held['x'].dtype}, as x is, got {held['x_test'].dtype}; {CURE}")
    if "x_test" in held and spec.test_share != type(spec).model_fields["test_share"].default:
        raise DataError(f"{path} has a test part of its own, x_test, and data.test_share is not used; remove it")
    if "groups" not in held and spec.partition == "groups":
        raise DataError(
            f'data.partition = "groups" needs to know whose each sample is, and {path} holds no `groups` [N]; add it '
            "to the file, or take another partition"
        )
    groups = held.get("groups")
    if groups is not None and (groups.shape != held["x"].shape[:1] or groups.dtype.kind not in "iuU"):
        raise DataError(
            f"{path}: groups must be integers or texts, one for each of {len(held['x'])} samples, got {groups.dtype} "
            f"{list(groups.shape)}; {CURE}"
        )


def _half(path: Path, x: Array, y: Array, held: Mapping[str, Array]) -> NamedArrays:
    """Both halves are read as the training half describes itself."""
    if y.dtype.kind not in "iuf":
        raise DataError(f"{path}: y must be numbers, classes from 0, got {y.dtype}; {CURE}")
    (spec,), labels = specs_of_arrays(held["x"], held["y"])
    return from_arrays(path, x, y, spec, labels)
