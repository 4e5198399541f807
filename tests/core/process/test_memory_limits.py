"""How much memory and how many files this process may have: the control group's word counts, not the host's."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from heron_core.process import memory
from heron_core.process.memory import free_memory, total_memory, whose_memory
from heron_core.process.open_files import raise_limit

MIB = 1 << 20
UNLIMITED_V1 = 9223372036854771712


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 GiB, half of them free."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "_machine", lambda: 16 << 30)


CONTAINER_V1 = "12:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/docker/ab\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "total", "free"),
    [
        ("0::/\n", {"memory.max": 512 * MIB, "memory.current": 100 * MIB, "memory.stat": ""}, 512, 412),
        ("0::/\n", {"memory.max": 512 * MIB, "memory.current": 400 * MIB,
                    "memory.stat": f"anon 1\ninactive_file {300 * MIB}"}, 512, 412),
        ("0::/\n", {"memory.max": 512 * MIB, "memory.current": 600 * MIB}, 512, 0),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/b/memory.current": 5 * MIB, "a/memory.max": 256 * MIB,
                       "a/memory.current": 56 * MIB, "memory.max": "max"}, 256, 200),
        ("0::/a/b\n", {"a/b/memory.max": 64 * MIB, "a/b/memory.current": 4 * MIB, "a/memory.max": 256 * MIB,
                       "a/memory.current": 250 * MIB}, 64, 6),
        ("0::/../other\n", {"memory.max": 32 * MIB, "memory.current": 0}, 32, 32),
        (CONTAINER_V1, {"memory/memory.limit_in_bytes": 512 * MIB, "memory/memory.usage_in_bytes": 112 * MIB,
                        "memory/memory.stat": f"total_inactive_file {12 * MIB}"}, 512, 412),
        (CONTAINER_V1, {"memory/docker/ab/memory.limit_in_bytes": UNLIMITED_V1,
                        "memory/docker/memory.limit_in_bytes": 128 * MIB,
                        "memory/docker/memory.usage_in_bytes": 28 * MIB,
                        "memory/memory.limit_in_bytes": UNLIMITED_V1}, 128, 100),
        (CONTAINER_V1, {"memory/memory.limit_in_bytes": UNLIMITED_V1, "memory/memory.usage_in_bytes": 9}, None, None),
        ("0::/\n", {"memory.max": "max", "memory.current": 9 * MIB}, None, None),
        ("0::/\n", {"memory.max": "nonsense"}, None, None),
        ("garbage\n", {}, None, None),
    ],
    ids=[
        "v2", "v2, cache that can be given back", "v2, over it", "v2, of a parent", "v2, its parent full",
        "v2, of another name space", "v1 container", "v1, of a parent", "v1, none", "v2, none", "torn", "no lines",
    ],
)  # fmt: skip
def test_the_least_limit_of_the_groups_around_a_process_is_its_memory(
    tmp_path: Path, own: str, files: dict[str, object], total: int | None, free: int | None
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert total_memory() == (16 << 30 if total is None else total * MIB)
    assert free_memory() == (8 << 30 if free is None else free * MIB)
    assert whose_memory() == ("this machine" if total is None else "this container")


def test_without_control_groups_the_machine_s_memory_counts() -> None:
    assert (total_memory(), free_memory(), whose_memory()) == (16 << 30, 8 << 30, "this machine")


@pytest.mark.parametrize("hard", [4096, resource.RLIM_INFINITY])
def test_a_command_may_open_as_many_files_as_the_system_lets_it(monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    """Some systems name no limit and set no more than a number of their own."""
    held = [256, hard]

    def set_limit(_: int, limits: tuple[int, int]) -> None:
        if not 0 <= limits[0] <= 65536:
            raise ValueError
        held[:] = limits

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(held))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    raise_limit()
    assert held == ([4096, 4096] if hard == 4096 else [65536, resource.RLIM_INFINITY])
    raise_limit()
    assert held[0] in (4096, 65536)


def test_a_billion_open_files_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some container engines allow them: programs that close what they inherit would count through them all."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1 << 30))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    raise_limit()
    assert asked == [(1 << 20, 1 << 30)]
