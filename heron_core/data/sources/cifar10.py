"""CIFAR-10 from a folder: `cifar10.npz`, or the official binary batches. Never a pickle.

Images stay uint8 [N, 3, 32, 32] on disk, memory-mapped, and are normalised batch by batch.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from heron_core.arrays import Array, TensorSpec
from heron_core.data.cache import through_cache
from heron_core.data.contract import InputContract, of_pixels
from heron_core.data.sensor import Half, Sensor
from heron_core.data.source import ArraySource, Normalisation
from heron_core.data.sources.asked import FOLDER_SETTING, data_folder
from heron_core.data.sources.cifar10_files import ARRAYS, read_binary, read_npz
from heron_core.errors import DataError

INPUT_SHAPE = (3, 32, 32)
CLASSES = 10
NORMALISATION = Normalisation(
    mean=(0.49139968, 0.48215841, 0.44653091), std=(0.24703223, 0.24348513, 0.26158784)
)
"""Per-channel mean and standard deviation of the train half."""

BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
WANTED = (
    "cifar10.npz (x_train, y_train, x_test, y_test), or the official binary version's "
    "data_batch_1.bin to data_batch_5.bin and test_batch.bin (cifar-10-binary.tar.gz, unpacked)"
)


def contract(spec: TensorSpec) -> InputContract:
    """How its pixels become the model's input."""
    return of_pixels(spec, "cifar10", NORMALISATION.mean, NORMALISATION.std, note="RGB")


def load(
    folder: Path | None = None, cache_dir: Path | None = None, sensor: Sensor | None = None
) -> tuple[ArraySource, ArraySource]:
    """(train, test): x float32 [3, 32, 32], seen by `sensor`, then normalised per channel. `folder` None: $HERON_DATA.

    The arrays are mapped from `cache_dir` (None: the user's cache folder), filled on first use (npz: 12 s).
    Raises DataError if the folder or its files are missing, are pickles, or do not hold what they should.
    """
    files = _find(data_folder("cifar10", folder))
    read = partial(read_npz, files[0]) if files[0].suffix == ".npz" else partial(read_binary, files)
    arrays = through_cache(files, ARRAYS, read, cache_dir)
    return _half(arrays, "train", files[0].parent, sensor), _half(arrays, "test", files[0].parent, sensor)


def _half(arrays: dict[str, Array], half: Half, origin: Path, sensor: Sensor | None) -> ArraySource:
    x, y = arrays[f"x_{half}"], arrays[f"y_{half}"]
    if len(x) == 0 or len(x) != len(y):
        raise DataError(
            f"{origin}: {half} needs as many images as labels, got {len(x)} and {len(y)}; get {WANTED}"
        )
    if y.min() < 0 or y.max() >= CLASSES:
        raise DataError(f"{origin}: {half} labels must be 0 to 9, got {y.min()} to {y.max()}; get {WANTED}")
    return ArraySource(x, y, NORMALISATION, sensor.of(half) if sensor else None)


def _find(folder: Path) -> list[Path]:
    """The npz alone, or the six binary batches with the test batch last."""
    for npz in (folder / "cifar10.npz", folder / "cifar10" / "cifar10.npz"):
        if npz.is_file():
            return [npz]
    for place in (folder, folder / "cifar-10-batches-bin"):
        files = [place / name for name in BATCHES]
        missing = [file.name for file in files if not file.is_file()]
        if not missing:
            return files
        if len(missing) < len(files):
            raise DataError(f"{place} lacks {', '.join(missing)}; it must hold {WANTED}")
    for name in ("data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz"):
        if (folder / name).exists():
            raise DataError(
                f"{folder / name} is the pickled version, which Heron does not open; get {WANTED}"
            )
    raise DataError(f"no CIFAR-10 in {folder}; it must hold {WANTED}; {FOLDER_SETTING}")
