"""What a settings file's text says of places: its own encoding, and paths that it names."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from heron_client.config import ClientSettings, load_client_file
from heron_core.config import Placed, load_toml
from heron_core.errors import ConfigError
from heron_server.config import RunFile, load_run_file
from heron_simulator.sweep.file import SweepFile
from heron_simulator.sweep.plan import load_sweep

TEXT = 'name = "größe"\n'


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_file_as_any_editor_saves_it_is_read(tmp_path: Path, mark: bytes, ends: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(mark + (TEXT + "rounds = 2\n").replace("\n", ends).encode())
    assert load_toml(file) == {"name": "größe", "rounds": 2}


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-16", "it is UTF-16, which Notepad calls Unicode .* save it as UTF-8"),
        ("utf-16-le", "it is UTF-16"),
        ("utf-16-be", "it is UTF-16"),
        ("latin-1", "line 3 is not UTF-8; byte 0xf6 is 'ö' in Latin-1: save the file as UTF-8"),
    ],
)
def test_another_encoding_is_named_with_the_place_and_what_to_do(tmp_path: Path, encoding: str, says: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(("# a\n\n" + TEXT).encode(encoding))
    with pytest.raises(ConfigError, match=rf"run\.toml cannot be read as TOML: {says}"):
        load_toml(file)


def test_a_path_is_relative_to_the_file_that_names_it_and_one_of_set_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "here" / "client.toml", 'name = "a"\ncerts = "c"\npython_path = [".", "/x"]\ndata.path = "d"\n')
    written(tmp_path / "here" / "run.toml", '[server]\nrun_dir = "out"\ntest_path = "../t.npz"\naddress = "unix:s"\n')
    monkeypatch.chdir(tmp_path)
    client = load_client_file(Path("here/client.toml"), ["state_dir=s", "data.folder=f"])
    assert (client.certs, client.data.path) == (Path("here/c"), Path("here/d"))
    assert client.python_path == (Path("here"), Path("/x"))
    assert (client.state_dir, client.data.folder) == (Path("s"), Path("f"))
    _, server = load_run_file(Path("here/run.toml"), ["server.certs=c"])
    assert (server.run_dir, server.test_path) == (Path("here/out"), Path("here/../t.npz"))
    assert (server.certs, server.address) == (Path("c"), "unix:here/s")


def test_home_and_variables_are_replaced_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "/mnt/$x")
    text = 'name = "a"\ncerts = "~/certs"\ntoken_file = "$PLACE/t"\nstate_dir = "$$s"\ndata.path = "${PLACE}d"\n'
    client = load_client_file(written(tmp_path / "client.toml", text), ["python_path=['~/code']", "server=unix:~/s"])
    assert (client.certs, client.token_file) == (tmp_path / "certs", Path("/mnt/$x/t"))
    assert (client.state_dir, client.data.path) == (tmp_path / "$s", Path("/mnt/$xd"))
    assert (client.python_path, client.server) == ((tmp_path / "code",), f"unix:{tmp_path}/s")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("$HERON_NOT_SET/x", r"certs: the variable \$HERON_NOT_SET is not set; set it, or write the path out, got '"),
        ("cost in $", "certs: a . begins the name of an environment variable; write .. for a dollar"),
        ("~nobody-of-this-name/x", "certs: there is no home folder ~nobody-of-this-name; write the path out"),
        ("", "certs: expected a path; leave the key out for its default"),
        ("a\\u0000b", "certs: expected a path"),
    ],
)
def test_a_path_that_names_no_place_is_refused_with_its_key(tmp_path: Path, path: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_client_file(written(tmp_path / "client.toml", f'name = "a"\ncerts = "{path}"\n'), [])


def test_each_file_of_a_sweep_has_its_own_paths(tmp_path: Path) -> None:
    written(tmp_path / "runs" / "base.toml", 'rounds = 1\n[server]\ntest_data = "npz"\ntest_path = "t.npz"\n')
    sweep = """base = "../runs/base.toml"\nseeds = 1\ncontrol = false\nrun.server.data_folder = "d"\n
        [[variants]]\nlabel = "a"\n[[variants]]\nlabel = "b"\nset = {"server.test_path" = "u.npz"}\n"""
    a, b = load_sweep(written(tmp_path / "sweeps" / "s.toml", sweep)).points
    assert a.runs[0].server.test_path == tmp_path / "sweeps" / "../runs" / "t.npz"
    assert b.runs[0].server.test_path == tmp_path / "sweeps" / "u.npz"
    assert b.runs[0].server.data_folder == tmp_path / "sweeps" / "d"


def test_settings_that_another_process_reads_as_json_name_the_same_places() -> None:
    client = ClientSettings(name="a", certs=Path("/mnt/$x"), python_path=(Path("$"),))
    assert ClientSettings.model_validate(client.model_dump(mode="json")) == client


def fields(model: type[BaseModel]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        inner = isinstance(kind, type) and issubclass(kind, BaseModel)
        found += fields(kind) if inner else [(name, (kind, *field.metadata))]  # type: ignore[arg-type]
    return found


def parts(kind: object) -> set[object]:
    inner = kind if isinstance(kind, tuple) else get_args(kind)
    return {str(kind), type(kind), kind if isinstance(kind, type) else None}.union(*(parts(part) for part in inner))


@pytest.mark.parametrize("model", [RunFile, ClientSettings, SweepFile])
def test_every_setting_that_is_a_path_is_placed(model: type[BaseModel]) -> None:
    for name, kind in fields(model):
        found = parts(kind)
        assert Path not in found or Placed in found, f"{name} is a bare Path: make it a LocalPath"


def test_the_current_folder_may_be_gone_for_a_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "client.toml", 'name = "a"\ncerts = "c"\n')
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load_client_file(file, []).certs == tmp_path / "c"
