"""The reward of a verifier, read from the files that `environment.tar.unpack` wrote on the host.

The rule, from Harbor, HUD's converter and verifiers' HarborEnv, which differ only in what they read first:
reward.txt is one finite number; reward.json is an object with the number under "reward", or a bare number.
Nothing is guessed: a file that is there, comes first and is invalid leaves the trial without a reward.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shlex
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_harbor._util.sizes import size_text
from pytest_harbor._util.text import escaped, listed, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TXT = "reward.txt"
_JSON = "reward.json"
_FILE_BYTES = 2**20
_LISTED = 10
_SHOWN_CHARACTERS = 60
# Metric names become columns and keys of reports.
_METRIC_CHARACTERS = 200
# A verifier often writes the two files with different precision.
_RELATIVE_TOLERANCE = 1e-6
_ABSOLUTE_TOLERANCE = 1e-9
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Reward:
    """The reward in the files of one verifier.

    Attributes:
        value: a finite number, or None if there is no usable one.
        metrics: the other finite numbers of reward.json.
        problem: why `value` is None, in one sentence with file, fact and fix.
        warnings: oddities that do not prevent a value.
        source: the file that the value is from, "reward.txt" or "reward.json".
    """

    value: float | None
    metrics: dict[str, float]
    problem: str | None
    warnings: tuple[str, ...]
    source: str | None


@dataclass
class _File:
    """One of the two files: absent, with a value, or with a problem."""

    name: str
    present: bool = True
    value: float | None = None
    problem: str | None = None
    # A reward.json with nothing but metrics is common next to a reward.txt, and deserves no warning.
    only_metrics: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_reward(
    verifier_dir: Path,
    *,
    precedence: Literal["txt", "json"] = "txt",
    key: str | None = None,
    skipped: Sequence[str] = (),
) -> Reward:
    """Read reward.txt and reward.json of one verifier.

    Args:
        verifier_dir: the directory of the files; need not exist.
        precedence: which file counts if both exist. The other is used only if the preferred one is absent: an invalid
            preferred file is a problem, whatever the other contains.
        key: the key of reward.json to use instead of "reward" (--harbor-reward-key). With a key, reward.json takes
            precedence, and a different reward.txt deserves no warning.
        skipped: the notes of `unpack`. A reward file that they mention is not used.

    Returns:
        The reward. No content of the files raises an error.
    """
    txt = _read_txt(verifier_dir, skipped)
    json_ = _read_json(verifier_dir, key, skipped)
    first, second = (json_, txt) if key is not None or precedence == "json" else (txt, json_)
    used, other = (first, second) if first.present or not second.present else (second, first)
    warnings = list(json_.warnings)
    problem = used.problem
    if not used.present:
        problem = _absent(verifier_dir, skipped)
    elif used.value is None:
        if other.value is not None:
            problem = f"{used.problem}; {other.name} has {other.value:g}, but {used.name} comes first"
            if key is None:
                problem += f": set --harbor-reward-precedence={other.name.rpartition('.')[2]} to use it"
    else:
        if not 0 <= used.value <= 1:
            warnings.append(f"reward {used.value:g} of {used.name} is outside 0..1")
        stop = _stop(skipped)
        if stop is not None and not other.present:
            warnings.append(f"{other.name} may be missing: the download is incomplete ({stop})")
        if other.problem is not None and not other.only_metrics:
            warnings.append(f"{other.problem} ({used.name} is used)")
        elif other.value is not None and key is None and not _close(used.value, other.value):
            warnings.append(f"{used.name} has {used.value:g} and {other.name} has {other.value:g}: {used.name} is used")
    source = used.name if used.value is not None else None
    return Reward(used.value, json_.metrics, problem, tuple(warnings), source)


def read_bounded(path: Path, limit: int) -> tuple[bytes | None, str | None]:
    """Read a regular file of at most `limit` bytes, without following links or waiting for pipes.

    Returns:
        The content and None, or None and a description of the path ("is a directory"); both None if it is absent.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None, "is a symbolic link, which is not followed"
        return None, f"cannot be read: {os.strerror(error.errno or 0)}"
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None, "is a directory" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
        if status.st_size > limit:
            return None, f"is {size_text(status.st_size)}: too large (at most {size_text(limit)})"
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(limit), None
    except OSError as error:
        return None, f"cannot be read: {os.strerror(error.errno or 0)}"
    finally:
        os.close(descriptor)


def _read_txt(directory: Path, skipped: Sequence[str]) -> _File:
    file = _File(_TXT)
    text = _load(directory, file, skipped)
    if text is None:
        return file
    text = text.strip()
    if not text:
        file.problem = f"{_TXT} is empty; have test.sh write one number"
    elif not _NUMBER.fullmatch(text):
        file.problem = f"{_TXT} holds {_quoted(text)}, not one number; have test.sh write one number"
    elif math.isfinite(value := float(text)):
        file.value = value
    else:
        file.problem = f"{_TXT} holds {_quoted(text)}, which is not finite; have test.sh write a finite number"
    return file


