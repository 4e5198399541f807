from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heron_client.compute import meter

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MEASURE = """
import numpy as np
from heron_client.compute import meter
if not meter.reset_peak():
    raise SystemExit("skip")
before = np.ones(96 << 20, dtype=np.uint8)
del before
peak = meter.PeakMeter()
idle = peak.above_loaded()
piece = np.ones(64 << 20, dtype=np.uint8)
del piece
print(idle, peak.above_loaded())
"""


@linux
def test_resident_proportional_and_peak_bytes_are_plausible() -> None:
    resident = meter.resident_bytes()
    assert 10 << 20 < resident < 1 << 40
    assert 0 < meter.proportional_bytes() <= resident * 1.5
    assert meter.peak_bytes() >= resident * 0.9


def test_the_proportional_size_is_asked_of_the_kernel_every_few_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [100.0], iter([1, 2])
    monkeypatch.setattr(meter, "proportional_bytes", lambda: next(asked))
    pss = meter.Proportional(lambda: now[0])
    assert [pss(), pss()] == [1, 1]
    now[0] += meter.PROPORTIONAL_EVERY_S
    assert pss() == 1
    now[0] += 0.1
    assert pss() == 2


@linux
def test_the_peak_is_counted_from_the_meter_s_making_and_outlives_what_made_it() -> None:
    # A small process of its own: of a large one the kernel may take away more file pages meanwhile than this counts.
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    if done.stderr.strip() == "skip":
        pytest.skip("this kernel does not allow resetting the peak")
    idle, peak = map(int, done.stdout.split())
    assert idle < 32 << 20
    assert 32 << 20 < peak < 96 << 20


def test_a_system_that_does_not_say_gives_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(meter, "Path", lambda _: tmp_path / "nowhere" / "status")
    assert meter.resident_bytes() == meter.peak_bytes() == meter.proportional_bytes() == 0
    assert not meter.reset_peak()
    assert meter.PeakMeter().above_loaded() == 0


@pytest.mark.parametrize("text", ["VmRSS: not-a-number kB\n", "VmRSS:\n", "Other: 1 kB\n", ""])
def test_a_garbled_status_gives_0(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(text)
    monkeypatch.setattr(meter, "Path", lambda _: status)
    assert meter.resident_bytes() == 0
