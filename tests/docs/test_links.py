"""Links between the documents, and from them to files of this repository, lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import REPOSITORY
from markdown_it import MarkdownIt

DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *REPOSITORY.glob("docs/*.md"),
    REPOSITORY / "examples" / "README.md",
    REPOSITORY / "benchmarks" / "README.md",
]
HOME = "https://github.com/pytest-harbor/pytest-harbor"


def links(page: Path) -> list[str]:
    inline = [token for token in MarkdownIt().parse(page.read_text(encoding="utf-8")) if token.type == "inline"]
    parts = [part for token in inline for part in token.children or []]
    return [str(part.attrs[name]) for part in parts for name in ("href", "src") if name in part.attrs]


def anchors(page: Path) -> set[str]:
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links(page):
    dead = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if in_repository := re.match(rf"{re.escape(HOME)}/(?:blob|tree)/main/(.*)", target):
            path = REPOSITORY / in_repository[1]
        elif re.match(r"[a-z]+:", target):
            continue
        else:
            path = page.parent / target if target else page
            # The site holds docs/ alone.
            if page.parent.name == "docs" and page.parent not in path.resolve().parents:
                dead.append(f"{link}: outside docs/; use {HOME}/blob/main/...")
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            dead.append(link)
    assert dead == []


def test_addresses_are_of_one_home():
    """pyproject.toml, the site and the documents name the same repository."""
    for name in ("pyproject.toml", "zensical.toml"):
        addresses = re.findall(r"https://github\.com/[\w-]+/[\w-]+", (REPOSITORY / name).read_text(encoding="utf-8"))
        assert set(addresses) == {HOME}


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_named_files_exist(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:pytest_harbor|tests|scripts)/[\w./]*)`", text)
    assert len(named) > 5
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
