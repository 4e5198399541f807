"""Own data with a defect: the result of the same run without it, or a refusal that names the culprit and the cure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron_core.errors import DataError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observer
from heron_simulator import simulate

FRUIT = ("apfel", "birne", "kirsche")
Images = dict[str, list[np.ndarray[Any, Any]]]


def pictures(seed: int, count: int = 8) -> Images:
    """uint8 [8, 8] by class, each brighter than the one before."""
    rng = np.random.default_rng(seed)
    return {
        name: [(rng.integers(0, 60, (8, 8)) + 80 * label).astype(np.uint8) for _ in range(count)]
        for label, name in enumerate(FRUIT)
    }


def folder(path: Path, images: Images, **renamed: str) -> Path:
    image = pytest.importorskip("PIL.Image")
    for name, pixels in images.items():
        inner = path / renamed.get(name, name)
        inner.mkdir(parents=True)
        for number, each in enumerate(pixels):
            image.fromarray(each).save(inner / f"{number}.png")
    return path


def npz(path: Path, seed: int, convert: Callable[[Any], Any] = lambda x: x) -> Path:
    images = pictures(seed)
    x = np.stack([each for pixels in images.values() for each in pixels])[:, None]
    np.savez(path, x=convert(x), y=np.repeat(np.arange(3), 8))
    return path


class Notes(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def run(
    source: str, a: Path, b: Path, test: Path | None, *, notes: Notes | None = None, run_dir: Path | None = None,
    resume: bool = False, rounds: int = 1, names: tuple[str, ...] = (), **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    tables = {
        "rounds": rounds, "model": {"name": "mlp", "input_shape": [1, 8, 8], "classes": 3, "widths": [8, 6]},
        "data": {"source": "client", "holdout": 0.0, "class_names": names},
        "method": {"name": "cse_fsl", "local_steps": 2, "batch_size": 8, "optimizer": {"lr": 1e-2}},
        "federation": {"clients": 2},
    }  # fmt: skip
    server = {"test_data": source, "test_path": test} if test else {"test_data": "none"}
    clients = [{"name": n, "data": {"source": source, "path": p}} for n, p in (("a", a), ("b", b))]
    done = simulate(
        RunSpec.model_validate(tables), settings=ServerSettings.model_validate({**server, **settings}),
        client_settings=clients, observers=[notes] if notes else [], run_dir=run_dir, resume=resume,
    )  # fmt: skip
    return dict(done.summary)


class Folders:
    """A clean run's, and how it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.a, self.b, self.test = (folder(path / name, pictures(seed)) for seed, name in enumerate("abt"))

    def digest(self, a: Path | None = None, test: bool = True, **more: Any) -> str:
        return str(run("image_folder", a or self.a, self.b, self.test if test else None, **more)["model_sha256"])

    def refused(self, a: Path, test: bool = True) -> str:
        with pytest.raises(DataError) as caught:
            self.digest(a, test)
        return str(caught.value)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_a_client_without_a_class_keeps_the_numbers_of_the_others(folders: Folders, tmp_path: Path) -> None:
    some = pictures(7)
    missing = folder(tmp_path / "missing", {"apfel": some["apfel"], "kirsche": some["kirsche"]})
    empty = folder(tmp_path / "empty", {**some, "birne": []})
    assert folders.digest(missing) == folders.digest(empty)
    summary = run("image_folder", missing, folders.b, folders.test)
    assert summary["class_names"] == list(FRUIT)
    assert summary["per_client"]["a"]["class_histogram"] == [8, 0, 8]


def test_a_class_that_differs_in_case_is_refused_whoever_names_the_classes(folders: Folders, tmp_path: Path) -> None:
    upper = folder(tmp_path / "upper", pictures(0), apfel="Apfel", kirsche="Kirsche")
    said = folders.refused(upper)
    assert f"a: {upper / 'Apfel'} is none of the run's classes (apfel, birne, kirsche)" in said
    assert "'Apfel' and 'apfel' differ in upper and lower case; rename it to 'apfel'" in said
    said = folders.refused(upper, test=False)
    assert f"b: {folders.b / 'apfel'} is none of the run's classes (Apfel, Kirsche, birne)" in said


@pytest.mark.parametrize("test", [True, False])
def test_a_path_one_level_too_high_is_refused_with_the_right_one(folders: Folders, tmp_path: Path, test: bool) -> None:
    folder(tmp_path / "nested" / "train", pictures(0))
    said = folders.refused(tmp_path / "nested", test)
    assert str(tmp_path / "nested" / "train") in said and "set data.path to" in said


