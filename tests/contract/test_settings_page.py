"""docs/settings.md says what the code does, and every setting can be read about."""

from __future__ import annotations

import runpy
from itertools import groupby
from pathlib import Path

import pytest
from settings_page import Setting, render, settings

from heron_client.config import ClientSettings
from heron_simulator.settings import SimulationFile

DOCS = Path(__file__).parents[2] / "docs"
ALL = [*settings(SimulationFile), *settings(ClientSettings)]


def test_checked_in_page_is_current() -> None:
    page = runpy.run_path(str(DOCS / "make_settings.py"))["page"]()
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == page, "run: python docs/make_settings.py"


def test_only_names_have_no_default() -> None:
    assert [s.key for s in settings(SimulationFile) if s.field.is_required()] == ["name"]
    assert [s.table for s in settings(SimulationFile) if s.field.is_required()] == ["[data.table.columns]"]
    assert [s.key for s in settings(ClientSettings) if s.field.is_required()] == ["name"]


@pytest.mark.parametrize("setting", ALL, ids=lambda s: f"{s.table}.{s.key}")
def test_setting_has_one_line_of_documentation(setting: Setting) -> None:
    assert setting.documentation.strip(), "write a docstring under the field"
    assert "\n" not in setting.documentation
    assert len(setting.documentation) <= 360


def test_page_names_types_limits_and_defaults_as_the_file_has_them() -> None:
    page = render(SimulationFile, "Run")
    assert "### `[method.zo]`" in page
    assert "| `num_directions` | integer ≥ 1 | `1` | q: random directions per local step." in page
    assert '| `difference` | `"forward"` or `"central"` | `"forward"` |' in page
    assert "| `quorum` | number > 0 and ≤ 1 | `0.5` |" in page
    assert "| `run_dir` | path | (empty) |" in page
    assert "| `input_shape` | list of integer ≥ 1 | `[]` |" in page


def test_a_tables_own_keys_come_before_its_sub_tables() -> None:
    assert [table for table, _ in groupby(s.table for s in settings(SimulationFile))] == [
        "", "model", "model.language", "data", "data.sensor", "data.table", "[data.table.columns]", "data.text",
        "method", "method.zo", "method.alignment", "method.optimizer",
        "server_optimizer", "averaged_back", "guard", "codec", "federation", "federation.server_average",
            "threads", "server", "simulate", "simulate.network",
    ]  # fmt: skip
