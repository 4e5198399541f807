"""What the pages about security name is there, and each promise is tested."""

from __future__ import annotations

import re

import pytest
from tree import ROOT

SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PAGES = ("SECURITY.md", "docs/threats.md", "docs/trust.md", "docs/hostile.md", "docs/checkpoints.md")
OURS = re.compile(r"`((?:tests|benchmarks|heron_\w+|docs)/[\w./]*)`")
LINK = re.compile(r"\]\((?!http)([^)#]+)")
PROMISES = [
    line for line in SECURITY.partition("| promise |")[2].partition("\n## ")[0].splitlines()[2:] if line.startswith("|")
]


def test_each_promise_names_a_test() -> None:
    assert len(PROMISES) > 15
    assert [line for line in PROMISES if not re.search(r"\| .*`tests/[\w/]+\.py`.*\|$", line)] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    named = [ROOT / name for name in OURS.findall(text)] + [path.parent / name for name in LINK.findall(text)]
    assert [str(file) for file in named if not file.exists()] == []


def test_the_threats_are_one_page() -> None:
    assert len((ROOT / "docs" / "threats.md").read_text(encoding="utf-8").splitlines()) <= 100