@pytest.mark.parametrize("test", [True, False])
def test_an_empty_stray_folder_changes_nothing(folders: Folders, tmp_path: Path, test: bool) -> None:
    stray = folder(tmp_path / "stray", {**pictures(0), "backup": []})
    assert folders.digest(stray, test) == folders.digest(test=test)


def test_a_foreign_class_is_refused_by_its_folder(folders: Folders, tmp_path: Path) -> None:
    foreign = folder(tmp_path / "foreign", pictures(0), birne="brine")
    assert f"{foreign / 'brine'} is none of" in (said := folders.refused(foreign)) and "rename it to 'birne'" in said


def test_the_order_of_the_run_file_holds_and_is_kept_with_the_model(folders: Folders, tmp_path: Path) -> None:
    order = ("kirsche", "apfel", "birne")
    summary = run("image_folder", folders.a, folders.b, folders.test, names=order, run_dir=tmp_path / "run")
    assert summary["class_names"] == list(order)
    assert json.loads((tmp_path / "run" / "model" / "model.json").read_text())["class_names"] == list(order)


def test_names_of_the_first_client_hold_after_a_resumption(folders: Folders, tmp_path: Path) -> None:
    other = folder(tmp_path / "other", pictures(0))
    whole = folders.digest(other, test=False, rounds=2)
    folders.digest(other, test=False, rounds=1, run_dir=tmp_path / "run")
    swapped = folder(tmp_path / "swapped", pictures(0), apfel="Zwetschge")
    with pytest.raises(DataError, match="none of the run's classes"):
        folders.digest(swapped, test=False, rounds=2, run_dir=tmp_path / "run", resume=True)
    assert folders.digest(other, test=False, rounds=2, run_dir=tmp_path / "run", resume=True) == whole


def follow(cure: str) -> Callable[[Any], Any]:
    """What a user does who reads `save (x / 255 - 0.5) / 0.5`."""
    found = re.search(r"save (\(x .*?/ 0\.5)", cure)
    assert found, cure
    return lambda x: eval(found[1], {"x": x.astype(np.float32)})


@pytest.mark.parametrize("factor", [1, 257])
def test_pixels_on_another_scale_are_refused_and_the_cure_gives_clean_data_s_bits(tmp_path: Path, factor: int) -> None:
    def wide(x: Any) -> Any:
        return x.astype(np.float32) * factor

    b, test = npz(tmp_path / "b.npz", 1), npz(tmp_path / "t.npz", 2)
    with pytest.raises(DataError) as caught:
        run("npz", npz(tmp_path / "wide.npz", 0, wide), b, test)
    said = str(caught.value)
    assert said.startswith("a: input 'input' is float32 [1, 8, 8], from ") and "in the server's test set" in said
    cured = follow(said)
    digest = run("npz", npz(tmp_path / "cured.npz", 0, lambda x: cured(wide(x))), b, test)["model_sha256"]
    clean = run("npz", npz(tmp_path / "clean.npz", 0), b, test)["model_sha256"]
    assert digest == clean or factor != 1, "the very bits"
    assert factor == 1 or np.allclose(cured(wide(np.arange(256.0))), (np.arange(256) / 255 - 0.5) / 0.5, atol=1e-6)


def test_the_second_client_is_compared_with_the_first_where_there_is_no_test_set(tmp_path: Path) -> None:
    def raw(x: Any) -> Any:
        return x.astype(np.float32)

    with pytest.raises(DataError, match=r"b: .* in the data of a, the first client.*store uint8, or save \(x / 255"):
        run("npz", npz(tmp_path / "a.npz", 0), npz(tmp_path / "b.npz", 1, raw), None)


def test_a_smaller_difference_is_said_and_a_server_may_take_what_it_would_refuse(tmp_path: Path) -> None:
    notes, a = Notes(), npz(tmp_path / "a.npz", 0)
    run("npz", a, npz(tmp_path / "half.npz", 1, lambda x: x.astype(np.float32) / 255), None, notes=notes)
    assert any(text.startswith("b: input 'input' is") and "save (x - 0.5) / 0.5" in text for text in notes.heard)
    raw, notes = npz(tmp_path / "raw.npz", 1, lambda x: x.astype(np.float32)), Notes()
    run("npz", a, raw, None, notes=notes, check_inputs="warn")
    assert any("the standard deviations differ" in text or "overlap" in text for text in notes.heard)
    run("npz", a, raw, None, notes=(silent := Notes()), check_inputs="off")
    assert not any(text.startswith("b: input") for text in silent.heard)
