"""The wire contract: commented field by field, and the checked-in stubs are what it generates."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf import descriptor_pb2
from tree import ROOT

PROTO = ROOT / "proto"
SOURCES = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
STUBS = ROOT / "heron_core" / "pb" / "v1"
PINNED = next(
    line.partition("==")[2]
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    if line.startswith("grpcio-tools==")
)


def generator_version() -> str:
    try:
        return version("grpcio-tools")
    except PackageNotFoundError:
        return ""


needs_generator = pytest.mark.skipif(not generator_version(), reason="grpcio-tools is not installed (dev extra)")


def protoc(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO), *arguments, *SOURCES],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def checked_in(source: str) -> descriptor_pb2.FileDescriptorProto:
    module = importlib.import_module(source.removesuffix(".proto").replace("/", ".") + "_pb2")
    proto = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)
    return without_json_names(proto)


def without_json_names(proto: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    for message in proto.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return proto


@needs_generator
def test_checked_in_stubs_describe_the_protos(tmp_path: Path) -> None:
    out = tmp_path / "set.binpb"
    protoc(f"--descriptor_set_out={out}", "--include_imports")
    fresh = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    assert sorted(file.name for file in fresh.file) == SOURCES
    for file in fresh.file:
        assert checked_in(file.name) == without_json_names(file), f"{file.name} has changed: run `make protos`"


@needs_generator
@pytest.mark.skipif(generator_version() not in ("", PINNED), reason=f"the pinned generator is {PINNED}")
def test_checked_in_stubs_are_the_generator_s_output_byte_for_byte(tmp_path: Path) -> None:
    protoc(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}")
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "heron_core" / "pb" / "v1").iterdir()}
    here = {path.name: path.read_bytes() for path in STUBS.glob("*_pb2*")}
    assert sorted(fresh) == sorted(here)
    assert [name for name in fresh if fresh[name] != here[name]] == [], "run `make protos`"


def test_stubs_are_made_by_the_pinned_generator_which_is_the_oldest_grpcio_supported() -> None:
    made_by = {re.findall(r"GRPC_GENERATED_VERSION = '(.+)'", p.read_text())[0] for p in STUBS.glob("*_pb2_grpc.py")}
    assert made_by == {PINNED}
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"grpcio>={PINNED.rpartition('.')[0]}" in dependencies


def test_a_stub_s_import_path_is_its_path_under_proto() -> None:
    stems = {path.name.removesuffix(".proto") for path in PROTO.rglob("*.proto")}
    assert {path.name.rpartition("_pb2")[0].removesuffix("_pb2") for path in STUBS.glob("*_pb2*")} == stems
    for source in SOURCES:
        assert source.startswith("heron_core/pb/v1/")
        assert checked_in(source).package == "heron.v1"


DECLARATION = re.compile(
    r"""^(?P<indent>\s*)(?:
        (?P<kind>message|enum|service|oneof)\s+(?P<block>\w+)\s*\{
      | rpc\s+(?P<rpc>\w+)
      | (?:repeated\s+|optional\s+)?(?:[\w.]+\s+)?(?P<field>\w+)\s*=\s*\d+\s*;
    )(?P<rest>.*)$""",
    re.VERBOSE,
)


def declarations(source: str) -> Iterator[tuple[str, str]]:
    """(dotted name, comment) of each message, enum, value, field, oneof, service and rpc; "" where there is none."""
    scope: list[str] = []
    above = ""
    for line in (PROTO / source).read_text(encoding="utf-8").splitlines():
        code, _, beside = line.partition("//")
        match = DECLARATION.match(code)
        if match:
            name = match["block"] or match["rpc"] or match["field"]
            yield ".".join([*scope, name]), (beside or above).strip()
        opened, closed = code.count("{"), code.count("}")
        if match and match["block"] and opened > closed:
            scope.append(match["block"])
        elif closed > opened:
            scope.pop()
        above = beside if not code.strip() else ""


def described(source: str) -> Iterator[str]:
    """The same names, from the compiled descriptor."""
    file = checked_in(source)
    for message in file.message_type:
        yield message.name
        for oneof in message.oneof_decl:
            yield f"{message.name}.{oneof.name}"
        for field in message.field:
            inside = f"{message.oneof_decl[field.oneof_index].name}." if field.HasField("oneof_index") else ""
            yield f"{message.name}.{inside}{field.name}"
    for enum in file.enum_type:
        yield from (enum.name, *(f"{enum.name}.{value.name}" for value in enum.value))
    for service in file.service:
        yield from (service.name, *(f"{service.name}.{method.name}" for method in service.method))


@pytest.mark.parametrize("source", SOURCES)
def test_every_message_field_rpc_and_enum_value_says_what_it_is(source: str) -> None:
    found = dict(declarations(source))
    assert sorted(found) == sorted(described(source)), "the reader of this test misses a declaration"
    assert [name for name, comment in found.items() if len(comment) < 5] == []


@pytest.mark.parametrize("source", SOURCES)
def test_every_enum_starts_with_a_zero_that_is_never_valid(source: str) -> None:
    for enum in checked_in(source).enum_type:
        assert (enum.value[0].number, enum.value[0].name.rpartition("_")[2]) == (0, "UNSPECIFIED")


def test_the_server_handles_every_rpc_as_it_is_declared() -> None:
    from heron_server.api.service import handlers

    served = handlers(cast(Any, None), most_rest_bytes=0)
    declared = {
        f"/heron.v1.{service.name}/{method.name}": (method.client_streaming, method.server_streaming)
        for source in SOURCES
        for service in checked_in(source).service
        for method in service.method
    }
    assert len(declared) == 7
    for path, streaming in declared.items():
        details = cast(Any, SimpleNamespace(method=path, invocation_metadata=()))
        (handler,) = [h for h in (each.service(details) for each in served) if h is not None]
        assert (bool(handler.request_streaming), bool(handler.response_streaming)) == streaming, path
