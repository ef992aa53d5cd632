"""Links to the files of a trial, relative to the page, so that a run's directory can be moved with its page."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import quote

from pytest_harbor.report.html.markup import Markup, tag
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

# Only text: an agent may have written these files, and a browser must not run anything in them.
NAMES = (
    AGENT_LOG,
    "host/transcript.jsonl",
    TEST_LOG,
    "verifier/reward.txt",
    "verifier/reward.json",
    "verifier/ctrf.json",
    "proxy/calls.jsonl",
    "exception.txt",
    "trial.json",
)


def links(result: TrialResult, base: Path | None) -> list[Markup]:
    """Return a link to each file that is there, and one to the trial's directory.

    Args:
        result: the trial.
        base: the directory of the page; None for no links.

    """
    directory = Path(result.directory)
    if base is None or not result.directory or not directory.is_dir():
        return []
    found = [tag("a", name, href=_href(directory / name, base)) for name in NAMES if _is_regular(directory, name)]
    return [*found, tag("a", "all files", href=f"{_href(directory, base)}/")]


def _is_regular(directory: Path, name: str) -> bool:
    """Whether a file is a regular one that no link of an agent leads to."""
    path = directory / name
    try:
        return stat.S_ISREG(path.lstat().st_mode) and (path.parent == directory or not path.parent.is_symlink())
    except OSError:
        return False


def _href(path: Path, base: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, base)))
