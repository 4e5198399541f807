"""docker-compose.yml as a user runs it: one server, three clients, real images, a private network."""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from os import environ
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN_DIR = "/var/lib/heron/run"
BUILD_AND_RUN_S = 1500
pytestmark = [pytest.mark.docker, pytest.mark.timeout(BUILD_AND_RUN_S + 300)]


@dataclass(frozen=True)
class Project:
    """A compose project with a name of its own."""

    name: str
    folder: Path

    def compose(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[bytes]:
        command = ["docker", "compose", "--ansi", "never", "-p", self.name, *arguments]
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        return subprocess.run(command, cwd=self.folder, stdout=pipe, stderr=both, timeout=timeout_s, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    reason = why_no_engine()
    if reason:
        pytest.skip(reason)
    context = tmp_path / "context"
    not_sources = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "runs", "*.egg-info", "__pycache__"
    )
    shutil.copytree(ROOT, context, ignore=not_sources)
    for wheel in torch_wheels():
        shutil.copy(wheel, context / "deploy" / "wheelhouse")
    project = Project(f"heron-test-{uuid.uuid4().hex[:8]}", context)
    try:
        yield project
    finally:
        project.compose("down", "-v", "--timeout", "2", "--remove-orphans")
        shutil.rmtree(context)  # the wheel is too big to keep with pytest's last three temporary folders


def why_no_engine() -> str:
    """Empty where `docker compose` reaches an engine."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            return "no container engine: docker is not installed"
        except subprocess.TimeoutExpired:
            return f"no container engine: {' '.join(command)} does not answer"
        if done.returncode:
            return f"no container engine: {' '.join(command)}: {done.stderr.strip()[-300:]}"
    return ""


def torch_wheels() -> list[Path]:
    """torch's CPU wheel for the images' Python, from $HERON_WHEELHOUSE or pip's find-links folders."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    folders = " ".join(re.findall(r"find-links='([^']*)'", listing.stdout)).replace("\\n", " ").split()
    for folder in filter(None, [environ.get("HERON_WHEELHOUSE"), *folders]):
        wheels = sorted(Path(folder).glob(f"torch-*+cpu-cp311-*{platform.machine()}.whl"))
        if wheels:
            return wheels
    return []


def test_compose_trains_on_digits_and_no_process_is_root(project: Project) -> None:
    up = project.compose("up", "--build", "--no-color", "--exit-code-from", "server", timeout_s=BUILD_AND_RUN_S)
    output = up.stdout.decode(errors="replace")
    assert up.returncode == 0, output[-8000:]
    summary, owner = read_from_server(project, f"{RUN_DIR}/summary.json")
    facts = json.loads(summary)
    assert facts["accuracy"] >= 0.8  # clients that never train reach 0.75 here
    assert facts["auxiliary_accuracy"] >= 0.5, "the clients did not learn"
    assert facts["rounds_done"] == facts["rounds"]
    assert owner == 10001

    printed = project.compose("logs", "--no-color", "--no-log-prefix", "server").stdout.decode()
    last_round, _, final_table = printed.partition(f"round {facts['rounds']}/{facts['rounds']} ")[2].partition("\n")
    assert "accuracy" in last_round, printed
    assert "accuracy" in final_table.lower(), printed

    for service, program in (("server", "heron-server"), ("client-a", "heron-client")):
        user = project.compose("run", "--rm", "--no-deps", "--entrypoint", "id", service, "-u")
        assert user.stdout.split()[-1] == b"10001", f"{program} runs as {user.stdout!r}"


def test_two_clients_without_torch_beside_one_with_it_train_to_the_end(project: Project) -> None:
    files = ("-f", "docker-compose.yml", "-f", "deploy/mixed-clients.yml")
    up = project.compose(
        *files, "up", "--build", "--no-color", "--exit-code-from", "server", timeout_s=BUILD_AND_RUN_S
    )
    output = up.stdout.decode(errors="replace")
    assert up.returncode == 0, output[-8000:]
    summary, _ = read_from_server(project, f"{RUN_DIR}/summary.json")
    facts = json.loads(summary)
    assert sorted(own["backend"] for own in facts["per_client"].values()) == ["cpu", "onnx", "onnx"]
    assert facts["accuracy"] >= 0.8 and facts["rounds_done"] == facts["rounds"]
    assert [record["dropped"] for record in facts["history"]] == [0] * facts["rounds"]
    missing = project.compose(
        *files, "run", "--rm", "--no-deps", "--entrypoint", "python", "client-b", "-c", "import torch"
    )
    assert missing.returncode == 1 and b"No module named 'torch'" in missing.stdout


def read_from_server(project: Project, path: str) -> tuple[bytes, int]:
    """A file of the stopped server container and the uid that wrote it."""
    command = ["docker", "compose", "-p", project.name, "cp", f"server:{path}", "-"]
    copied = subprocess.run(command, cwd=project.folder, capture_output=True, timeout=60, check=True)
    with tarfile.open(fileobj=io.BytesIO(copied.stdout)) as archive:
        member = archive.next()
        assert member is not None
        handle = archive.extractfile(member)
        assert handle is not None
        return handle.read(), member.uid
