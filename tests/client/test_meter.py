from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from heron_client import meter

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_resident_proportional_and_peak_bytes_are_plausible() -> None:
    resident = meter.resident_bytes()
    assert 10 << 20 < resident < 1 << 40
    assert 0 < meter.proportional_bytes() <= resident * 1.5
    assert meter.peak_bytes() >= resident * 0.9


@linux
def test_the_peak_is_counted_from_the_meter_s_making_and_outlives_what_made_it() -> None:
    if not meter.reset_peak():
        pytest.skip("this kernel does not allow resetting the peak")
    before = np.ones(96 << 20, dtype=np.uint8)
    del before
    peak = meter.PeakMeter()
    assert peak.above_loaded() < 32 << 20
    piece = np.ones(64 << 20, dtype=np.uint8)
    del piece
    assert 32 << 20 < peak.above_loaded() < 96 << 20  # the kernel may take other pages away meanwhile


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
