"""CIFAR-10 from both kinds of files, through the cache and past it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.arrays import TensorSpec
from heron_core.data import ArraySource, cache, check_source
from heron_core.data.sources import cifar10
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

Arrays = dict[str, np.ndarray[Any, Any]]
HERE = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HERON_DATA", raising=False)


def tiny(num_train: int = 1205, num_test: int = 7) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (num_train, 32, 32, 3), dtype=np.uint8),
        "y_train": (np.arange(num_train) % 10).astype(np.uint8),
        "x_test": rng.integers(0, 256, (num_test, 32, 32, 3), dtype=np.uint8),
        "y_test": (np.arange(num_test) % 10).astype(np.uint8),
    }


def save_npz(path: Path, arrays: Arrays, compression: int = zipfile.ZIP_LZMA) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def save_binary(folder: Path, arrays: Arrays) -> None:
    def records(half: str, rows: slice) -> bytes:
        images = arrays[f"x_{half}"][rows].transpose(0, 3, 1, 2)
        return np.column_stack([arrays[f"y_{half}"][rows], images.reshape(len(images), -1)]).tobytes()

    folder.mkdir(exist_ok=True)
    fifth = len(arrays["x_train"]) // 5
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(records("train", slice(i * fifth, (i + 1) * fifth)))
    (folder / "test_batch.bin").write_bytes(records("test", slice(None)))


def assert_holds(source: ArraySource, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    check_source(source, (TensorSpec("x", (3, 32, 32)),), LabelSpec(count=10))
    (got,), labels = source.batch(np.arange(len(source)))
    mean, std = (np.array(v, np.float64) for v in (cifar10.NORMALISATION.mean, cifar10.NORMALISATION.std))
    np.testing.assert_allclose(got, ((x / 255 - mean) / std).transpose(0, 3, 1, 2), rtol=0, atol=1e-6)
    assert np.array_equal(labels, y)


def assert_loads(folder: Path | None, arrays: Arrays, cache_dir: Path | None = None) -> None:
    train, test = cifar10.load(folder, cache_dir)
    assert_holds(train, arrays["x_train"], arrays["y_train"])
    assert_holds(test, arrays["x_test"], arrays["y_test"])


@pytest.mark.parametrize("sub_folder", ["", "cifar10"])
def test_the_npz_is_found_in_the_folder_or_below(sub_folder: str, tmp_path: Path) -> None:
    (tmp_path / sub_folder).mkdir(exist_ok=True)
    save_npz(tmp_path / sub_folder / "cifar10.npz", tiny())
    assert_loads(tmp_path, tiny())
    assert_loads(tmp_path, tiny())


@pytest.mark.parametrize("sub_folder", ["", "cifar-10-batches-bin"])
def test_the_official_binary_batches_are_found_in_the_folder_or_below(sub_folder: str, tmp_path: Path) -> None:
    save_binary(tmp_path / sub_folder, tiny(20, 3))
    assert_loads(tmp_path, tiny(20, 3))


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny(10, 10))
    monkeypatch.setenv("HERON_DATA", str(tmp_path))
    assert_loads(None, tiny(10, 10))


def test_without_a_folder_the_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is named; set data\.folder .*\[server\].*\$HERON_DATA"):
        cifar10.load(None)
    with pytest.raises(DataError, match=r"no data folder at .*absent; set data\.folder"):
        cifar10.load(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no CIFAR-10 in .*cifar10\.npz .*data_batch_1\.bin"):
        cifar10.load(tmp_path)


@pytest.mark.parametrize("name", ["data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_pickles_are_refused_unopened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError, match=f"{name} is the pickled version, which Heron does not open; get cifar10.npz"):
        cifar10.load(tmp_path)


def test_a_missing_batch_file_is_named(tmp_path: Path) -> None:
    save_binary(tmp_path, tiny(20, 3))
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_4\.bin; it must hold"):
        cifar10.load(tmp_path)


def test_a_cut_batch_file_is_named(tmp_path: Path) -> None:
    save_binary(tmp_path, tiny(20, 3))
    os.truncate(tmp_path / "test_batch.bin", 5000)
    with pytest.raises(DataError, match=r"test_batch\.bin must be a multiple of 3073 bytes, got 5000"):
        cifar10.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((2, 32, 32, 3))}, r"x_train must be uint8 \[N, 32, 32, 3\], got float64"),
        (
            {"x_test": np.zeros((2, 3, 32, 32), np.uint8)},
            r"x_test must be uint8 .*got uint8 \[2, 3, 32, 32\]",
        ),
        ({"y_test": np.zeros(7)}, r"y_test must be integers \[N\], got float64 \[7\]"),
        ({"y_test": np.zeros(6, np.uint8)}, "test needs as many images as labels, got 7 and 6"),
        ({"y_test": np.full(7, 10)}, "test labels must be 0 to 9, got 10 to 10"),
        ({"y_train": None}, r"cifar10\.npz cannot be read \(KeyError.*y_train"),
    ],
)
def test_an_npz_of_another_kind_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    arrays = {**tiny(10, 7), **change}
    save_npz(tmp_path / "cifar10.npz", {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=message):
        cifar10.load(tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_npz_is_refused_and_nothing_half_read_is_kept(compression: int, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "cifar10.npz"
    save_npz(path, tiny(600, 7), compression)
    data = bytearray(path.read_bytes())
    data[100_000:100_100] = bytes(100)
    path.write_bytes(data[:-1000] if damage == "cut" else data)
    with pytest.raises(DataError, match=r"cifar10\.npz cannot be read .*; download"):
        cifar10.load(tmp_path)
    assert not list((tmp_path / "cache").rglob("x_train*")) and not list((tmp_path / "cache").rglob("*.tmp"))


def test_an_npz_with_a_pickle_inside_is_refused_unopened(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **{**tiny(10, 7), "x_train": np.array([print], dtype=object)})
    with pytest.raises(DataError, match="it holds Python objects"):
        cifar10.load(tmp_path)


def cached_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


def test_the_second_load_maps_the_cache_and_does_not_read_the_npz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny())
    cifar10.load(tmp_path, tmp_path / "mine")
    assert [file.name for file in cached_files(tmp_path / "mine")] == [
        "x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy",
    ]  # fmt: skip
    monkeypatch.setattr(cifar10, "read_npz", lambda path: pytest.fail(f"{path} was read again"))
    assert_loads(tmp_path, tiny(), tmp_path / "mine")


def test_a_changed_npz_is_read_again(tmp_path: Path) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny(10, 7))
    cifar10.load(tmp_path)
    save_npz(tmp_path / "cifar10.npz", tiny(20, 7))
    assert_loads(tmp_path, tiny(20, 7))


def test_a_cut_cache_file_is_written_again(tmp_path: Path) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny(10, 7))
    cifar10.load(tmp_path)
    for file in cached_files(tmp_path / "cache"):
        os.truncate(file, file.stat().st_size - 1)
    assert_loads(tmp_path, tiny(10, 7))


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny(10, 7))
    cifar10.load(tmp_path)
    file = cached_files(tmp_path / "cache")[0]
    file.rename(file.with_name("left.tmp"))
    assert_loads(tmp_path, tiny(10, 7))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_without_a_writable_cache_folder_it_goes_on_in_memory(tmp_path: Path) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny())
    (tmp_path / "file").touch()  # a folder below a file cannot be made, by root neither
    assert_loads(tmp_path, tiny(), tmp_path / "file" / "cache")


def test_a_disk_that_fills_up_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    save_npz(tmp_path / "cifar10.npz", tiny(10, 7))
    monkeypatch.setattr(cache, "_write", no_space)
    assert_loads(tmp_path, tiny(10, 7))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_without_a_home_it_goes_on_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    save_npz(tmp_path / "cifar10.npz", tiny(10, 7))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert_loads(tmp_path, tiny(10, 7))


def test_processes_that_start_together_read_the_npz_once(tmp_path: Path) -> None:
    save_npz(tmp_path / "cifar10.npz", tiny())
    script = (
        "import sys, pathlib; from heron_core.data.sources import cifar10\n"
        "read = cifar10.read_npz\n"
        "def counted(path): print('read'); return read(path)\n"
        "cifar10.read_npz = counted\n"
        "print(len(cifar10.load(pathlib.Path(sys.argv[1]))[0]))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in started]
    assert sorted(len(output) for output in outputs) == [1, 1, 2]
    assert {output[-1] for output in outputs} == {"1205"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc/self/status")
def test_random_batches_of_a_mapped_array_leave_its_pages_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((10_000, 3, 32, 32), np.uint8))
    script = (
        "import re, sys, numpy as np; from heron_core.data import ArraySource\n"
        "def peak(): return int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "s = ArraySource(np.load(sys.argv[1], mmap_mode='r'), np.zeros(10_000, np.int64))\n"
        "order = np.random.default_rng(0).permutation(10_000).reshape(-1, 25)\n"
        "before = peak()\n"
        "for rows in order: s.batch(rows)\n"
        "print(peak() - before)"
    )
    out = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", script, str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(out.stdout) < 6 * 1024, "kB for a file of 30,000 kB"


def real_folder() -> Path | None:
    candidates = [Path(os.environ.get("HERON_DATA", "/nonexistent")), HERE.parent / "shared" / "data"]
    return next((path for path in candidates if (path / "cifar10" / "cifar10.npz").is_file()), None)


REAL = real_folder()  # found at import, before the fixture hides $HERON_DATA


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="no cifar10/cifar10.npz in $HERON_DATA or ../shared/data")
def test_the_real_files_have_the_published_statistics(tmp_path: Path) -> None:
    train, test = cifar10.load(REAL, tmp_path / "mine")
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    sums, squares = np.zeros(3), np.zeros(3)
    for rows in np.arange(50_000).reshape(-1, 1000):
        x = train.batch(rows)[0][0].astype(np.float64)
        sums, squares = sums + x.mean(axis=(0, 2, 3)) / 50, squares + np.square(x).mean(axis=(0, 2, 3)) / 50
    np.testing.assert_allclose(sums, 0, atol=1e-4)
    np.testing.assert_allclose(squares, 1, atol=1e-4)
