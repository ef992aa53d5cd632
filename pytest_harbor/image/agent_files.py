"""The agent files: what --harbor-agent-files names on the host, and what of it an agent's set-up sees."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor.errors import ImageError, UnmetRequirement
from pytest_harbor.image.context import ignore_patterns
from pytest_harbor.task import TaskError
from pytest_harbor.task.files import readable, walk

LEFT_OUT = frozenset({".git", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"})

# What may stand before a path that begins here: a space, a quote, =, a scheme, an option of one letter.
_BEGIN = r"(?:(?<=file://)|(?<=\s-[A-Za-z])|(?<![\w./~})\]*?-]))"
# The end of a path, a slash that ends it or leads to a pattern or a variable included.
_END = re.compile(r"(?:/+\.?)?(?![\w/-])(?!\.\w)")
# What a path has in common with all that a pattern or a variable in it may stand for.
_BEFORE_PATTERN = re.compile(r"[\w./-]*(?=[*?\[{$`\\])")


@dataclass(frozen=True)
class AgentFile:
    """One file, link or empty directory; directories that are not empty come with what is in them.

    Attributes:
        target: absolute path in the environment.
        path: path on the host.
        mode: permission bits with which every user of the environment can read it, None for a link.

    """

    target: str
    path: Path
    mode: int | None


def check_sources(files: Iterable[tuple[Path, str]]) -> None:
    """Look whether everything on the host is there.

    Raises:
        UnmetRequirement: something is not there, or is neither a file nor a directory.

    """
    for source, _ in files:
        if not (source.is_file() or source.is_dir()):
            what = "is neither a file nor a directory" if source.exists() else "does not exist"
            raise UnmetRequirement(f"--harbor-agent-files: {source} {what}", "give the path of a file or a directory")


def agent_files(source: Path, target: str) -> list[AgentFile]:
    """Return what is put into environments of a file or a directory, sorted; links stay links.

    Left out are LEFT_OUT, what a .dockerignore in the directory says, and what is neither file, directory nor link.

    Raises:
        UnmetRequirement: it cannot be read.

    """
    check_sources([(source, target)])
    # What the user names may be a link; those below it lead wherever they do in the environment.
    source = source.resolve()
    try:
        if source.is_file():
            return [AgentFile(target, source, readable(source.lstat().st_mode))]
        found = dict(_below(source))
    except (OSError, TaskError, ImageError) as error:
        raise UnmetRequirement(f"--harbor-agent-files: {error}") from error
    full = {parent for path in found for parent in path.parents}
    return [
        AgentFile(f"{target.rstrip('/')}/{path}", source / path, None if stat.S_ISLNK(mode) else readable(mode))
        for path, mode in sorted(found.items())
        if path not in full
    ]


def _below(source: Path) -> Iterator[tuple[PurePosixPath, int]]:
    def keep(path: PurePosixPath, mode: int) -> bool:
        # A socket or FIFO cannot be uploaded.
        kind = stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)
        return kind and LEFT_OUT.isdisjoint(path.parts)

    patterns = ignore_patterns(source, (".dockerignore",))
    if not patterns:
        yield from ((path, mode) for path, _, mode in walk(source, PurePosixPath(), keep))
        return
    from docker.utils.build import PatternMatcher

    # Patterns too, as only directories that these match are not entered.
    for name in PatternMatcher([*(f"**/{name}" for name in LEFT_OUT), *patterns]).walk(str(source)):
        mode = (source / name).lstat().st_mode
        if keep(PurePosixPath(name), mode):
            yield PurePosixPath(name), mode


def seen_by_setup(text: str, files: Iterable[tuple[Path, str]]) -> list[AgentFile]:
    """Return the agent files that a set-up sees: those whose path in the environment its text names.

    Raises:
        UnmetRequirement: they cannot be read.

    """
    found = []
    for source, target in files:
        if wanted := named(text, target):
            found += [file for file in agent_files(source, target) if wanted(file.target)]
    return found


def named(text: str, target: str) -> Callable[[str], bool] | None:
    """Find out which paths at or below another one a text names; None where it has none of them.

    `/agent` names all below it, `/agent/setup.cfg` and `/agent/set*` what they say, `/agents` none. A path with a
    variable or a pattern in it names all that this may stand for.
    """
    target = target.rstrip("/")
    tails: list[str] = []
    for match in re.finditer(_BEGIN + re.escape(target), text):
        tail = text[match.end() :]
        if _END.match(tail):
            return lambda path: True
        if tail.startswith("/"):
            tails.append(re.sub(r"/(?:\.?/)*", "", tail, count=1))
    return (lambda path: _is_named(tails, path[len(target) :].lstrip("/"))) if tails else None


def _is_named(tails: Sequence[str], path: str) -> bool:
    """Tell whether one of some texts begins with a path, or with a directory above it."""
    parts = path.split("/")
    names = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for tail in tails:
        if any(tail.startswith(name) and _END.match(tail[len(name) :]) for name in names):
            return True
        pattern = _BEFORE_PATTERN.match(tail)
        if pattern and path.startswith(pattern[0]):
            return True
    return False
