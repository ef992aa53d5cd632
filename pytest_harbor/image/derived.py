"""What is built on top of a finished image: the adaptation of one that has no Dockerfile here, an agent's set-up."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pytest_harbor._util.files import file_digest
from pytest_harbor.errors import ImageError
from pytest_harbor.image.agent_files import AgentFile
from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.model import Image

# Part of every digest of a set-up: raised when how it is run changes.
VERSION = "setup-1"

_PLACE = "/.harbor-agent-setup"
_SCRIPT, _RUNNER = f"{_PLACE}/setup", f"{_PLACE}/run"
_ARCHIVE = "files.tar"
_BEGIN = "--- agent set-up ---"
_END = "--- agent set-up ended with exit code {} ---"
_SHELLS = {"sh", "bash", "dash", "ash"}
_KEPT_LINES = 10
_READ_BYTES = 256 * 1024
# What `docker buildx build --progress plain` puts before each line: the number of the step, and its time in seconds.
_STEP = re.compile(r"^#\d+ (?:\d+\.\d+ )?", re.MULTILINE)

_RUN = f"""\
cd /
echo '{_BEGIN}'
shift
if [ "$1" = shell ]; then
  shift
  if command -v bash >/dev/null 2>&1; then bash -e "$@" {_SCRIPT}; else sh -e "$@" {_SCRIPT}; fi
else
  {_SCRIPT}
fi </dev/null 2>&1
code=$?
rm -rf {_PLACE}
[ $code = 0 ] || echo "{_END.format("$code")}"
exit $code
"""


@dataclass(frozen=True)
class OnTopContext(BuildContext):
    """Adds what an adaptation adds, and nothing else.

    Attributes:
        image: the finished image.

    """

    image: Image | None = None

    @classmethod
    def of(cls, image: Image) -> OnTopContext:
        """Return the context of an image."""
        return cls(Path(image.ref), image=image)

    @contextlib.contextmanager
    def laid_out(self) -> Iterator[BuildContext]:
        """Give a directory with a Dockerfile, as long as the block lasts."""
        assert self.image is not None
        with tempfile.TemporaryDirectory(prefix="pytest-harbor-") as temporary:
            dockerfile = Path(temporary, "Dockerfile")
            dockerfile.write_text(f"# {self.image.details.id}\nFROM {self.image.ref}\n", encoding="utf-8")
            dockerfile.chmod(0o644)
            yield BuildContext(Path(temporary), adaptation=self.adaptation)

    @cached_property
    def digest(self) -> str:
        """That of the directory."""
        with self.laid_out() as context:
            return context.digest


@dataclass(frozen=True)
class SetupContext(OnTopContext):
    """Runs an agent's set-up as root in `/`, and leaves how the image starts as it was.

    Attributes:
        setup: its text: a command line, or a script.
        seen: the agent files that are there when it runs.
        fresh: makes it run though a builder may know what came of it earlier; not part of the digest.

    """

    setup: str = ""
    seen: tuple[AgentFile, ...] = ()
    fresh: str = ""

    @property
    def title(self) -> str:
        """What messages call it."""
        assert self.image is not None
        return f"the agent's set-up on {self.image.ref}"

    @contextlib.contextmanager
    def laid_out(self) -> Iterator[BuildContext]:
        """Give a directory with all of it, as long as the block lasts.

        Raises:
            ImageError: a file cannot be read.

        """
        assert self.image is not None
        with super().laid_out() as context:
            # An archive takes any name, and lets directories that are there keep their owners and modes.
            try:
                with tarfile.open(context.path / _ARCHIVE, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
                    for file in self.seen:
                        _add(archive, file)
                    _add_text(archive, _RUNNER, _RUN)
                    _add_text(archive, _SCRIPT, self.setup.replace("\r\n", "\n"))
            except OSError as error:
                raise ImageError(f"{self.title}: an agent file cannot be read: {error}") from error
            user = [] if self.image.runs_as_root else [self.image.details.user]
            how = ["shell", *shell_options(self.setup)] if runs_in_shell(self.setup) else []
            lines = [
                *("USER 0" for _ in user),
                f"ADD {_ARCHIVE} /",
                f"RUN {json.dumps(['/bin/sh', _RUNNER, self.fresh, *how])}",
                *(f"USER {name}" for name in user),
            ]
            with context.dockerfile.open("a", encoding="utf-8") as dockerfile:
                dockerfile.write("\n".join(lines) + "\n")
            yield context

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, over the image, the text, and paths, modes and contents of the files.

        Raises:
            ImageError: a file cannot be read.

        """
        assert self.image is not None
        details = self.image.details
        start = [details.id, details.entrypoint, details.workdir, details.user, sorted(details.variables.items())]
        try:
            files = [[file.target, file.mode, _content(file)] for file in self.seen]
        except OSError as error:
            raise ImageError(f"{self.title}: an agent file cannot be read: {error}") from error
        return hashlib.sha256(json.dumps([VERSION, start, self.setup, files]).encode()).hexdigest()


def _content(file: AgentFile) -> str:
    if file.mode is None:
        return os.fsencode(file.path.readlink()).hex()
    return "" if file.path.is_dir() else file_digest(file.path).hex()


def _add(archive: tarfile.TarFile, file: AgentFile) -> None:
    status = file.path.lstat()
    info = tarfile.TarInfo(file.target.lstrip("/"))
    info.mtime = int(status.st_mtime)
    if file.mode is None:
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, str(file.path.readlink())
        archive.addfile(info)
    elif file.path.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, file.mode
        archive.addfile(info)
    else:
        info.size, info.mode = status.st_size, file.mode
        with file.path.open("rb") as content:
            archive.addfile(info, content)


def _add_text(archive: tarfile.TarFile, target: str, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    info = tarfile.TarInfo(target.lstrip("/"))
    info.size, info.mode = len(data), 0o755
    archive.addfile(info, io.BytesIO(data))


def runs_in_shell(text: str) -> bool:
    """Tell whether a set-up is for a shell, and not for what its first line names."""
    words = _interpreter(text)
    return not words or PurePosixPath(words[0]).name in _SHELLS


def shell_options(text: str) -> list[str]:
    """Return the options that the first line of a shell's script gives it."""
    return _interpreter(text)[1:]


def _interpreter(text: str) -> list[str]:
    first = text.partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    if words and PurePosixPath(words[0]).name == "env":
        words = [word for word in words[1:] if word != "-S"]
    return words


def failure(log: Path | None) -> str:
    """Return how a set-up ended and the last lines of its output, from the log of its build; empty where it is silent.

    The log may be that of any builder.
    """
    if log is None:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ_BYTES))
            text = file.read(_READ_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    text = _STEP.sub("", text.replace("\r\n", "\n"))
    # A line that is this and nothing more: builders write down what they are about to run, too.
    output = re.split(rf"^{re.escape(_BEGIN)}$", text, maxsplit=1, flags=re.MULTILINE)[-1]
    end = re.search("^" + re.escape(_END).replace(r"\{\}", r"(\d+)") + "$", output, re.MULTILINE)
    if end is None:
        return ""
    lines = [line.rstrip() for line in output[: end.start()].splitlines() if line.strip()]
    said = "\n".join(lines[-_KEPT_LINES:])
    return f"it ended with exit code {end[1]}" + (f", its last words:\n{said}" if said else " and said nothing")
