"""Blocks of the documentation that need a Docker Engine; tests/docs runs the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import PAGES, Section, run, sections

SECTIONS = [section for page in PAGES for section in sections(page) if section.runs and "engine" in section.needs]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_section(section: Section, tmp_path: Path) -> None:
    run(section, tmp_path)
