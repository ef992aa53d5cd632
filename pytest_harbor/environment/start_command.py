"""Start commands of containers: which ENTRYPOINTs start services, and what keeps their containers running."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath

from pytest_harbor.image.adaptation import KEEP_ALIVE

_SHELL = re.compile(r"(?:ba|da|a|z|k|mk|fi)?sh[\d.-]*")
_PYTHON = re.compile(r"i?python[\d.]*|pypy[\d.]*")
# Others that would take the keep-alive command for a script.
_INTERPRETER = re.compile(r"(?:node|nodejs|deno|bun|ruby|irb|perl|php|lua|julia|R|Rscript|jshell)[\d.-]*")
# Options that take the next word as their value.
_VALUED = re.compile(r"[-+][oO]|-[XW]|--rcfile|--init-file")
_COMMAND_OPTION = re.compile(r"-[a-z]*c")

# Programs that only keep a container running, and would take the keep-alive command for arguments of theirs.
_KEEPERS = {"sleep", "tail", "cat", "true"}

# Programs that run the rest of their arguments, and those of their options that take the next word as a value.
_WRAPPERS = {
    "env": ("-u", "-C", "--unset", "--chdir"),
    "tini": ("-p", "-e"),
    "tini-static": ("-p", "-e"),
    "docker-init": ("-p", "-e"),
    "dumb-init": ("-r", "--rewrite"),
    "catatonit": (),
    "nice": ("-n",),
    "stdbuf": ("-i", "-o", "-e"),
    "setsid": (),
    "busybox": (),
    "sudo": ("-u", "-g"),
    "exec": (),
}
# The same, with a first argument of their own.
_WRAPPERS_WITH_USER = {"gosu", "su-exec", "chpst"}


def starts_service(entrypoint: Sequence[str]) -> bool:
    """Return True if an ENTRYPOINT, without wrappers, is more than a shell or interpreter that waits for input."""
    words = _unwrapped(entrypoint)
    is_empty = not words or not words[0]
    return not is_empty and not _waits_for_input(words) and PurePosixPath(words[0]).name not in _KEEPERS


def keep_alive_arguments(entrypoint: Sequence[str]) -> list[str]:
    """Return the arguments with which an ENTRYPOINT keeps a container running: the keep-alive command.

    If the ENTRYPOINT ends with a shell or Python, such as `["/entrypoint.sh", "bash"]`, that gets it as its script.
    """
    last = PurePosixPath(entrypoint[-1]).name if entrypoint else ""
    line = f"exec {shlex.join(KEEP_ALIVE)}"
    if len(entrypoint) > 1 and _SHELL.fullmatch(last):
        return ["-c", line]
    if len(entrypoint) > 1 and _PYTHON.fullmatch(last):
        return ["-c", f"import os; os.execvp({KEEP_ALIVE[0]!r}, {list(KEEP_ALIVE)!r})"]
    return list(KEEP_ALIVE)


def _unwrapped(entrypoint: Sequence[str]) -> list[str]:
    """Return the command that wrappers such as env and tini run."""
    words = list(entrypoint)
    while words:
        name = PurePosixPath(words[0]).name
        if name in _WRAPPERS_WITH_USER:
            words = words[2:]
        elif name in _WRAPPERS:
            words = _after_options(words[1:], _WRAPPERS[name])
        elif _SHELL.fullmatch(name) and len(words) == 3 and _COMMAND_OPTION.fullmatch(words[1]):
            # The shell form, ENTRYPOINT bash.
            inner = _split(words[2])
            if not inner or starts_service(inner):
                return words
            words = inner
        else:
            return words
    return words


def _after_options(words: list[str], valued: Sequence[str]) -> list[str]:
    """Return what follows a wrapper's options and env's assignments."""
    while words:
        if words[0] == "--":
            return words[1:]
        if words[0] in ("-S", "--split-string"):
            return [*_split(words[1] if len(words) > 1 else ""), *words[2:]]
        if words[0] in valued:
            words = words[2:]
        elif words[0].startswith("-") or re.match(r"\w+=", words[0]):
            words = words[1:]
        else:
            return words
    return words


def _waits_for_input(words: Sequence[str]) -> bool:
    """Return True if words are an interpreter with nothing but options."""
    name = PurePosixPath(words[0]).name if words else ""
    if not any(kind.fullmatch(name) for kind in (_SHELL, _PYTHON, _INTERPRETER)):
        return False
    rest = list(words[1:])
    while rest:
        if not rest[0].startswith(("-", "+")):
            return False
        rest = rest[2:] if _VALUED.fullmatch(rest[0]) else rest[1:]
    return True


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []
