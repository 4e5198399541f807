"""How a doctor's list is run: what depends on what, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata

import pytest

from heron_core.doctor.examination import Check, Examination, Finding, ok, warning
from heron_core.doctor.versions import versions
from heron_core.errors import ConfigError, DataError, HeronError, Unreachable


def finds(*findings: Finding, error: HeronError | None = None) -> Callable[[], Iterator[Finding]]:
    def look() -> Iterator[Finding]:
        yield from findings
        if error is not None:
            raise error

    return look


def test_each_check_has_its_lines_and_what_needs_a_failed_one_is_not_tried() -> None:
    lines: list[str] = []
    examination = Examination(lines.append)
    examination.run([
        Check("port", finds(ok("open"), error=Unreachable("gone;\n start\x1b it"))),
        Check("server", finds(ok("never seen")), ("port",)),
        Check("model", finds(ok("never seen")), ("server",)),
        Check("data", finds(warning("few"), error=DataError("none; copy some"))),
        Check("disk", finds(ok("room"))),
    ])  # fmt: skip
    examination.conclude()
    assert [" ".join(line.split()) for line in lines] == [
        "ok port open", "failed port gone; start? it", "not tried server needs port", "not tried model needs server",
        "warning data few", "failed data none; copy some", "ok disk room", "2 ok, 1 warning, 2 failed, 2 not tried",
    ]  # fmt: skip
    assert examination.exit_code == 3, "that of the first that failed"


def test_a_warning_is_no_failure() -> None:
    examination = Examination(lambda line: None)
    examination.run([Check("key", finds(warning("chmod 600")))])
    assert examination.exit_code == 0


@pytest.mark.parametrize("installed", ["1.76.0", None])
def test_a_library_that_is_too_old_or_missing_is_named_with_the_command(
    installed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if installed is None:
            raise metadata.PackageNotFoundError(name)
        return installed

    wanted = ["grpcio>=1.80; extra == 'server'", "pytest>=999; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ConfigError, match=r"^grpcio .* this Heron needs grpcio>=1\.80: .* install 'grpcio>=1\.80'$"):
        list(versions(("grpcio",)))
    installed = "1.100.0+cpu"
    assert [finding.text for finding in versions(("grpcio", "pytest"))][1] == "grpcio 1.100.0+cpu, pytest 1.100.0+cpu"
