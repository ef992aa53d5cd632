"""The value of --harbor-dataset: a path, or advice on how to get what it names instead.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import pytest

_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:|(www\.)?(github|gitlab|huggingface)\.(com|co)/", re.IGNORECASE
)
_REPOSITORY = re.compile(r"(https?|ssh|git|git\+\w+|hf|file)://", re.IGNORECASE)
_REGISTRY_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w.-]+)?")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst")


def check_dataset(text: str, path: Path, base: Path, source: str) -> None:
    """Refuse a dataset that does not exist, with advice on how to get it.

    Args:
        text: the value, as it was given.
        path: the path it stands for.
        base: what a relative path is relative to.
        source: the flag or ini key, for the message.

    Raises:
        pytest.UsageError: there is nothing at the path, or the value is not a path.

    """
    if os.path.lexists(path):
        if path.is_file() and path.name.lower().endswith(_ARCHIVES):
            raise pytest.UsageError(f"{source}: {text!r} is an archive; unpack it, and give the directory")
        return
    if _URL.match(text):
        raise pytest.UsageError(f"{source}: {text!r} is a URL, and datasets are local directories; {_download(text)}")
    where, guess = _nearest(path, text, base)
    raise pytest.UsageError(
        f"{source}: {text!r} does not exist{where}{guess}; give a task, a dataset or a directory of datasets"
        f"{'' if guess else _registry_advice(text)}"
    )


def _download(url: str) -> str:
    """Return how to get a dataset from a URL."""
    if url.lower().endswith(_ARCHIVES):
        return "download and unpack it, and give the directory"
    if "://" in url and not _REPOSITORY.match(url):
        return "download it, and give the directory"
    if url.startswith("hf://"):
        url = f"https://huggingface.co/{url.removeprefix('hf://')}"
    elif "://" not in url and "@" not in url:
        url = f"https://{url}"
    # A page of a repository: https://github.com/OWNER/NAME/tree/BRANCH/DIRECTORY
    repository, _, page = url.rstrip("/").partition("/tree/")
    directory = repository.rpartition("/")[2].removesuffix(".git")
    below = page.partition("/")[2]
    clone = f"git clone {repository.removesuffix('/-')}"
    return f"get it with `{clone}`, and give {directory}{f'/{below}' if below else ''}"


def _registry_advice(text: str) -> str:
    if not _REGISTRY_NAME.fullmatch(text) or text.endswith(".toml"):
        return ""
    name = text.partition("@")[0].rpartition("/")[2]
    return (
        f". If it is in Harbor's registry, `harbor dataset download {text} --output-dir datasets` gets it, "
        f"for --harbor-dataset=datasets/{name}"
    )


def _nearest(path: Path, text: str, base: Path) -> tuple[str, str]:
    """Return where it was looked for, and a similar name next to it."""
    where = "" if Path(text).is_absolute() else f" in {base}"
    wanted = path
    # A missing directory above it is the mistake, if there is one.
    while not path.parent.is_dir():
        path = path.parent
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, sorted(names), n=1)
    if not near:
        return where, ""
    found = path.parent / near[0]
    rest = wanted.relative_to(path)
    found = found / rest if (found / rest).is_dir() else found
    return where, f" (did you mean {str(found.relative_to(base) if found.is_relative_to(base) else found)!r}?)"
