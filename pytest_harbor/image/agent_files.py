"""Agent files: the files that --harbor-agent-files names on the host, and those that an agent's setup can see."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor.errors import ImageError, UnmetRequirement
from pytest_harbor.image.context import ignore_matcher
from pytest_harbor.task import TaskError
from pytest_harbor.task.files import readable_mode, walk

EXCLUDED = frozenset({".git", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"})

# Allowed before the beginning of a path: a space, a quote, =, a URL scheme, a one-letter option.
_BEGIN = r"(?:(?<=file://)|(?<=\s-[A-Za-z])|(?<![\w./~})\]*?-]))"
# The end of a path, including a trailing slash or one before a pattern or a variable.
_END = re.compile(r"(?:/+\.?)?(?![\w/-])(?!\.\w)")
# The part of a path before a pattern or a variable: every path that it can expand to begins with this.
_BEFORE_PATTERN = re.compile(r"[\w./-]*(?=[*?\[{$`\\])")


@dataclass(frozen=True)
class AgentFile:
    """One file, symbolic link or empty directory; other directories exist through their contents.

    Attributes:
        target: absolute path in the environment.
        path: path on the host.
        mode: permission bits, readable by every user of the environment; None for a link.

    """

    target: str
    path: Path
    mode: int | None


def check_sources(files: Iterable[tuple[Path, str]]) -> None:
    """Check that every source exists on the host.

    Raises:
        UnmetRequirement: a source does not exist, or is neither a file nor a directory.

    """
    for source, _ in files:
        if not (source.is_file() or source.is_dir()):
            problem = "is neither a file nor a directory" if source.exists() else "does not exist"
            raise UnmetRequirement(
                f"--harbor-agent-files: {source} {problem}", "give the path of a file or a directory"
            )


def agent_files(source: Path, target: str) -> list[AgentFile]:
    """Return the files to upload for a file or a directory, sorted by path; links stay links.

    Excluded are the names in EXCLUDED, the patterns of a .dockerignore in the directory, and anything that is not a
    file, a directory or a link.

    Raises:
        UnmetRequirement: the source cannot be read.

    """
    check_sources([(source, target)])
    # The source itself may be a link. Links below it are not resolved: they are resolved in the environment.
    source = source.resolve()
    try:
        if source.is_file():
            return [AgentFile(target, source, readable_mode(source.lstat().st_mode))]
        found = dict(_below(source))
    except (OSError, TaskError, ImageError) as error:
        raise UnmetRequirement(f"--harbor-agent-files: {error}") from error
    full = {parent for path in found for parent in path.parents}
    return [
        AgentFile(f"{target.rstrip('/')}/{path}", source / path, None if stat.S_ISLNK(mode) else readable_mode(mode))
        for path, mode in sorted(found.items())
        if path not in full
    ]


def _below(source: Path) -> Iterator[tuple[PurePosixPath, int]]:
    def keep(path: PurePosixPath, mode: int) -> bool:
        # Sockets and FIFOs cannot be uploaded.
        uploadable = stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)
        return uploadable and EXCLUDED.isdisjoint(path.parts)

    if not (source / ".dockerignore").is_file():
        yield from ((path, mode) for path, _, mode in walk(source, PurePosixPath(), keep))
        return
    # EXCLUDED as patterns too: the walk skips only the directories that a pattern matches.
    matcher = ignore_matcher(source, (".dockerignore",), always=[f"**/{name}" for name in EXCLUDED])
    for name in matcher.walk(source):
        mode = (source / name).lstat().st_mode
        if keep(PurePosixPath(name), mode):
            yield PurePosixPath(name), mode


def files_for_setup(text: str, files: Iterable[tuple[Path, str]]) -> list[AgentFile]:
    """Return the agent files that a setup can see: those whose path in the environment its text names.

    Raises:
        UnmetRequirement: the agent files cannot be read.

    """
    found = []
    for source, target in files:
        if is_named := _named_paths(text, target):
            found += [file for file in agent_files(source, target) if is_named(file.target)]
    return found


def _named_paths(text: str, target: str) -> Callable[[str], bool] | None:
    """Return a predicate that matches the paths at or below `target` that a text names; None if it names none.

    `/agent` names everything below it, `/agent/setup.cfg` and `/agent/set*` what they match, and `/agents` nothing. A
    path with a variable or a pattern in it names everything that it could expand to.
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
    """Return True if one of the tails begins with the path, or with one of its parent directories."""
    parts = path.split("/")
    names = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for tail in tails:
        if any(tail.startswith(name) and _END.match(tail[len(name) :]) for name in names):
            return True
        pattern = _BEFORE_PATTERN.match(tail)
        if pattern and path.startswith(pattern[0]):
            return True
    return False
