"""README.md and docs/ do what they say: every block runs, on the examples and without a container engine."""

from __future__ import annotations

import contextlib

import pytest
from documents import PAGES, Problem, Section, run, sections

from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.errors import EngineUnavailable

SECTIONS = [section for page in PAGES for section in sections(page) if section.runs and "engine" not in section.needs]


@pytest.fixture(scope="session")
def no_engine(tmp_path_factory):
    """The option that does without an engine, with a cache of its own; skips if this machine cannot."""
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(NamespaceProvider()) as provider:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        try:
            provider.describe()
        except EngineUnavailable as error:
            pytest.skip(str(error))
        yield "--harbor-environment=namespace"


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_section(section: Section, no_engine, tmp_path):
    for module in section.needs:
        pytest.importorskip(module)
    run(section, tmp_path, no_engine)


def read(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return sections(page)


def test_block_without_language(tmp_path, monkeypatch):
    monkeypatch.setattr("documents.REPOSITORY", tmp_path)
    with pytest.raises(Problem, match=r"page\.md:1: the block has no language"):
        read(tmp_path, "```\nls\n```\n")


def test_indented_block(tmp_path):
    with pytest.raises(Problem, match=r"page\.md:3: indented code"):
        read(tmp_path, "Text.\n\n    ls\n")


def test_reason_is_required(tmp_path, monkeypatch):
    monkeypatch.setattr("documents.REPOSITORY", tmp_path)
    with pytest.raises(Problem, match="say why"):
        read(tmp_path, "<!-- not run: -->\n```sh\nls\n```\n")


def test_comment_without_block(tmp_path):
    with pytest.raises(Problem, match=r"page\.md:1: no block follows"):
        read(tmp_path, "<!-- exits with 1 -->\n\nText.\n")


def test_unknown_language(tmp_path, monkeypatch):
    monkeypatch.setattr("documents.REPOSITORY", tmp_path)
    (tmp_path / "examples").mkdir()
    (section,) = read(tmp_path, "```cobol\nSTOP RUN.\n```\n")
    with pytest.raises(Problem, match="nothing is known about blocks in cobol"):
        run(section, tmp_path / "run")


@pytest.mark.parametrize("status,code", [(0, "exit 3"), (3, "true")])
def test_exit_status_is_checked(status, code, tmp_path, monkeypatch):
    monkeypatch.setattr("documents.REPOSITORY", tmp_path)
    (tmp_path / "examples").mkdir()
    (section,) = read(tmp_path, f"<!-- exits with {status} -->\n```sh\n{code}\n```\n")
    with pytest.raises(Problem, match=f"instead of {status}"):
        run(section, tmp_path / "run")


@pytest.mark.parametrize(
    "line,fits", [("7 trials  in 1.2 s: …", True), ("7 trials, …", False), ("… failed", True)], ids=str
)
def test_printed_lines_are_checked(line, fits, tmp_path, monkeypatch):
    monkeypatch.setattr("documents.REPOSITORY", tmp_path)
    (tmp_path / "examples").mkdir()
    text = f"```sh\necho 23 trials in 3 s: 2 failed\n```\n\n<!-- printed -->\n```text\n{line}\n```\n"
    (section,) = read(tmp_path, text)
    if fits:
        run(section, tmp_path / "run")
        return
    with pytest.raises(Problem, match="did not print '7 trials, …'"):
        run(section, tmp_path / "run")