def _read_json(directory: Path, key: str | None, skipped: Sequence[str]) -> _File:
    file = _File(_JSON)
    text = _load(directory, file, skipped)
    if text is None:
        return file
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        # The outermost object is finished last, so its repeated keys are the ones that remain.
        counts = Counter(name for name, _ in items)
        repeated[:] = [name for name, count in counts.items() if count > 1]
        return dict(items)

    try:
        # parse_int: an integer of thousands of digits becomes infinity, not a ValueError or a long wait.
        document = json.loads(text, object_pairs_hook=pairs, parse_int=float)
    except RecursionError:
        file.problem = f"{_JSON} is nested too deeply; have test.sh write a flat object"
    except ValueError as error:
        what = "is empty" if not text.strip() else f"is not valid JSON ({error})"
        file.problem = f'{_JSON} {what}; have test.sh write {{"reward": NUMBER}}'
    else:
        if not isinstance(document, dict):
            _take_bare(file, document, key)
        else:
            if repeated:
                file.warnings.append(f"{_JSON} has {_listed(repeated)} more than once; the last one counts")
            _take_object(file, document, key or "reward")
    return file


def _take_bare(file: _File, document: Any, key: str | None) -> None:
    value = _finite(document)
    if value is None:
        file.problem = f'{_JSON} holds {_kind(document)}; have test.sh write {{"reward": NUMBER}}'
    elif key is not None:
        file.problem = f"{_JSON} is a bare number and has no {_name(key)} key; unset --harbor-reward-key"
    else:
        file.value = value


def _take_object(file: _File, document: dict[str, Any], key: str) -> None:
    ignored = []
    for name, item in document.items():
        if name == key:
            continue
        value = _finite(item)
        if value is not None and name and name.isprintable() and len(name) <= _METRIC_CHARACTERS:
            file.metrics[name] = value
        else:
            ignored.append(name)
    if ignored:
        file.warnings.append(f"{_JSON}: ignored metric {_listed(ignored)}: not a finite number, or not a usable name")
    if key not in document:
        found = f"found: {_listed(list(document), quote=False)}" if document else "it is an empty object"
        only = f"={shlex.quote(next(iter(file.metrics)))}" if len(file.metrics) == 1 else ""
        file.problem = f"{_JSON} has no {_name(key)} key ({found}); set --harbor-reward-key{only}"
        file.only_metrics = True
        return
    file.value = _finite(document[key])
    if file.value is None:
        file.problem = f"{_name(key)} in {_JSON} is {_kind(document[key])}; have test.sh write a finite number"


def _load(directory: Path, file: _File, skipped: Sequence[str]) -> str | None:
    """Return the text of a reward file, or None after recording the problem in `file`."""
    reason = _noted(f"{directory.name}/{file.name}", skipped) or _noted(file.name, skipped, whole=True)
    if reason is not None:
        file.problem = f"{file.name} {_skip_text(reason)}"
        return None
    content, what = read_bounded(directory / file.name, _FILE_BYTES)
    if content is None:
        file.present = what is not None
        file.problem = what and f"{file.name} {what}; have test.sh write a small regular file"
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        file.problem = f"{file.name} is not UTF-8 text; have test.sh write plain text"
        return None


def _absent(directory: Path, skipped: Sequence[str]) -> str:
    reason = _noted(directory.name, skipped)
    if reason is not None:
        return f"the directory {_quoted(directory.name)} {_skip_text(reason)}, so there is no {_TXT} or {_JSON}"
    problem = f"test.sh wrote neither {_TXT} nor {_JSON}; have it write one of them to /logs/verifier"
    stop = _stop(skipped)
    return f"{problem} (the download is incomplete: {stop})" if stop else problem


def _stop(skipped: Sequence[str]) -> str | None:
    """Return why `unpack` did not read the whole archive, which is its first note, or None."""
    return skipped[0].removeprefix("archive: ") if skipped and skipped[0].startswith("archive: ") else None


def _noted(path: str, skipped: Sequence[str], *, whole: bool = False) -> str | None:
    """Return why `unpack` skipped or cut a path, given by its last components, or None."""
    for note in skipped:
        name, colon, reason = note.partition(": ")
        if colon and (name == path or (not whole and name.endswith(f"/{path}"))):
            return reason
    return None


def _skip_text(reason: str) -> str:
    if reason.startswith(("symbolic link", "hard link")):
        return f"is a {reason}, which is not followed; have test.sh write a regular file"
    if reason.startswith("cut "):
        return f"was {reason}, so that its content cannot be trusted"
    return f"was not downloaded: {reason}"


def _finite(value: Any) -> float | None:
    # json.loads returns every number as a float here, and a bool is not a float.
    return value if isinstance(value, float) and math.isfinite(value) else None


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RELATIVE_TOLERANCE, abs_tol=_ABSOLUTE_TOLERANCE)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the string {_quoted(value)}"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, float):
        return "not a number (NaN)" if math.isnan(value) else "an infinite number"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Quote untrusted text for a message: on one line, escaped and shortened."""
    return ascii(shorten(text, _SHOWN_CHARACTERS))


def _name(text: str) -> str:
    return f'"{escaped(text, _SHOWN_CHARACTERS)}"'


def _listed(names: Sequence[str], *, quote: bool = True) -> str:
    return listed([_name(name) if quote else escaped(name, _SHOWN_CHARACTERS) for name in names], _LISTED)
